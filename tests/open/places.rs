//! A folder's path leads to another folder while an engine runs: a service starts before its volume is mounted, or
//! an operator changes a link.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use doorbuster::testing::SteppedEngine;
use doorbuster::{BackupError, CloseError, Engine, OpenError};

use crate::processes::look;
use crate::samples::{ORDERS, SKU, assert_complete, fill, on_disk, order};

/// Makes an engine with orders, and closes its folder.
fn fill_folder(folder: &Path) {
    let mut engine = SteppedEngine::open(on_disk(folder)).expect("opens");
    fill(&mut engine);
    engine.close().expect("closes");
}

/// Returns every file below a folder, with the hash of its bytes.
fn tree(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(folder).expect("below").display().to_string();
            match path.is_dir() {
                true => left.push(path),
                false => {
                    let bytes = fs::read(path).expect("read");
                    found.push((name, blake3::hash(&bytes).to_string()));
                }
            }
        }
    }
    found.sort();
    found
}

fn checkpoint(engine: &mut SteppedEngine) {
    let asked = engine.checkpoint().expect("open");
    engine.run_until_idle();
    asked.wait().expect("the checkpoint is taken");
}

/// The files of this life: segments, a checkpoint, and the segments that the checkpoint releases.
fn work(engine: &mut SteppedEngine, first: u64) {
    let orders = |engine: &mut SteppedEngine, range: std::ops::Range<u64>| {
        for buyer in range {
            drop(engine.place(order(buyer)).expect("an answer"));
            engine.run_until_idle();
        }
    };
    for round in 0..3 {
        orders(engine, first + 20 * round..first + 20 * (round + 1));
        checkpoint(engine);
    }
}

fn assert_displaced(engine: SteppedEngine, path: &Path) {
    assert!(engine.stats().folder_displaced);
    match engine.close() {
        Err(error @ CloseError::Displaced { .. }) => {
            assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// The story: a service starts, then its volume is mounted over the folder. The engine still works in the folder
/// below, the volume stays as it is, and the close names what happened.
#[test]
fn a_folder_that_takes_the_place_of_the_engines_is_left_alone() {
    let all = tempfile::tempdir().expect("a folder");
    let [volume, below, data] = ["volume", "below", "data"].map(|name| all.path().join(name));
    fill_folder(&volume);
    let before = tree(&volume);
    fs::create_dir(&below).expect("made");
    symlink(&below, &data).expect("linked");
    let mut early = SteppedEngine::open(on_disk(&data)).expect("opens");
    fill(&mut early);
    assert!(!early.stats().folder_displaced);
    symlink(&volume, all.path().join("next")).expect("linked");
    fs::rename(all.path().join("next"), &data).expect("turned");

    work(&mut early, 100);
    early.backup(all.path().join("backup")).expect("backed up");
    assert_displaced(early, &data);
    assert_eq!(tree(&volume), before);
    assert_complete(&Engine::open(on_disk(&volume)).expect("opens"));
    for kept in [&below, &all.path().join("backup")] {
        let engine = Engine::open(on_disk(kept)).expect("opens");
        assert_eq!(engine.levels(SKU).expect("known").held, ORDERS as i64 + 60);
    }
}

/// The same with a folder below the engine's.
#[test]
fn a_folder_that_takes_the_place_of_one_below_the_engines_is_left_alone() {
    for name in ["log", "log/00", "checkpoints"] {
        let all = tempfile::tempdir().expect("a folder");
        let [other, data] = ["other", "data"].map(|name| all.path().join(name));
        let mut engine = SteppedEngine::open(on_disk(&other)).expect("opens");
        fill(&mut engine);
        work(&mut engine, 100);
        engine.close().expect("closes");
        let before = tree(&other);
        let mut engine = SteppedEngine::open(on_disk(&data)).expect("opens");
        fill(&mut engine);
        work(&mut engine, 100);
        fs::rename(data.join(name), all.path().join("away")).expect("moved");
        symlink(other.join(name), data.join(name)).expect("linked");
        work(&mut engine, 200);
        let levels = engine.levels(SKU);
        assert_displaced(engine, &data);
        assert_eq!(tree(&other), before, "{name}");
        fs::remove_file(data.join(name)).expect("a link");
        fs::rename(all.path().join("away"), data.join(name)).expect("moved back");
        assert_eq!(Engine::open(on_disk(&data)).expect("opens").levels(SKU), levels, "{name}");
    }
}

#[test]
fn a_folder_that_was_renamed_is_named_at_the_close_and_opens_under_its_new_name() {
    let all = tempfile::tempdir().expect("a folder");
    let [data, renamed] = ["data", "renamed"].map(|name| all.path().join(name));
    let mut engine = SteppedEngine::open(on_disk(&data)).expect("opens");
    fs::rename(&data, &renamed).expect("renamed");
    fill(&mut engine);
    checkpoint(&mut engine);
    assert_displaced(engine, &data);
    assert!(!data.exists(), "nothing was made again");
    assert_complete(&Engine::open(on_disk(&renamed)).expect("opens"));
}

/// The engine can make the checkpoints' folder again. So if an operator removed it, that costs a checkpoint and no
/// more.
#[test]
fn a_folder_of_checkpoints_that_was_removed_is_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = SteppedEngine::open(on_disk(folder.path())).expect("opens");
    fill(&mut engine);
    for _ in 0..3 {
        checkpoint(&mut engine);
        fs::remove_dir_all(folder.path().join("checkpoints")).expect("removed");
    }
    checkpoint(&mut engine);
    engine.close().expect("closes");
    assert_complete(&Engine::open(on_disk(folder.path())).expect("opens"));
}

/// The story: the volume is mounted while the service reads the folder below.
#[test]
fn a_path_that_comes_to_lead_elsewhere_during_an_open_is_named() {
    let all = tempfile::tempdir().expect("a folder");
    let [data, away] = ["data", "away"].map(|name| all.path().join(name));
    fill_folder(&data);
    let (from, to, moved) = (data.clone(), away.clone(), Arc::new(AtomicBool::new(false)));
    let options = on_disk(&data).on_recovery(move |_| {
        if !moved.swap(true, Ordering::Relaxed) {
            fs::rename(&from, &to).expect("moved");
            fs::create_dir(&from).expect("made");
        }
    });
    match Engine::open(options) {
        Err(OpenError::Displaced { path }) => assert_eq!(path, data),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_dir(&data).expect("there").count(), 0, "nothing was put into it");
    assert_complete(&Engine::open(on_disk(&away)).expect("opens"));
}

fn assert_in_use(path: &Path) {
    match Engine::open(on_disk(path)) {
        Err(OpenError::InUse { path: named }) => assert_eq!(named, path),
        other => panic!("{}: {other:?}", path.display()),
    }
}

/// The story: an operator removes the lock file, and a second service starts. One unit would be sold twice.
#[test]
fn a_folder_in_use_stays_in_use_whatever_becomes_of_its_lock_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let lock = folder.path().join("LOCK");
    let mut engine = SteppedEngine::open(on_disk(folder.path())).expect("opens");
    fs::remove_file(&lock).expect("there");
    assert_in_use(folder.path());
    fs::write(&lock, b"another file").expect("written");
    assert_in_use(folder.path());
    fs::remove_file(&lock).expect("there");
    fs::create_dir(&lock).expect("made");
    assert_in_use(folder.path());
    fs::remove_dir(&lock).expect("empty");
    assert_eq!(look(folder.path(), false).expect("a child"), in_use(folder.path()));
    fill(&mut engine);
    engine.close().expect("closes");
    assert_complete(&Engine::open(on_disk(folder.path())).expect("opens"));
}

/// By every path it is the same folder.
#[test]
fn a_folder_in_use_is_in_use_under_every_path() {
    let all = tempfile::tempdir().expect("a folder");
    let [data, link, renamed] = ["data", "link", "renamed"].map(|name| all.path().join(name));
    let engine = Engine::open(on_disk(&data)).expect("opens");
    symlink(&data, &link).expect("linked");
    assert_in_use(&link);
    assert_in_use(&data.join("log/../../data"));
    fs::rename(&data, &renamed).expect("renamed");
    fs::remove_file(renamed.join("LOCK")).expect("there");
    assert_in_use(&renamed);
    assert_eq!(look(&renamed, false).expect("a child"), in_use(&renamed));
    // Another folder has the name now, and it is free.
    let other = Engine::open(on_disk(&data)).expect("opens");
    other.close().expect("closes");
    assert!(matches!(engine.close(), Err(CloseError::Displaced { .. })));
    let engine = Engine::open(on_disk(&renamed)).expect("opens");
    engine.close().expect("closes");
}

fn in_use(path: &Path) -> String {
    format!("in use: {}", path.display())
}

/// The story: a nightly job is configured to write its backup into the data folder. The engine would not open any
/// more.
#[test]
fn a_backup_into_the_engines_own_folder_is_refused() {
    let all = tempfile::tempdir().expect("a folder");
    let all = all.path().canonicalize().expect("there");
    let [data, link] = ["data", "link"].map(|name| all.join(name));
    let mut engine = SteppedEngine::open(on_disk(&data)).expect("opens");
    fill(&mut engine);
    checkpoint(&mut engine);
    symlink(data.join("log"), &link).expect("linked");
    let before = tree(&data);
    let working = std::env::current_dir().expect("there");
    let up: PathBuf = working.components().skip(1).map(|_| "..").collect();
    let relative = up.join(data.strip_prefix("/").expect("absolute")).join("monday");
    let inside = [
        data.clone(),
        data.join("backups/monday"),
        data.join("log"),
        data.join("log/monday"),
        data.join("log/00"),
        data.join("log/00/monday"),
        data.join("checkpoints/monday"),
        data.join("log/../monday"),
        all.join("missing/../data/monday"),
        link.join("monday"),
        link.join("../monday"),
        relative,
    ];
    for path in inside {
        match engine.backup(&path) {
            Err(error @ BackupError::Inside { .. }) => {
                assert!(error.to_string().contains(&data.display().to_string()), "{error}");
            }
            other => panic!("{}: {other:?}", path.display()),
        }
        assert_eq!(tree(&data), before, "{}", path.display());
    }
    engine.backup(all.join("data-monday")).expect("beside it");
    engine.backup(data.join("../backups/monday")).expect("beside it");
    engine.close().expect("closes");
    for path in [data, all.join("data-monday"), all.join("backups/monday")] {
        assert_complete(&Engine::open(on_disk(&path)).expect("opens"));
    }
}
