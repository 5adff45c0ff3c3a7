//! A forked child of the process that opened an engine has a copy of its memory, and none of its threads.
//!
//! The test forks a process of its own: this test binary, started again with an environment variable that says what
//! to do.
#![allow(unsafe_code, reason = "no crate has a safe fork, and the test needs one")]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};

use doorbuster::{Adjust, CloseError, CommitError, Engine, Order, Placed, Unavailable};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::samples::on_disk;

// SAFETY: these are the C library's, declared as it does. None of them takes a pointer. The process that forks
// does nothing else meanwhile but park its engine's threads.
unsafe extern "C" {
    safe fn fork() -> i32;
    safe fn alarm(seconds: u32) -> u32;
    safe fn _exit(status: i32) -> !;
}

const FOLDER: &str = "DOORBUSTER_FORK_FOLDER";
/// This signal ends a child that hangs, and then the test fails.
const HANGS_S: u32 = 60;

#[test]
fn a_forked_child_receives_an_error_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "--ignored", "--nocapture", "forks::act"])
        .env(FOLDER, folder.path())
        .output()
        .expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let engine = Engine::open(on_disk(folder.path())).expect("opens");
    assert_eq!(engine.stats().orders, 2, "the parent's two, and none of the child's");
}

#[test]
#[ignore = "the part of a process of its own; the other test starts it"]
fn act() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let engine = Engine::open(on_disk(Path::new(&folder))).expect("opens");
    let _ = engine.stock(1, Adjust::add(9).key(1)).expect("there is room").wait().expect("durable");
    let place = |buyer: u64| engine.place(Order::new(buyer, 1).line(1, 1)).expect("there is room");
    assert!(matches!(place(1).wait(), Ok(Placed::Held(_))));
    let child = fork();
    if child == 0 {
        alarm(HANGS_S);
        let done = catch_unwind(AssertUnwindSafe(|| in_the_child(engine, folder.as_ref())));
        _exit(i32::from(done.is_err()));
    }
    let child = Pid::from_raw(child).expect("a child");
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).expect("waits").expect("ended");
    assert_eq!(status.exit_status(), Some(0), "{status:?}");
    assert!(matches!(place(3).wait(), Ok(Placed::Held(_))), "the parent's engine still works");
    engine.close().expect("closes");
}

fn in_the_child(engine: Engine, folder: &Path) {
    let place = || engine.place(Order::new(2_u64, 1).line(1, 1)).expect("it is not logged yet");
    assert_eq!(place().wait(), Err(CommitError::Forked));
    let polled = Pin::new(&mut place()).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(Err(CommitError::Forked)));
    assert_eq!(engine.checkpoint().map(drop), Err(Unavailable::Forked));
    let backup = engine.backup(folder.join("backup"));
    assert!(matches!(
        backup.map(drop),
        Err(doorbuster::BackupError::Unavailable(Unavailable::Forked))
    ));
    assert_eq!(engine.close(), Err(CloseError::Forked));
    drop(engine);
}
