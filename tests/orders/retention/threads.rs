//! The engine with its own threads: orders leave while others are placed.

use std::time::Duration;

use doorbuster::{
    Adjust, Durability, Engine, Options, Order, OrderError, RequestKey, SaleRules, SkuId,
};

const SKU: SkuId = SkuId::new(1);
const OTHER: SkuId = SkuId::new(2);
const CALLERS: u64 = 2;
const ORDERS: u64 = 10_000;
const BUYERS: u64 = 50;

fn options(folder: &std::path::Path) -> Options {
    Options::new(folder)
        .durability(Durability::Written)
        .partitions(4)
        .segment_bytes(8 << 20)
        .retention(Duration::from_millis(1))
}

/// Places one caller's orders, and fulfils each. The order before is there, or has left.
fn sell(engine: &Engine, caller: u64) {
    let mut before = None;
    for nth in 0..ORDERS {
        let order = |nth: u64| {
            let buyer = caller * BUYERS + nth % BUYERS;
            Order::new(buyer, RequestKey::new(u128::from(nth))).line(SKU, 1)
        };
        let placed = engine.place(order(nth)).expect("there is room").wait().expect("durable");
        let held = *placed.held().unwrap_or_else(|| panic!("held, not {placed:?}"));
        assert!(!held.replayed);
        drop(engine.confirm(held.order).expect("held"));
        drop(engine.fulfil(held.order).expect("confirmed"));
        if let Some(last) = before.replace(held.order) {
            match engine.order(last) {
                Ok(viewed) => assert_eq!(viewed.order, last),
                Err(error) => assert_eq!(error, OrderError::Retired { order: last }),
            }
        }
    }
}

#[test]
fn nothing_is_lost_or_sold_twice_while_orders_leave() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(options(folder.path())).expect("opens");
    let units = (CALLERS * ORDERS) as u32;
    for sku in [SKU, OTHER] {
        let added = engine.stock(sku, Adjust::add(units).key(1)).expect("there is room");
        added.wait().expect("durable");
    }
    let limit = || SaleRules::new().buyer_limit(units);
    engine.rules(SKU, limit()).expect("known").wait().expect("durable");
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let engine = &engine;
            scope.spawn(move || sell(engine, caller));
        }
        // Another sale begins and ends meanwhile.
        for _ in 0..20 {
            engine.rules(OTHER, limit()).expect("known").wait().expect("durable");
            engine.end_sale(OTHER).expect("known").wait().expect("durable");
        }
    });
    // The timekeeper runs until nothing is left.
    while engine.stats().orders > 0 {
        std::thread::yield_now();
    }
    let check = |engine: &Engine| {
        let levels = engine.levels(SKU).expect("known");
        assert_eq!((levels.sold, levels.available), (i64::from(units), 0));
        assert_eq!(engine.stats().buyers_tracked, CALLERS * BUYERS);
    };
    check(&engine);
    assert_eq!(engine.stats().retired, CALLERS * ORDERS);
    engine.close().expect("nothing fails");
    let engine = Engine::open(options(folder.path())).expect("opens");
    check(&engine);
    assert_eq!(engine.stats().orders, 0);
}
