//! Closing, dropping and reopening; several engines at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use doorbuster::error::{OrderError, PlaceError, Unavailable};
use doorbuster::testing::MemoryStorage;
use doorbuster::{Adjust, Durability, Engine, OpenError, Order, OrderState, RequestKey};

use crate::samples::{SKU, in_memory, on_disk, order};

fn held(engine: &Engine, buyer: u64) -> doorbuster::Held {
    let placed = engine.place(order(buyer)).expect("an answer").wait().expect("durable");
    *placed.held().unwrap_or_else(|| panic!("held, not {placed:?}"))
}

#[test]
fn a_closed_engine_refuses_verbs_reads_on_and_opens_again() {
    let folder = tempfile::tempdir().expect("a folder");
    for durability in [Durability::Written, Durability::Synced] {
        let path = folder.path().join(format!("{durability:?}"));
        let options = || on_disk(&path).durability(durability);
        let engine = Engine::open(options()).expect("opens");
        let _ = engine.stock(SKU, Adjust::add(100).key(1)).expect("accepted").wait();
        let confirmed = held(&engine, 1).order;
        // The test does not wait for this commit: the close makes it durable.
        let placed = engine.place(order(2)).expect("an answer");
        let sold = engine.confirm(confirmed).expect("known");
        assert!(matches!(Engine::open(options()), Err(OpenError::InUse { path: p }) if p == path));
        engine.close().expect("closes");
        engine.close().expect("closes again");
        assert!(placed.wait().is_ok() && sold.wait().is_ok());

        let closed = Unavailable::Closed;
        let refused = engine.place(order(3)).expect_err("closed");
        assert_eq!(refused, PlaceError::Unavailable(closed.clone()));
        let refused = engine.cancel(confirmed).expect_err("closed");
        assert_eq!(refused, OrderError::Unavailable(closed));
        assert_eq!(engine.order(confirmed).expect("reads").state, OrderState::Confirmed);
        assert_eq!(engine.levels(SKU).map(|levels| (levels.held, levels.sold)), Some((1, 1)));

        let again = Engine::open(options()).expect("while the closed one is still there");
        assert_eq!(again.recovery().torn_shards, 0);
        assert_eq!(again.levels(SKU), engine.levels(SKU));
        assert!(held(&again, 2).replayed);
        assert!(!held(&again, 3).replayed);
        drop(engine);
        assert!(matches!(Engine::open(options()), Err(OpenError::InUse { .. })));
    }
}

#[test]
fn the_last_handle_closes_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(on_disk(folder.path())).expect("opens");
    let _ = engine.stock(SKU, Adjust::add(1_000).key(1)).expect("accepted").wait();
    let clones: Vec<Engine> = (0..4).map(|_| engine.clone()).collect();
    drop(engine);
    for (nth, clone) in clones.into_iter().enumerate() {
        assert!(matches!(Engine::open(on_disk(folder.path())), Err(OpenError::InUse { .. })));
        held(&clone, 10 + nth as u64);
        drop(clone.place(order(nth as u64)).expect("an answer"));
    }
    let engine = Engine::open(on_disk(folder.path())).expect("the last handle is gone");
    for nth in 0..4 {
        assert!(held(&engine, nth).replayed, "a drop makes every request durable");
    }
}

#[test]
fn every_close_waits_until_the_engine_is_closed() {
    for _ in 0..20 {
        let storage = MemoryStorage::new();
        let engine = Engine::open(in_memory(&storage)).expect("opens");
        let _ = engine.stock(SKU, Adjust::add(1_000).key(1)).expect("accepted").wait();
        let start = Barrier::new(6);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (engine, start, storage) = (&engine, &start, &storage);
                scope.spawn(move || {
                    start.wait();
                    let placed = engine.place(order(thread));
                    engine.close().expect("closes");
                    if let Ok(placed) = placed {
                        let placed = placed.wait();
                        assert!(placed.is_ok(), "taken before the close, so durable: {placed:?}");
                    }
                    // Several may open now; one succeeds.
                    match Engine::open(in_memory(storage)) {
                        Ok(_) | Err(OpenError::InUse { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                });
            }
            for _ in 0..2 {
                let (engine, start) = (&engine, &start);
                scope.spawn(move || {
                    start.wait();
                    for sku in 1_000..1_200_u64 {
                        match engine.stock(sku, Adjust::add(1).key(1)) {
                            Ok(added) => {
                                let added = added.wait();
                                assert!(added.is_ok(), "taken before the close: {added:?}");
                            }
                            Err(_) => break,
                        }
                    }
                });
            }
        });
    }
}

/// Many threads open one folder at once, new or not. One succeeds, and the others receive the error that it is in
/// use.
#[test]
fn of_many_opens_of_a_folder_one_succeeds() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..30 {
        let path = folder.path().join(format!("{}", round % 10));
        let (start, got) = (Barrier::new(4), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    let opened = Engine::open(on_disk(&path));
                    match &opened {
                        Ok(_) => drop(got.fetch_add(1, Ordering::SeqCst)),
                        Err(OpenError::InUse { path: named }) => assert_eq!(named, &path),
                        Err(other) => panic!("round {round}: {other:?}"),
                    }
                    // No thread releases the folder before every thread has tried.
                    start.wait();
                });
            }
        });
        assert_eq!(got.load(Ordering::SeqCst), 1, "round {round}");
    }
}

#[test]
fn several_engines_in_one_process_do_not_know_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let engines: Vec<Engine> = (0..4)
        .map(|nth| Engine::open(on_disk(&folder.path().join(nth.to_string()))).expect("opens"))
        .collect();
    std::thread::scope(|scope| {
        for (nth, engine) in engines.iter().enumerate() {
            scope.spawn(move || {
                let buyers = 10 + nth as u32;
                let _ = engine.stock(SKU, Adjust::add(buyers + 1).key(1)).expect("accepted").wait();
                for buyer in 0..u64::from(buyers) {
                    assert!(!held(engine, buyer).replayed);
                }
                let levels = engine.levels(SKU).expect("known");
                assert_eq!((levels.available, levels.held), (1, i64::from(buyers)));
            });
        }
    });
    engines[0].close().expect("closes");
    let order = Order::new(1, RequestKey::new(2)).line(SKU, 1);
    assert!(engines[0].place(&order).is_err());
    assert!(engines[1].place(&order).is_ok());
}
