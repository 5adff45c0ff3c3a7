//! Scans beside threads that place orders and see them leave memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use doorbuster::{Adjust, Durability, Engine, Options, Order, Placed, RequestKey};

use crate::shop::SKU;

const CALLERS: u64 = 2;
const ORDERS: u64 = 6_000;
/// Buyers that each hold an order that stays.
const BUYERS: u64 = 1_000;

fn open(folder: &std::path::Path) -> Engine {
    let options = Options::new(folder)
        .durability(Durability::Written)
        .partitions(2)
        .segment_bytes(8 << 20)
        .retention(Duration::from_millis(1));
    let engine = Engine::open(options).expect("opens");
    engine
        .stock(SKU, Adjust::add(1_000_000).key(1))
        .expect("there is room")
        .wait()
        .expect("durable");
    engine
}

fn order(buyer: u64, nth: u64) -> Order {
    Order::new(buyer, RequestKey::new(u128::from(nth))).line(SKU, 1)
}

/// Places and cancels orders: one in eight stays, the others leave memory within a moment.
fn trade(engine: &Engine, caller: u64, placed: &AtomicU64) {
    for nth in 1..=ORDERS {
        let commit =
            engine.place(order(caller * BUYERS + nth % BUYERS, nth)).expect("there is room");
        let held = commit.peek().and_then(Placed::held).expect("held").order;
        if nth % 8 > 0 {
            drop(engine.cancel(held).expect("held"));
        }
        if nth % 64 == 0 {
            drop(commit.wait().expect("durable"));
        }
        placed.fetch_add(1, Ordering::Release);
    }
}

#[test]
fn scans_beside_a_sale_return_each_order_that_stays_exactly_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(folder.path());
    let mut stay = BTreeMap::new();
    for buyer in 0..BUYERS {
        let placed = engine.place(order(buyer, 0)).expect("there is room");
        stay.insert(placed.peek().and_then(Placed::held).expect("held").order, 0_u64);
    }
    let placed = AtomicU64::new(0);
    let mut scans = 0;
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (engine, placed) = (&engine, &placed);
            scope.spawn(move || trade(engine, caller, placed));
        }
        loop {
            let is_last = placed.load(Ordering::Acquire) == CALLERS * ORDERS;
            scans += 1;
            let mut last = None;
            for view in engine.orders(None) {
                let place = (view.order.get() % 1024, view.order.get());
                assert!(last < Some(place), "{} came again", view.order);
                last = Some(place);
                stay.entry(view.order).and_modify(|times| *times += 1);
            }
            assert!(stay.values().all(|times| *times == scans), "scan {scans} lacked one");
            if is_last {
                break;
            }
        }
    });
    engine.close().expect("nothing fails");
}
