//! Order ids: how far they jump, and that no id is given out twice while the engine reserves more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use doorbuster::error::{Capacity, PlaceError, Unavailable};
use doorbuster::testing::{Fault, ManualClock, MemoryStorage, SteppedEngine, reserve_order_ids};
use doorbuster::{Adjust, Engine, Options, Order, OrderId, Placed};

use crate::samples::{SKU, small};

/// Ids of a partition that are reserved at a time.
const RESERVED: u64 = 4;

fn options(storage: &MemoryStorage) -> Options {
    let options = Options::on_storage(Arc::new(storage.clone()));
    small(options).clock(Arc::new(ManualClock::default())).partitions(2).log_shards(1)
}

fn few(storage: &MemoryStorage) -> Options {
    reserve_order_ids(options(storage), RESERVED)
}

fn stocked(options: Options) -> SteppedEngine {
    let mut engine = SteppedEngine::open(options).expect("opens");
    drop(engine.stock(SKU, Adjust::add(1_000_000).key(1)).expect("accepted"));
    engine.run_until_idle();
    engine
}

fn order(buyer: u64) -> Order {
    Order::new(buyer, 1).line(SKU, 1)
}

/// Returns the id of a new buyer's order, or `None` when all reserved ids are used.
fn give(engine: &Engine, buyer: u64) -> Option<OrderId> {
    match engine.place(order(buyer)) {
        Ok(placed) => Some(placed.peek().and_then(Placed::held).expect("there is enough").order),
        Err(PlaceError::Unavailable(Unavailable::AtCapacity {
            what: Capacity::OrderIds, ..
        })) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The story: a service is restarted by `kill -9` at every deployment, for years. Its ids stay numbers that
/// JavaScript does not round.
#[test]
fn ten_thousand_unclean_stops_stay_below_two_to_the_53() {
    const STOPS: u64 = 60;
    let mut storage = MemoryStorage::new();
    drop(stocked(options(&storage)));
    let mut given = Vec::new();
    for life in 0..STOPS {
        storage = storage.kill();
        let engine = SteppedEngine::open(options(&storage)).expect("opens");
        given.push(give(&engine, life % 2).expect("one of a million"));
        // Half of the lives end before anything is durable, and their ids must not come back.
    }
    assert!(given.is_sorted_by(|a, b| a < b), "{given:?}");
    let jumped = given[STOPS as usize - 1].get() - given[0].get();
    assert!(jumped / (STOPS - 1) * 10_000 < 1 << 53, "{jumped} in {STOPS} stops");
}

/// The story: the machine stops, or the process is killed, in any call to the disk while orders are placed and more
/// ids are reserved. No later life uses an id that an earlier one used, durably or not.
#[test]
fn a_crash_in_any_call_while_ids_are_reserved_gives_none_twice() {
    for calls in 0.. {
        let storage = MemoryStorage::new();
        let mut engine = stocked(few(&storage));
        let (stopped, seen) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
        let tell = stopped.clone();
        storage.set_fault_hook(Some(Arc::new(move |call| {
            let is_it = call.operation.is_change() && seen.fetch_add(1, Ordering::Relaxed) == calls;
            if !is_it {
                return Fault::None;
            }
            tell.store(true, Ordering::Relaxed);
            Fault::Crash
        })));
        let mut given = BTreeSet::new();
        for buyer in 0..30 {
            engine.step_segments();
            if buyer % 3 == 0 {
                engine.step_writer(0);
            }
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let order = give(&engine, buyer).expect("more were reserved in time");
            assert!(given.insert(order), "{order} was given before");
        }
        if !stopped.load(Ordering::Relaxed) {
            assert!(calls > 30, "only {calls} calls could be cut short");
            assert!(engine.stats().order_ids_reserved >= 4);
            return;
        }
        // What a crash may keep of what was not durable: all of it, none of it, every other piece.
        let mut nth = 0;
        let images = [
            storage.deep_copy().kill(),
            storage.deep_copy().crash(&mut |_| 0),
            storage.deep_copy().crash(&mut |_| 1),
            storage.deep_copy().crash(&mut |below| {
                nth += 1;
                nth % below
            }),
        ];
        for (image, left) in images.into_iter().enumerate() {
            let mut given = given.clone();
            let mut engine = SteppedEngine::open(few(&left)).expect("nothing is damaged");
            for buyer in 100..110 {
                let order = give(&engine, buyer).expect("more were reserved in time");
                let what = format!("stopped in call {calls}, image {image}");
                assert!(given.insert(order), "{what}: {order} was given before");
                engine.step_segments();
            }
        }
    }
}

/// The story: the disk fails once while the manifest is replaced. Nothing that was acknowledged rests on that
/// write, so the log is not latched, and the engine tries again. Until then it can only use the ids that were
/// reserved.
#[test]
fn a_reservation_that_fails_is_tried_again_and_never_overrun() {
    for operation in ["Create", "WriteDurable", "Rename", "SyncFolder"] {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let mut engine = stocked(few(&storage).clock(clock.clone()));
        storage.set_fault_hook(Some(Arc::new(move |call| {
            let is_manifest = call.path.starts_with("MANIFEST") || call.path.is_empty();
            match is_manifest && format!("{:?}", call.operation) == operation {
                true => Fault::Error(std::io::ErrorKind::Other),
                false => Fault::None,
            }
        })));
        let mut given = BTreeSet::new();
        for buyer in 0..40 {
            given.extend(give(&engine, buyer));
            engine.run_until_idle();
        }
        assert_eq!(given.len() as u64, 2 * RESERVED, "{operation}: of two partitions");
        let failed = engine.stats().order_id_reservations_failed;
        assert!(failed > 0, "{operation}");
        // The engine waits between two attempts, so that it does not load a failing disk.
        assert!(failed < 3, "{operation}: {failed} tries within no time");
        storage.set_fault_hook(None);
        clock.advance(Duration::from_secs(1));
        for buyer in 100..140 {
            engine.run_until_idle();
            assert!(given.insert(give(&engine, buyer).expect("reserved by now")), "{operation}");
        }
        assert!(engine.checkpoint().is_ok(), "{operation}: not latched");
    }
}

#[test]
fn no_request_waits_for_a_reservation() {
    let storage = MemoryStorage::new();
    let engine = stocked(few(&storage));
    let calls = storage.calls();
    let given = (0..40).filter_map(|buyer| give(&engine, buyer)).count() as u64;
    assert_eq!(given, 2 * RESERVED);
    assert_eq!(storage.calls(), calls, "a request called the disk");
}

#[test]
fn a_clean_close_gives_back_what_was_reserved() {
    let storage = MemoryStorage::new();
    let mut engine = stocked(few(&storage).partitions(1));
    let mut last = give(&engine, 0).expect("reserved");
    for buyer in 1..20 {
        engine.run_until_idle();
        last = give(&engine, buyer).expect("reserved");
    }
    engine.close().expect("closes");
    let engine = SteppedEngine::open(few(&storage).partitions(1)).expect("opens");
    let next = give(&engine, 100).expect("reserved");
    assert_eq!(next.get() - last.get(), 1 << 10, "the next sequence of the only partition");
}

/// Ids that an engine used after a backup was made are not used again by an engine that opens the backup.
#[test]
fn a_backup_gives_no_id_that_its_engine_gives_later() {
    let (storage, copy) = (MemoryStorage::new(), MemoryStorage::new());
    let mut engine = stocked(few(&storage));
    engine
        .backup_to(&(Arc::new(copy.clone()) as Arc<dyn doorbuster::storage::Storage>))
        .expect("made");
    let mut given = BTreeSet::new();
    for buyer in 0..40 {
        engine.run_until_idle();
        assert!(given.insert(give(&engine, buyer).expect("reserved")));
    }
    let restored = SteppedEngine::open(few(&copy)).expect("opens");
    let order = give(&restored, 100).expect("reserved");
    assert!(given.insert(order), "{order} was given before");
}

/// A thread of the engine reserves more ids while orders are placed. Each id is used once.
#[test]
fn threads_that_place_orders_find_ids_reserved() {
    const THREADS: u64 = 3;
    const ORDERS: u64 = 400;
    let storage = MemoryStorage::new();
    let engine = Engine::open(reserve_order_ids(options(&storage), 64)).expect("opens");
    engine
        .stock(SKU, Adjust::add(1_000_000).key(1))
        .expect("there is room")
        .wait()
        .expect("durable");
    let place = |thread: u64| -> Vec<OrderId> {
        (0..ORDERS)
            .map(|nth| {
                loop {
                    match give(&engine, thread * ORDERS + nth) {
                        Some(order) => return order,
                        None => std::thread::yield_now(),
                    }
                }
            })
            .collect()
    };
    let given: Vec<OrderId> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|it| scope.spawn(move || place(it))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let distinct: BTreeSet<_> = given.iter().collect();
    assert_eq!(distinct.len() as u64, THREADS * ORDERS);
    assert!(engine.stats().order_ids_reserved > 0);
    engine.close().expect("closes");
}
