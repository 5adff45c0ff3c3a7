//! Wakers are foreign code: they may own commits and engines, close an engine, or panic.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use doorbuster::error::{PlaceError, Unavailable};
use doorbuster::testing::{Fault, MemoryStorage, Operation, SteppedEngine};
use doorbuster::{
    Adjust, Adjusted, Commit, Engine, Fill, Order, Placed, RequestKey, SaleRules, Switch,
};

use crate::executor::{Bell, poll};
use crate::{PATIENCE, SKU, options, order, stepped, tight};

/// A task that does nothing but own a value.
struct Owner<T>(#[allow(dead_code, reason = "it is there to be dropped")] T);

impl<T: Send + Sync> Wake for Owner<T> {
    fn wake(self: Arc<Self>) {}
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        std::panic::resume_unwind(Box::new("a task's own mistake"));
    }
}

/// No block is written while the test holds the gate. The writer reports a block before it waits.
fn writes_wait_for(storage: &MemoryStorage, gate: &Arc<Mutex<()>>) -> Receiver<()> {
    let (enter, entered) = channel();
    let gate = gate.clone();
    storage.set_fault_hook(Some(Arc::new(move |call| {
        if call.operation == Operation::WriteDurable && call.path.starts_with("log") {
            let _ = enter.send(());
            drop(gate.lock().expect("no panic"));
        }
        Fault::None
    })));
    entered
}

/// Calls this on a commit whose waker has no other owner. That waker owns another commit at the same shard.
fn last_seen_by_its_registration(end: impl FnOnce(Commit<Placed>, &Waker) + Send + 'static) {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let engine = stepped(&MemoryStorage::new(), 5);
        let (_, waker) = Bell::new();
        let mut owned = engine.place(order(1)).expect("placed");
        assert!(poll(&mut owned, &waker).is_pending());
        // Of the same buyer, so at the same shard.
        let other = Order::new(1, RequestKey::new(2)).line(SKU, 1);
        let mut commit = engine.place(&other).expect("placed");
        let first = Waker::from(Arc::new(Owner(owned)));
        assert!(poll(&mut commit, &first).is_pending());
        drop(first);
        end(commit, &waker);
        tell.send(()).expect("the test waits");
    });
    told.recv_timeout(PATIENCE).expect("the shard's waiters are locked forever");
}

/// A task's waker keeps the task alive, and the task its commits. A commit moves to another task when the first has
/// no other owner. Then the first task dies in the middle of a registration, and its own commits deregister at the
/// same shard.
#[test]
fn a_waker_that_dies_in_a_registration_may_own_a_commit() {
    last_seen_by_its_registration(|mut moved, waker| {
        assert!(poll(&mut moved, waker).is_pending());
    });
}

/// The same, when the commit that moved is dropped instead.
#[test]
fn a_waker_that_dies_with_its_commit_may_own_another() {
    last_seen_by_its_registration(|outer, _| drop(outer));
}

/// A task may own the last handle of an engine, and a task may die where its waker is called: on the thread of a
/// log writer, for which the close then waits.
#[test]
fn the_last_handle_may_be_dropped_by_a_waker() {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let storage = MemoryStorage::new();
        let engine = Engine::open(options(&storage)).expect("opens");
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().expect("no panic");
        let entered = writes_wait_for(&storage, &gate);
        let mut first = engine.stock(SKU, Adjust::add(5).key(1)).expect("accepted");
        entered.recv().expect("the writer writes");
        let second = engine.stock(SKU, Adjust::add(1).key(2)).expect("accepted");
        let owner = Arc::new(Owner(engine));
        let owned = Arc::downgrade(&owner);
        let waker = Waker::from(owner);
        assert!(poll(&mut first, &waker).is_pending());
        drop(waker);
        drop(closed);
        while owned.strong_count() > 0 {
            std::thread::yield_now();
        }
        tell.send((first.wait(), second.wait())).expect("the test waits");
    });
    let (first, second) = told.recv_timeout(PATIENCE).expect("the engine closes");
    for added in [first, second] {
        assert!(matches!(added, Ok(Adjusted::Done { .. })), "a close makes it durable: {added:?}");
    }
}

/// A waker closes the engine on a log writer's thread. A task that watches an order receives its end from that
/// writer, after the waker returned.
#[test]
fn a_close_on_a_writers_thread_wakes_every_watch() {
    struct Closer(Mutex<Option<Engine>>);
    impl Wake for Closer {
        fn wake(self: Arc<Self>) {
            let engine = self.0.lock().expect("no panic").take();
            engine.into_iter().for_each(|engine| engine.close().expect("closes"));
        }
    }
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let storage = MemoryStorage::new();
        let engine = Engine::open(options(&storage).partitions(1).log_shards(1)).expect("opens");
        drop(engine.stock(SKU, Adjust::add(1).key(1)).expect("accepted").wait());
        let rules = SaleRules::new().waiting_max(1);
        engine.rules(SKU, rules).expect("accepted").wait().expect("durable");
        drop(engine.place(order(2)).expect("holds the only unit"));
        let waits = order(1).fill(Fill::Wait { patience: PATIENCE });
        let placed = engine.place(&waits).expect("joins").wait().expect("durable");
        let Placed::Waiting(waiting) = placed else { panic!("it waits: {placed:?}") };
        let mut watch = engine.watch(waiting.order).expect("known");
        let (bell, waker) = Bell::new();
        assert!(poll(&mut watch, &waker).is_pending());
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().expect("no panic");
        let entered = writes_wait_for(&storage, &gate);
        let mut added = engine.switch(Switch::Open).expect("accepted");
        entered.recv().expect("the writer writes");
        let closer = Waker::from(Arc::new(Closer(Mutex::new(Some(engine)))));
        assert!(poll(&mut added, &closer).is_pending());
        drop(closed);
        let mut rung = 0;
        loop {
            while bell.rung() == rung {
                std::thread::yield_now();
            }
            rung = bell.rung();
            if poll(&mut watch, &waker).is_ready() {
                break;
            }
        }
        tell.send(()).expect("the test waits");
    });
    told.recv_timeout(PATIENCE).expect("the watching task is woken");
}

/// A waker closes the engine on a log writer's thread, while another close waits for that thread.
#[test]
fn a_waker_may_close_an_engine_that_is_being_closed() {
    struct Closer(Engine);
    impl Wake for Closer {
        fn wake(self: Arc<Self>) {
            let closed = PlaceError::Unavailable(Unavailable::Closed);
            while self.0.place(order(1)).err() != Some(closed.clone()) {
                std::thread::yield_now();
            }
            self.0.close().expect("the other close continues");
        }
    }
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let storage = MemoryStorage::new();
        let engine = Engine::open(options(&storage)).expect("opens");
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().expect("no panic");
        let entered = writes_wait_for(&storage, &gate);
        let mut added = engine.stock(SKU, Adjust::add(5).key(1)).expect("accepted");
        entered.recv().expect("the writer writes");
        assert!(poll(&mut added, &Waker::from(Arc::new(Closer(engine.clone())))).is_pending());
        drop(closed);
        tell.send(engine.close()).expect("the test waits");
    });
    assert_eq!(told.recv_timeout(PATIENCE).expect("both closes end"), Ok(()));
}

/// Two tasks wait for one block, and the waker of the first panics.
#[test]
fn a_waker_that_panics_harms_neither_the_others_nor_the_engine() {
    let mut engine = stepped(&MemoryStorage::new(), 5);
    let (bell, ring) = Bell::new();
    let key = |key: u128| Order::new(1, RequestKey::new(key)).line(SKU, 1);
    let mut placed: Vec<Commit<Placed>> =
        (0..4).map(|nth| engine.place(key(nth)).expect("placed")).collect();
    for (nth, commit) in placed.iter_mut().enumerate() {
        let waker = if nth % 2 == 0 { Waker::from(Arc::new(Panics)) } else { ring.clone() };
        assert!(poll(commit, &waker).is_pending());
    }
    engine.run_until_idle();
    assert_eq!(bell.rung(), 2);
    assert!(placed.iter().all(Commit::is_durable));
    drop(engine.place(key(9)).expect("the engine still works"));
}

/// The engine does not keep a task alive that no longer waits for room.
#[test]
fn a_ready_that_is_dropped_lets_its_waker_go() {
    let mut engine = SteppedEngine::open(tight(&MemoryStorage::new())).expect("opens");
    drop(engine.stock(SKU, Adjust::add(100).key(1)).expect("accepted"));
    engine.run_until_idle();
    assert_eq!((1..20).filter(|buyer| engine.place(order(*buyer)).is_ok()).count(), 8);
    let (bell, waker) = Bell::new();
    let before = Arc::strong_count(&bell);
    for _ in 0..3 {
        let mut ready = engine.ready();
        assert!(poll(&mut ready, &waker).is_pending());
        assert!(Arc::strong_count(&bell) > before);
        drop(ready);
        assert_eq!(Arc::strong_count(&bell), before);
    }
}

/// A waker closes the engine on the thread that took the checkpoint. Another waker there panics.
#[test]
fn a_waker_of_a_checkpoint_may_close_or_panic() {
    struct Closes(Engine, Sender<()>);
    impl Wake for Closes {
        fn wake(self: Arc<Self>) {
            self.0.close().expect("closes");
            self.1.send(()).expect("the test waits");
        }
    }
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let storage = MemoryStorage::new();
        let engine = Engine::open(options(&storage)).expect("opens");
        let waker = Waker::from(Arc::new(Panics));
        // It does not matter whether it is over before it is polled.
        let _ = poll(&mut engine.checkpoint().expect("open"), &waker);
        engine.checkpoint().expect("open").wait().expect("another checkpoint is taken");
        let (closed, closes) = channel();
        let waker = Waker::from(Arc::new(Closes(engine.clone(), closed)));
        let mut last = engine.checkpoint().expect("open");
        if poll(&mut last, &waker).is_ready() {
            waker.wake_by_ref();
        }
        closes.recv().expect("it closes");
        drop((waker, last));
        engine.close().expect("closed");
        drop(engine);
        tell.send(Engine::open(options(&storage)).map(drop)).expect("the test waits");
    });
    let reopened = told.recv_timeout(PATIENCE).expect("the engine closes");
    reopened.expect("the folder is free");
}
