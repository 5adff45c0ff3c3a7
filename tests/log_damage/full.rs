//! A full disk: the engine refuses new orders, and live orders can end.

use std::sync::Arc;

use doorbuster::testing::{ManualClock, MemoryStorage, Step, SteppedEngine};
use doorbuster::{Adjust, OpenError, Order, OrderId, PlaceError, Placed, StockError, Unavailable};

use crate::books::{SEGMENT_BYTES, SHARDS, open};
use crate::murmur::murmur_finaliser;

struct Sale {
    storage: MemoryStorage,
    clock: Arc<ManualClock>,
    engine: SteppedEngine,
    orders: Vec<OrderId>,
}

/// A sale with `orders` live orders on a disk without room for another segment.
fn full_disk(orders: u64) -> Sale {
    let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
    let mut engine = open(&storage, &clock).expect("new");
    let added = engine.stock(1, Adjust::add(10_000).key(1)).expect("there is room");
    engine.run_until_idle();
    assert!(added.is_durable());
    let place = |buyer: u64| {
        let placed = engine.place(Order::new(buyer, 1).line(1, 1)).expect("there is room");
        placed.peek().and_then(Placed::held).expect("held").order
    };
    let orders = (0..orders).map(place).collect();
    engine.run_until_idle();
    storage.set_capacity_bytes(Some(used_bytes(&storage) + SEGMENT_BYTES / 2));
    // The spares are used up, so that every shard lacks its next segment.
    for shard in 0..SHARDS {
        let home = (1..).find(|sku| home_of(*sku) == shard).expect("one");
        for key in 10.. {
            match engine.stock(home, Adjust::add(1).key(key)) {
                Ok(added) => drop(added),
                Err(StockError::Unavailable(Unavailable::DiskFull { segment_bytes })) => {
                    assert_eq!(segment_bytes, SEGMENT_BYTES);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(engine.step_writer(shard), Step::Wrote, "the active segment has room");
            engine.step_segments();
        }
    }
    Sale { storage, clock, engine, orders }
}

/// The shard of a SKU's own records, as the log fixes it.
fn home_of(sku: u64) -> usize {
    (murmur_finaliser(sku) % SHARDS as u64) as usize
}

fn new_order(buyer: u64) -> Order {
    Order::new(buyer, 7).line(1, 1)
}

/// The story: the disk fills up in the middle of a sale. New orders would take the room that buyers need to pay for
/// the orders that they hold.
#[test]
fn a_full_disk_refuses_what_is_new_and_lets_orders_end() {
    let mut sale = full_disk(40);
    for buyer in 1_000..1_020 {
        let placed = sale.engine.place(new_order(buyer));
        assert!(
            matches!(placed, Err(PlaceError::Unavailable(Unavailable::DiskFull { .. }))),
            "{placed:?}"
        );
    }
    // A key that has an order is answered with that order, even on a full disk.
    let again = sale.engine.place(Order::new(0, 1).line(1, 1)).expect("answered");
    assert!(again.peek().and_then(Placed::held).is_some_and(|held| held.replayed));

    let confirmed: Vec<_> = sale
        .orders
        .iter()
        .map(|order| sale.engine.confirm(*order).expect("room was kept"))
        .collect();
    sale.engine.run_until_idle();
    assert!(confirmed.iter().all(|commit| commit.is_durable()));
    let ended: Vec<_> = sale
        .orders
        .iter()
        .enumerate()
        .map(|(nth, order)| match nth % 2 {
            0 => sale.engine.cancel(*order).expect("room was kept"),
            _ => sale.engine.fulfil(*order).expect("room was kept"),
        })
        .collect();
    sale.engine.run_until_idle();
    assert!(ended.iter().all(|commit| commit.is_durable()));

    // An operator makes room.
    sale.storage.set_capacity_bytes(None);
    sale.engine.step_segments();
    let placed = sale.engine.place(new_order(1_000)).expect("there is room");
    sale.engine.run_until_idle();
    assert!(placed.is_durable());
    sale.engine.close().expect("closed");
}

/// The story: as before, and buyers pay one after the other, each payment written at once. The engine has promised
/// every one of them that the ending of their order has room.
#[test]
fn a_full_disk_has_room_for_every_ending_one_at_a_time() {
    let mut sale = full_disk(40);
    for (nth, order) in sale.orders.iter().enumerate() {
        for end in [false, true] {
            let commit = match end {
                false => sale.engine.confirm(*order),
                true => sale.engine.fulfil(*order),
            };
            let commit = commit.expect("room was kept");
            let steps: Vec<Step> =
                (0..SHARDS).map(|shard| sale.engine.step_writer(shard)).collect();
            assert!(commit.is_durable(), "ending {nth} of {}: {steps:?}", sale.orders.len());
        }
    }
}

/// The story: the disk fills up before the engine has looked whether it could make another segment, so that a
/// request cannot be written. A caller that waits is answered when there is room. A close that cannot write the
/// request returns an error.
#[test]
fn what_waits_for_room_is_written_when_there_is_some_and_a_close_without_is_an_error() {
    for makes_room in [true, false] {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let mut engine = open(&storage, &clock).expect("new");
        storage.set_capacity_bytes(Some(used_bytes(&storage)));
        let mut added = 0;
        let waiting = loop {
            let commit =
                engine.stock(1, Adjust::add(1).key(added)).expect("the engine has not looked yet");
            if engine.step_writer(home_of(1)) == Step::Full {
                break commit;
            }
            assert!(commit.is_durable());
            added += 1;
        };
        assert!(!waiting.is_durable());
        if makes_room {
            storage.set_capacity_bytes(None);
            engine.run_until_idle();
            assert!(waiting.is_durable());
            engine.close().expect("closed");
        } else {
            // The close's manifest alone would fit.
            storage.set_capacity_bytes(Some(used_bytes(&storage) + SEGMENT_BYTES / 2));
            engine.close().expect_err("the request is not durable");
            waiting.wait().expect_err("never durable");
            storage.set_capacity_bytes(None);
        }
        let engine = open(&storage, &clock).expect("nothing is damaged");
        let levels = engine.levels(1).expect("known");
        assert_eq!(levels.stocked, added as i64 + i64::from(makes_room));
    }
}

fn used_bytes(storage: &MemoryStorage) -> u64 {
    let len = |path: &String| storage.read_file(path).expect("listed").len() as u64;
    storage.list_files().iter().map(len).sum()
}

/// The story: the machine restarts while the disk is full.
#[test]
fn an_open_without_room_for_its_manifest_is_a_named_error_and_loses_nothing() {
    let sale = full_disk(8);
    drop(sale.engine);
    let storage = sale.storage.kill();
    storage.set_capacity_bytes(Some(0));
    let refused = open(&storage, &sale.clock);
    assert!(
        matches!(&refused, Err(OpenError::DiskFull { path, .. }) if path.starts_with("memory")),
        "{refused:?}"
    );
    storage.set_capacity_bytes(None);
    let engine = open(&storage, &sale.clock).expect("room again");
    assert!(sale.orders.iter().all(|order| engine.order(*order).is_ok_and(|it| it.durable)));
}
