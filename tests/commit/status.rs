//! The engine's status, and the tasks that are woken when it changes.

use std::sync::Arc;
use std::task::Poll;

use doorbuster::error::Unavailable;
use doorbuster::testing::{MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, Engine, PlaceError, Status, StatusChange};

use crate::executor::{Bell, poll};
use crate::{SKU, fail_writes_to, options, order, stepped, tight};

/// A task that waits for another status than this.
struct Task {
    change: StatusChange,
    bell: Arc<Bell>,
    waker: std::task::Waker,
}

impl Task {
    fn new(engine: &Engine, known: Status) -> Self {
        let (bell, waker) = Bell::new();
        let mut task = Self { change: engine.status_change(known), bell, waker };
        assert!(poll(&mut task.change, &task.waker).is_pending());
        task
    }

    /// Returns what the task finds after it was woken.
    fn finds(mut self) -> Status {
        assert!(self.bell.rung() > 0, "no waker was called");
        match poll(&mut self.change, &self.waker) {
            Poll::Ready(Some(status)) => status,
            other => panic!("a change, not {other:?}"),
        }
    }
}

#[test]
fn the_status_shows_a_disk_that_falls_behind_and_catches_up() {
    let mut engine = SteppedEngine::open(tight(&MemoryStorage::new())).expect("opens");
    drop(engine.stock(SKU, Adjust::add(100).key(1)).expect("accepted"));
    engine.run_until_idle();
    assert_eq!(engine.status(), Status::Serving);
    let task = Task::new(engine.engine(), Status::Serving);
    let refused = (1..).find_map(|buyer| engine.place(order(buyer)).err());
    let behind = matches!(refused, Some(PlaceError::Unavailable(Unavailable::Backlogged { .. })));
    assert!(behind, "{refused:?}");
    engine.step_timekeeper();
    assert_eq!(task.finds(), Status::Backlogged);
    let task = Task::new(engine.engine(), Status::Backlogged);
    engine.run_until_idle();
    assert_eq!(task.finds(), Status::Serving);
}

#[test]
fn the_status_shows_a_full_disk_and_new_room() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 1_000_000);
    storage.set_capacity_bytes(Some(0));
    let task = Task::new(engine.engine(), Status::Serving);
    let mut buyers = 1..;
    while engine.status() == Status::Serving {
        drop(engine.place(order(buyers.next().expect("no end"))).expect("serving"));
        engine.run_until_idle();
    }
    engine.step_timekeeper();
    assert_eq!(task.finds(), Status::DiskFull);
    let task = Task::new(engine.engine(), Status::DiskFull);
    storage.set_capacity_bytes(None);
    engine.run_until_idle();
    engine.step_timekeeper();
    assert_eq!(task.finds(), Status::Serving);
}

#[test]
fn the_status_shows_a_latch_with_its_cause_and_is_final() {
    let storage = MemoryStorage::new();
    let mut engine = stepped(&storage, 5);
    let task = Task::new(engine.engine(), Status::Serving);
    fail_writes_to(&storage, "log");
    drop(engine.place(order(1)).expect("placed"));
    engine.run_until_idle();
    engine.step_timekeeper();
    let status = task.finds();
    let Status::Latched { operation, detail } = &status else { panic!("{status:?}") };
    assert_eq!(*operation, "write or sync");
    assert!(detail.contains("log/"), "{detail}");
    assert!(status.is_final());
    assert_eq!(engine.status_change(status.clone()).wait(), None);
    engine.close().expect_err("latched");
}

/// With threads: a task waits for any change, and the engine is closed.
#[test]
fn the_status_shows_a_close_and_is_final() {
    let engine = Engine::open(options(&MemoryStorage::new())).expect("opens");
    let change = engine.status_change(engine.status());
    let waits = std::thread::spawn(move || change.wait());
    let task = Task::new(&engine, Status::Serving);
    engine.close().expect("closes");
    assert_eq!(waits.join().expect("no panic"), Some(Status::Closed));
    // The thread that wakes the task may do so after the close.
    while task.bell.rung() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(task.finds(), Status::Closed);
    assert_eq!(engine.status_change(Status::Closed).wait(), None);
}

/// A task that waits for a change does not keep the engine open, and the engine does not keep the task.
#[test]
fn a_change_that_is_dropped_lets_its_waker_go() {
    let engine = stepped(&MemoryStorage::new(), 5);
    let Task { change, bell, waker } = Task::new(engine.engine(), Status::Serving);
    drop(waker);
    assert_eq!(Arc::strong_count(&bell), 2);
    drop(change);
    assert_eq!(Arc::strong_count(&bell), 1);
}
