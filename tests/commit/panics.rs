//! One of the engine's own threads panics. No other thread can do its work, so the engine is latched and names the
//! thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use doorbuster::clock::Clock;
use doorbuster::error::{CheckpointError, CloseError, CommitError, StockError, Unavailable};
use doorbuster::testing::{Fault, ManualClock, MemoryStorage, StorageCall};
use doorbuster::{Adjust, Commit, Engine};

use crate::{SKU, options, order};

fn is_on(name: &str) -> bool {
    thread::current().name().is_some_and(|own| own.starts_with(name))
}

/// A panic whose message is not printed.
fn give_out() -> ! {
    std::panic::resume_unwind(Box::new("out of order"))
}

/// A clock that panics on one thread, after the test asks for it.
#[derive(Debug)]
struct Breaks {
    clock: ManualClock,
    thread: &'static str,
    is_broken: AtomicBool,
}

impl Clock for Breaks {
    fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    fn boot_ns(&self) -> u64 {
        if self.is_broken.load(Ordering::SeqCst) && is_on(self.thread) {
            give_out();
        }
        self.clock.boot_ns()
    }

    fn boot_id(&self) -> u64 {
        self.clock.boot_id()
    }
}

/// The engine takes no new orders, and names the thread.
fn names(engine: &Engine, thread: &str) {
    let why = loop {
        match engine.stock(SKU, Adjust::add(1).key(u128::MAX)) {
            Err(StockError::Unavailable(why)) => break why,
            // The thread has not reached its clock or its storage yet.
            _ => thread::yield_now(),
        }
    };
    let Unavailable::Latched { operation, detail } = &why else { panic!("latched, not {why:?}") };
    assert_eq!(*operation, "thread");
    assert!(detail.starts_with(thread), "{detail}");
    assert!(detail.ends_with("panicked: out of order"), "{detail}");
    let closed = engine.close();
    assert!(matches!(&closed, Err(CloseError::Latched { detail: told, .. }) if told == detail));
}

#[test]
fn a_clock_that_panics_on_an_engine_thread_latches_and_names_the_thread() {
    for name in ["dbr-time", "dbr-checkpoint", "dbr-log"] {
        let clock = Arc::new(Breaks {
            clock: ManualClock::default(),
            thread: name,
            is_broken: AtomicBool::new(false),
        });
        let options = options(&MemoryStorage::new()).clock(clock.clone());
        let engine = Engine::open(options).expect("opens");
        let added = engine.stock(SKU, Adjust::add(5).key(1)).expect("accepted").wait();
        assert!(added.is_ok(), "{added:?}");
        clock.is_broken.store(true, Ordering::SeqCst);
        if name == "dbr-log" {
            // The writer reads the clock for the block of this order.
            let placed = engine.place(order(1)).expect("an answer").wait();
            assert_eq!(placed, Err(CommitError::Unknown));
        }
        names(&engine, name);
    }
}

#[test]
fn a_storage_that_panics_on_an_engine_thread_latches_and_names_the_thread() {
    for name in ["dbr-segments", "dbr-checkpoint", "dbr-log"] {
        let storage = MemoryStorage::new();
        let engine = Engine::open(options(&storage)).expect("opens");
        storage.set_fault_hook(Some(Arc::new(move |_: &StorageCall<'_>| match is_on(name) {
            true => give_out(),
            false => Fault::None,
        })));
        if name == "dbr-checkpoint" {
            let asked = engine.checkpoint().expect("open").wait();
            assert!(
                matches!(&asked, Err(CheckpointError::Unavailable(Unavailable::Latched { .. }))),
                "{asked:?}"
            );
        }
        // Each order is a block of its own. Sooner or later a segment is full, and another one must follow.
        for key in 1_u128.. {
            match engine.stock(SKU, Adjust::add(1).key(key)).map(Commit::wait) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => assert_eq!(error, CommitError::Unknown),
                Err(_) => break,
            }
        }
        names(&engine, name);
    }
}
