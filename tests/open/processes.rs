//! Other processes: one that has the folder, one that may not read it, and children that inherit what they should
//! not.
//!
//! A child is this test binary, started again with an environment variable that says what to do.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use doorbuster::{Engine, OpenError};

use crate::samples::on_disk;

const ACT: &str = "DOORBUSTER_OPEN_ACT";
const FOLDER: &str = "DOORBUSTER_OPEN_FOLDER";
/// Far more than [`MEMORY_KIB`] holds.
const ORDERS_RESERVED: u64 = 1_000_000_000;
const MEMORY_KIB: u32 = 8 << 20;
/// Larger than any address space.
const STACK_BYTES: u64 = 1 << 47;
/// A user id that is not in use, so that it owns nothing.
const NOBODY: u32 = 65_534;

fn child(act: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", "--ignored", "--nocapture", "processes::act"])
        .env(ACT, act)
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Returns what the child wrote after `said:`.
fn said(child: &mut Child) -> String {
    let lines = BufReader::new(child.stdout.as_mut().expect("piped")).lines();
    lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("said:").map(|(_, word)| word.to_owned()))
        .unwrap_or_else(|| "nothing".into())
}

#[test]
#[ignore = "the part of a child process; the other tests start it"]
fn act() {
    let (Ok(act), Some(folder)) = (std::env::var(ACT), std::env::var_os(FOLDER)) else { return };
    let orders = if act == "reserve" { ORDERS_RESERVED } else { 0 };
    let options = on_disk(Path::new(&folder)).orders_max(ORDERS_RESERVED).orders_reserved(orders);
    let opened = Engine::open(options);
    let word = match &opened {
        Ok(_) => "opened".to_owned(),
        Err(OpenError::InUse { path }) => format!("in use: {}", path.display()),
        Err(OpenError::OutOfMemory { .. }) => "no memory".to_owned(),
        Err(OpenError::Io { operation, .. }) => format!("failed: {operation}"),
        Err(OpenError::PermissionDenied { path, .. }) => format!("denied: {}", path.display()),
        Err(other) => format!("{other:?}"),
    };
    let mut out = std::io::stdout();
    writeln!(out, "\nsaid:{word}").and_then(|()| out.flush()).expect("the parent listens");
    if act == "stay" {
        // Waits until the parent ends this process, or is gone.
        let _ = std::io::stdin().read_line(&mut String::new());
    }
}

#[test]
fn another_process_is_kept_out_and_gets_in_when_this_one_closes() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(on_disk(folder.path())).expect("opens");
    let ask = || look(folder.path(), false).expect("a child");
    assert_eq!(ask(), format!("in use: {}", folder.path().display()));
    engine.close().expect("closes");
    assert_eq!(ask(), "opened");
}

/// The story: a container may not start another thread. The open returns an error that says so.
#[test]
fn refused_threads_are_an_error_and_no_abort() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(on_disk(folder.path())).expect("opens");
    for buyer in 0..100_u64 {
        drop(engine.stock(buyer, doorbuster::Adjust::add(1).key(1)).expect("there is room"));
    }
    engine.checkpoint().expect("open").wait().expect("the checkpoint is taken");
    engine.close().expect("closes");
    drop(engine);
    let mut command = child("look", folder.path());
    // Without memory for its stack no thread starts. The test itself runs on the main thread.
    command.arg("--test-threads=1").env("RUST_MIN_STACK", STACK_BYTES.to_string());
    let mut child = command.spawn().expect("a child");
    assert_eq!(said(&mut child), "failed: start a thread for");
    assert!(child.wait().expect("ends").success(), "no panic");
    Engine::open(on_disk(folder.path())).expect("nothing was lost by it");
}

/// The story: a host reserves more than its container may have. The open returns an error that says so, before it
/// touches the folder.
#[test]
fn refused_memory_is_an_error_and_no_abort() {
    let outer = tempfile::tempdir().expect("a folder");
    let folder = outer.path().join("sale");
    let inner = child("reserve", &folder);
    let limit = format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &limit]).arg(inner.get_program()).args(inner.get_args());
    command.env(ACT, "reserve").env(FOLDER, &folder).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("a child");
    assert_eq!(said(&mut child), "no memory");
    assert!(child.wait().expect("ends").success(), "no abort");
    assert!(!folder.exists(), "nothing was made");
}

#[test]
fn a_folder_in_use_by_another_process_is_free_when_that_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = child("stay", folder.path()).spawn().expect("a child");
    assert_eq!(said(&mut child), "opened");
    match Engine::open(on_disk(folder.path())) {
        Err(OpenError::InUse { path }) => assert_eq!(path, folder.path()),
        other => panic!("{other:?}"),
    }
    child.kill().expect("kills");
    child.wait().expect("ends");
    Engine::open(on_disk(folder.path())).expect("the kernel released the lock");
}

#[test]
fn a_folder_that_one_may_not_use_is_named() {
    let outer = tempfile::tempdir().expect("a folder");
    fs::set_permissions(outer.path(), Permissions::from_mode(0o755)).expect("set");
    let folder = outer.path().join("sale");
    Engine::open(on_disk(&folder)).expect("opens").close().expect("closes");
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        // Root may do everything. So the folder belongs to an unused user, and the child that opens it is that
        // user.
        give_to_nobody(&folder);
    }
    let segment = "log/01/0000000000.segment";
    for (locked, mode) in [("", 0o500), ("", 0o000), ("LOCK", 0o400), ("MANIFEST", 0), (segment, 0)]
    {
        let locked = folder.join(locked);
        let before = fs::metadata(&locked).expect("there").permissions();
        fs::set_permissions(&locked, Permissions::from_mode(mode)).expect("set");
        let word = look(&folder, is_root);
        fs::set_permissions(&locked, before).expect("set");
        match word.as_deref().map(|word| word.strip_prefix("denied: ")) {
            Ok(Some(path)) if locked == folder => assert!(Path::new(path).starts_with(&folder)),
            Ok(Some(path)) => assert_eq!(Path::new(path), locked),
            Err(error) => {
                eprintln!(
                    "skipped: an unprivileged user may not run {:?}: {error}",
                    std::env::current_exe()
                );
                return;
            }
            Ok(None) => panic!("{}: {word:?}", locked.display()),
        }
    }
    assert_eq!(look(&folder, is_root).expect("it ran before"), "opened");
}

/// What the child reports about its open.
pub(crate) fn look(folder: &Path, as_nobody: bool) -> std::io::Result<String> {
    let mut command = child("look", folder);
    if as_nobody {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn()?;
    let word = said(&mut child);
    child.wait()?;
    Ok(word)
}

fn give_to_nobody(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).expect("given");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            give_to_nobody(&entry.expect("an entry").path());
        }
    }
}

/// A host starts programs of its own. Between the fork and the exec such a child has a copy of every descriptor.
/// That must not keep the folder locked after the engine released it.
#[test]
fn a_child_that_is_being_started_does_not_keep_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = Command::new("/bin/true").status();
                }
            });
        }
        let refused = (0..60).find_map(|round| match Engine::open(on_disk(folder.path())) {
            Ok(engine) => {
                engine.close().expect("closes");
                None
            }
            Err(error) => Some(format!("round {round}: {error}")),
        });
        stop.store(true, Ordering::Relaxed);
        assert_eq!(refused, None, "it was closed, and no other process opened it");
    });
}
