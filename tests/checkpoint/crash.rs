//! Crashes and failures in every call of a checkpoint and of recycling.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use doorbuster::testing::{CheckpointProgress, Fault};
use doorbuster::{CheckpointError, Durability};

use crate::history::{History, SHARDS};
use crate::power::{LOSSES, lose_power};
use crate::same::assert_same;

/// Checkpoints that were taken before. After 2 the next one is a new file, after 3 it is written over the first.
const TAKEN: [u64; 2] = [2, 3];

/// A history after this number of checkpoints, with segments to recycle. The next checkpoint is about to be taken.
fn about_to_checkpoint(seed: u64, durability: Durability, taken: u64) -> History {
    let mut history = History::new(seed, durability);
    for _ in 0..taken {
        history.act_for_segments(2);
        history.checkpoint_meanwhile();
    }
    (0..40).for_each(|_| history.act());
    history
}

/// Takes a checkpoint while orders are placed, then recycles what it released, until the machine stops.
fn checkpoint_and_recycle(history: &mut History, stopped: &AtomicBool) {
    let asked = history.engine().checkpoint().expect("open");
    for step in 0.. {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        if step % 3 == 0 && asked.peek().is_none() {
            history.act();
        }
        let engine = history.engine();
        let idle = engine.step_checkpointer() != CheckpointProgress::Worked;
        if idle && asked.peek().is_some() {
            break;
        }
        for shard in 0..SHARDS {
            engine.step_writer(shard);
        }
    }
    let before = history.recycled();
    while history.recycled() < before + 2 && !stopped.load(Ordering::Relaxed) {
        if catch_latched(history) {
            return;
        }
    }
}

/// Acts at random, unless the stop of the machine latched the log.
fn catch_latched(history: &mut History) -> bool {
    if history.engine().checkpoint().is_err() {
        return true;
    }
    history.act();
    false
}

#[test]
fn a_crash_in_any_call_of_a_checkpoint_or_of_recycling_loses_nothing() {
    TAKEN.into_iter().for_each(|taken| crash_in_any_call(Durability::Synced, taken));
}

#[test]
fn without_syncs_a_crash_in_any_call_of_a_checkpoint_or_of_recycling_loses_nothing() {
    TAKEN.into_iter().for_each(|taken| crash_in_any_call(Durability::Written, taken));
}

/// The story: the machine stops in any call that changes something, from the beginning of a checkpoint to the
/// recycling of what it released. Whatever the disk kept, the next open finds the state that the whole log comes
/// to. The engine then takes further checkpoints, and an open from those is right too.
fn crash_in_any_call(durability: Durability, taken: u64) {
    for calls in 0.. {
        let mut history = about_to_checkpoint(5, durability, taken);
        let (stopped, seen) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
        let tell = stopped.clone();
        history.hook(Box::new(move |operation, _| {
            if operation.is_change() && seen.fetch_add(1, Ordering::Relaxed) == calls {
                tell.store(true, Ordering::Relaxed);
                return Fault::Crash;
            }
            Fault::None
        }));
        let what = format!("{durability:?}, {taken} taken, stopped in call {calls}");
        let ran = std::panic::AssertUnwindSafe(|| checkpoint_and_recycle(&mut history, &stopped));
        if std::panic::catch_unwind(ran).is_err() {
            // The stop latched the log, so it refused a verb.
            assert!(stopped.load(Ordering::Relaxed), "{what}");
        }
        if !stopped.load(Ordering::Relaxed) {
            assert!(calls > 30, "no call was cut short");
            break;
        }
        // One mixture less, because there are many calls.
        let images: Vec<_> = LOSSES[..5]
            .iter()
            .map(|loss| lose_power(&history.storage, *loss))
            .chain([history.storage.kill()])
            .collect();
        for (nth, left) in images.into_iter().enumerate() {
            let what = format!("{what}, image {nth}");
            let used = assert_same(&history, &left, &what);
            assert!(used >= Some(taken - 1), "{what}: opened from {used:?}");
            if nth % 3 == 0 {
                go_on(&mut history, left, &what);
            }
        }
    }
}

fn go_on(history: &mut History, left: doorbuster::testing::MemoryStorage, what: &str) {
    history.engine = None;
    history.storage = left;
    history.reopen().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    for _ in 0..2 {
        history.act_for_segments(1);
        history.checkpoint_meanwhile();
    }
    let left = history.storage.kill();
    assert_same(history, &left, &format!("{what}, gone on"));
}

/// The story: any call of a checkpoint fails. The older checkpoints stay, the engine continues, and the next
/// checkpoint is taken.
#[test]
fn a_checkpoint_that_fails_is_an_error_and_the_next_one_is_taken() {
    for taken in TAKEN {
        let failing = (0..).take_while(|calls| fail_a_call(taken, *calls)).count();
        assert!(failing > 8, "no call failed");
    }
}

/// Whether a checkpoint makes this number of calls.
fn fail_a_call(taken: u64, calls: u64) -> bool {
    let mut history = about_to_checkpoint(9, Durability::Synced, taken);
    let (failed, seen) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let tell = failed.clone();
    history.hook(Box::new(move |operation, path| {
        let is_its = path.starts_with("checkpoints");
        if is_its && operation.is_change() && seen.fetch_add(1, Ordering::Relaxed) == calls {
            tell.store(true, Ordering::Relaxed);
            return Fault::Error(std::io::ErrorKind::Other);
        }
        Fault::None
    }));
    let asked = history.engine().checkpoint().expect("open");
    history.engine().run_until_idle();
    let answer = asked.wait();
    if !failed.load(Ordering::Relaxed) {
        assert!(answer.is_ok());
        return false;
    }
    if let Err(error) = &answer {
        assert!(matches!(error, CheckpointError::Failed { .. }), "call {calls}: {error:?}");
        assert_eq!(history.engine().stats().checkpoints_failed, 1);
    }
    let left = history.storage.deep_copy();
    assert_same(&history, &left, &format!("call {calls} failed"));
    let next = history.engine().checkpoint().expect("not latched");
    history.engine().run_until_idle();
    next.wait().unwrap_or_else(|error| panic!("after call {calls} failed: {error}"));
    let left = history.storage.kill();
    assert_same(&history, &left, &format!("after call {calls} failed"));
    true
}

/// The story: a disk says that it wrote or synced, and did not. Reading the file back finds out, or the checkpoint
/// is whole. What is left of the file that it is written over never counts as the new checkpoint.
#[test]
fn a_write_that_a_disk_lost_is_found_before_the_checkpoint_counts() {
    for taken in TAKEN {
        let lost = (0..).take_while(|calls| lose_writes(taken, *calls..calls + 1)).count();
        assert!(lost > 4, "no write was lost");
        assert!(lose_writes(taken, 0..u64::MAX));
    }
}

/// Whether a checkpoint makes such writes.
fn lose_writes(taken: u64, calls: std::ops::Range<u64>) -> bool {
    let mut history = about_to_checkpoint(11, Durability::Synced, taken);
    let (lost, seen) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let (tell, to_lose) = (lost.clone(), calls.clone());
    history.hook(Box::new(move |operation, path| {
        let is_write = operation == doorbuster::testing::Operation::Write;
        if path == "checkpoints/prepare"
            && is_write
            && to_lose.contains(&seen.fetch_add(1, Ordering::Relaxed))
        {
            tell.store(true, Ordering::Relaxed);
            return Fault::Lost;
        }
        Fault::None
    }));
    let asked = history.engine().checkpoint().expect("open");
    history.engine().run_until_idle();
    let answer = asked.wait();
    if !lost.load(Ordering::Relaxed) {
        assert!(answer.is_ok());
        return false;
    }
    let error = answer.expect_err("a write is missing");
    assert!(
        matches!(error, CheckpointError::Failed { operation: "reading back", .. }),
        "writes {calls:?}: {error:?}"
    );
    let left = history.storage.kill();
    assert_eq!(assert_same(&history, &left, &format!("writes {calls:?}")), Some(taken - 1));
    true
}

/// The same on a disk that has no room for one more file.
#[test]
fn a_checkpoint_is_written_over_the_one_that_was_given_up() {
    let mut history = about_to_checkpoint(13, Durability::Synced, 3);
    let lens = |history: &History| -> u64 {
        let files = history.storage.list_files().into_iter();
        files.map(|path| history.storage.read_file(&path).expect("listed").len() as u64).sum()
    };
    let before = lens(&history);
    history.storage.set_capacity_bytes(Some(before + (64 << 10)));
    let taken = history.engine().checkpoint().expect("open");
    history.engine().run_until_idle();
    assert_eq!(taken.wait().expect("there is room").number, 3);
    assert!(lens(&history) <= before + (64 << 10));
    let left = history.storage.kill();
    assert_eq!(assert_same(&history, &left, "written over"), Some(3));
}
