//! A host asks for a checkpoint.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use doorbuster::testing::{CheckpointProgress, Fault, MemoryStorage, Operation};
use doorbuster::{
    Adjust, CheckpointError, Durability, Engine, Options, Order, Placed, Unavailable,
};

use crate::history::{History, options};

/// The story: an operator takes a checkpoint before a planned restart.
#[test]
fn a_restart_after_a_checkpoint_reads_little_of_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || {
        let options = Options::new(folder.path().join("sale")).segment_bytes(1 << 20);
        Engine::open(options).expect("opens")
    };
    let engine = open();
    let _ =
        engine.stock(1, Adjust::add(1_000).key(1)).expect("there is room").wait().expect("durable");
    for buyer in 0..500_u64 {
        let _ = engine.place(Order::new(buyer, 1).line(1, 1)).expect("there is room");
    }
    let taken = engine.checkpoint().expect("open").wait().expect("the checkpoint is taken");
    assert_eq!((taken.number, taken.orders), (0, 500));
    assert_eq!(engine.stats().checkpoints, 1);
    let placed =
        engine.place(Order::new(7, 2).line(1, 1)).expect("there is room").wait().expect("durable");
    assert!(matches!(placed, Placed::Held(_)));
    engine.close().expect("closed");
    assert!(matches!(engine.checkpoint(), Err(Unavailable::Closed)));
    drop(engine);

    let engine = open();
    let report = engine.recovery();
    assert_eq!((report.checkpoint, report.checkpoint_orders), (Some(0), 500));
    assert!(report.records <= 501, "{report:?}");
    assert_eq!(engine.levels(1).map(|levels| levels.held), Some(501));
    let again = engine.place(Order::new(3, 1).line(1, 1)).expect("known").wait().expect("durable");
    assert!(matches!(again, Placed::Held(held) if held.replayed), "the keys are there: {again:?}");
}

/// The story: a caller asks while a checkpoint is being taken. The caller receives one that was begun after the
/// call.
#[test]
fn a_request_is_not_answered_by_a_checkpoint_that_was_begun_before_it() {
    let mut history = History::new(1, Durability::Synced);
    let engine = history.engine();
    let first = engine.checkpoint().expect("open");
    assert_eq!(engine.step_checkpointer(), CheckpointProgress::Worked);
    let (second, third) = (engine.checkpoint().expect("open"), engine.checkpoint().expect("open"));
    engine.run_until_idle();
    let number =
        |asked: doorbuster::Checkpointing| asked.wait().expect("the checkpoint is taken").number;
    assert_eq!((number(first), number(second), number(third)), (0, 1, 1));
    assert_eq!(engine.step_checkpointer(), CheckpointProgress::Idle);
}

#[test]
fn a_checkpoint_is_taken_when_the_log_has_grown_by_so_many_bytes() {
    let mut history = History::new(2, Durability::Synced);
    history.engine.take().expect("open").close().expect("closed");
    let few = options(&history.storage, &history.clock, Durability::Synced);
    let mut engine =
        doorbuster::testing::SteppedEngine::open(few.checkpoint_bytes(1 << 16)).expect("opens");
    let mut keys = 0..;
    let mut write = |engine: &mut doorbuster::testing::SteppedEngine, bytes: u64| {
        let before = engine.stats().block_bytes;
        while engine.stats().block_bytes < before + bytes {
            let key = 1_000_000 + keys.next().expect("endless") as u128;
            let adjust = Adjust::add(1).key(key).reference("x".repeat(2_000));
            let _ = engine.stock(1, adjust).expect("there is room");
            engine.run_until_idle();
        }
    };
    for taken in 1..4 {
        write(&mut engine, (1 << 16) + 4096);
        engine.run_until_idle();
        assert_eq!(engine.stats().checkpoints, taken);
    }
}

#[test]
fn a_wait_for_a_checkpoint_fails_with_closed_after_a_close() {
    let mut history = History::new(3, Durability::Synced);
    let asked = history.engine().checkpoint().expect("open");
    history.engine().step_checkpointer();
    let later = history.engine().checkpoint().expect("open");
    history.engine.take().expect("open").close().expect("closed");
    for asked in [asked, later] {
        let error = asked.wait().expect_err("closed");
        assert_eq!(error, CheckpointError::Unavailable(Unavailable::Closed));
    }
}

/// The story: a thread that only asked waits while the engine's own thread takes the checkpoint.
#[test]
fn a_checkpoint_is_taken_off_the_callers_thread() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options::new(folder.path().join("sale")).segment_bytes(1 << 20);
    let engine = Engine::open(options).expect("opens");
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let engine = engine.clone();
            std::thread::spawn(move || {
                engine.checkpoint().expect("open").wait().expect("the checkpoint is taken")
            })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.join().expect("no panic").orders, 0);
    }
}

/// The story: a host shows a progress bar while it restarts.
#[test]
fn progress_shows_how_far_a_recovery_is() {
    let mut history = History::new(6, Durability::Synced);
    history.act_for_segments(2);
    history.checkpoint_meanwhile();
    history.act_for_segments(1);
    history.engine().run_until_idle();
    let left = history.storage.kill();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = heard.clone();
    let options = options(&left, &history.clock, Durability::Synced)
        .on_recovery(move |progress| tell.lock().expect("no panic").push(progress));
    let report = doorbuster::testing::SteppedEngine::open(options).expect("opens").recovery();
    let heard = heard.lock().expect("no panic");
    let last = heard.last().expect("at the end at least");
    assert_eq!((last.records, last.checkpoint_orders), (report.records, report.checkpoint_orders));
    assert!(last.bytes > report.block_bytes && last.bytes <= last.bytes_max, "{last:?}");
    assert!(heard.is_sorted_by_key(|progress| progress.bytes), "{heard:?}");
}

/// The story: the thread that takes checkpoints panics while it writes one. Without checkpoints the log would grow
/// until the disk is full. So the engine reports the panic at once, and no caller waits for a checkpoint that can
/// never be taken.
#[test]
fn a_checkpointer_that_panics_latches_the_engine() {
    let storage = MemoryStorage::new();
    let options = Options::on_storage(Arc::new(storage.clone()));
    let engine = Engine::open(options.segment_bytes(1 << 20)).expect("opens");
    let _ =
        engine.stock(1, Adjust::add(1_000).key(1)).expect("there is room").wait().expect("durable");
    storage.set_fault_hook(Some(Arc::new(|call| {
        let is_its = call.operation == Operation::Write && call.path == "checkpoints/prepare";
        assert!(!is_its, "a panic that this test wants to have");
        Fault::None
    })));
    let asked = engine.checkpoint().expect("open").wait();
    let Err(CheckpointError::Unavailable(Unavailable::Latched { detail, .. })) = &asked else {
        panic!("latched, not {asked:?}")
    };
    assert!(detail.starts_with("dbr-checkpoint panicked: a panic that"), "{detail}");
    assert!(matches!(engine.checkpoint().map(drop), Err(Unavailable::Latched { .. })));
    engine.close().expect_err("latched");
}

/// The story: a checkpoint fails, and the waker of the caller closes the engine and opens the folder again. Nothing
/// that the old engine still does may reach the files of the new one.
#[test]
fn a_failed_checkpoint_is_answered_after_its_last_call_to_the_disk() {
    struct Note(MemoryStorage, AtomicU64);
    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.calls(), Ordering::Relaxed);
        }
    }
    let mut history = History::new(3, Durability::Synced);
    history.engine().run_until_idle();
    let note = Arc::new(Note(history.storage.clone(), AtomicU64::new(0)));
    let mut asked = pin!(history.engine().checkpoint().expect("open"));
    let waker = Waker::from(note.clone());
    assert!(asked.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    history.hook(Box::new(|operation, path| {
        let is_written = operation == Operation::Write && path.starts_with("checkpoints/");
        if is_written { Fault::Error(std::io::ErrorKind::Other) } else { Fault::None }
    }));
    while asked.peek().is_none() {
        history.engine().step_checkpointer();
    }
    assert!(matches!(asked.peek(), Some(Err(CheckpointError::Failed { .. }))));
    assert_eq!(note.1.load(Ordering::Relaxed), history.storage.calls());
}
