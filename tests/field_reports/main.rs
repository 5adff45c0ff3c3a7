//! Failures that shops reported in public, one test each: here they must not happen. Each test names the shop
//! software and the number of the report.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Barrier;

use doorbuster::{
    Adjust, Durability, Engine, Fill, Line, Options, Order, OrderId, Placed, Quantity, Refusal,
    RequestKey, SaleRules, SkuId,
};

const SKU: SkuId = SkuId::new(1);
const OTHER: SkuId = SkuId::new(2);
const BUYERS: u64 = 8;

fn open(folder: &Path) -> Engine {
    let options = Options::new(folder)
        .partitions(4)
        .log_shards(2)
        .segment_bytes(1 << 20)
        .durability(Durability::Written);
    Engine::open(options).expect("opens")
}

fn add(engine: &Engine, sku: SkuId, units: u32, key: u64) {
    let added = engine.stock(sku, Adjust::add(units).key(u128::from(key))).expect("accepted");
    added.wait().expect("durable");
}

fn place(engine: &Engine, order: &Order) -> Placed {
    engine.place(order).expect("an answer").wait().expect("durable")
}

fn order(buyer: u64, key: u64) -> Order {
    Order::new(buyer, RequestKey::new(u128::from(key)))
}

fn id(placed: &Placed) -> Option<OrderId> {
    placed.held().map(|held| held.order)
}

/// Runs this for all buyers at once, each in a thread of its own.
fn at_once<T: Send>(buyers: u64, act: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(buyers as usize);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..buyers)
            .map(|buyer| {
                let (barrier, act) = (&barrier, &act);
                scope.spawn(move || {
                    barrier.wait();
                    act(buyer)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// magento2 25653: under load the last unit was sold to two buyers.
#[test]
fn the_last_unit_is_sold_once_under_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(folder.path());
    for round in 0..200 {
        let (last, never) = (SkuId::new(1_000 + round), SkuId::new(1));
        add(&engine, last, 1, 0);
        add(&engine, never, 1, round);
        let placed = at_once(BUYERS, |buyer| {
            let order = order(buyer, round).line(last, 1);
            match buyer % 4 {
                0 => place(&engine, &order),
                1 => place(&engine, &order.line(never, 1)),
                2 => {
                    place(&engine, &order.line(never, 9).fill(Fill::Partial).min_quantity(last, 1))
                }
                _ => {
                    let batch = engine.place_batch(&[order]).expect("a batch is accepted");
                    batch.wait().expect("durable").remove(0).expect("an answer")
                }
            }
        });
        let held = placed.iter().filter_map(id).collect::<Vec<_>>();
        assert_eq!(held.len(), 1, "{placed:?}");
        let levels = engine.levels(last).expect("known");
        assert_eq!((levels.available, levels.held), (0, 1));
        engine.cancel(held[0]).expect("cancels").wait().expect("durable");
    }
}

/// vendure 2702: stock was checked line by line, so a SKU on two lines was sold beyond its stock.
#[test]
fn the_same_sku_on_two_lines_does_not_slip_past_the_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(folder.path());
    add(&engine, SKU, 3, 0);
    let twice = |key| order(1, key).line(SKU, 2).line(OTHER, 1).line(SKU, 2);
    add(&engine, OTHER, 3, 0);
    let wanted = Quantity::new(4);
    let refused = Placed::Refused(Refusal::SoldOut { sku: SKU, wanted, available: 3 });
    assert_eq!(place(&engine, &twice(1)), refused);
    engine.rules(SKU, SaleRules::new().buyer_limit(3)).expect("limits").wait().expect("durable");
    add(&engine, SKU, 3, 1);
    let limit = Quantity::new(3);
    let refused = Placed::Refused(Refusal::BuyerLimit { sku: SKU, wanted, taken: 0, limit });
    assert_eq!(place(&engine, &twice(1)), refused);
    let Placed::Partial(partly) = place(&engine, &twice(1).fill(Fill::Partial)) else {
        panic!("three of four");
    };
    assert_eq!(partly.missing, [Line { sku: SKU, quantity: Quantity::new(1) }]);
    assert_eq!(engine.levels(SKU).expect("known").available, 3);
}

/// Shops that keep stock in several buckets offered a buyer stock that existed and could not be reserved: no single
/// bucket had enough. Here units from many deliveries, and units returned by many buyers in all partitions, are one
/// stock.
#[test]
fn what_stock_there_is_can_be_reserved_however_it_came() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(folder.path());
    for delivery in 0..50 {
        add(&engine, SKU, 2, delivery);
    }
    let orders: Vec<_> =
        (0..50).map(|buyer| place(&engine, &order(buyer, 1).line(SKU, 2))).collect();
    for placed in &orders {
        let order = id(placed).expect("held");
        engine.cancel(order).expect("cancels").wait().expect("durable");
    }
    let all = place(&engine, &order(99, 1).line(SKU, 100));
    assert!(matches!(all, Placed::Held(_)), "{all:?}");
    assert_eq!(engine.levels(SKU).expect("known").available, 0);
}

/// magento2 39417: two buyers whose carts had the same goods in opposite order locked each other out.
#[test]
fn carts_with_the_same_skus_in_opposite_order_do_not_wait_for_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(folder.path());
    let (rounds, stock) = (500, 100_000);
    add(&engine, SKU, stock, 0);
    add(&engine, OTHER, stock, 0);
    let held: u64 = at_once(BUYERS, |buyer| {
        let mut held = 0;
        for key in 0..rounds {
            let order = match buyer % 2 {
                0 => order(buyer, key).line(SKU, 1).line(OTHER, 2),
                _ => order(buyer, key).line(OTHER, 2).line(SKU, 1),
            };
            let order = if buyer % 3 == 0 { order.fill(Fill::Partial) } else { order };
            held += u64::from(matches!(place(&engine, &order), Placed::Held(_)));
        }
        held
    })
    .iter()
    .sum();
    assert_eq!(held, BUYERS * rounds, "there was enough for all");
    assert_eq!(engine.levels(SKU).expect("known").held, held as i64);
    assert_eq!(engine.levels(OTHER).expect("known").held, 2 * held as i64);
}

/// shopware 19943: the same checkout, sent from two tabs, made two orders.
#[test]
fn two_tabs_make_one_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = open(folder.path());
    add(&engine, SKU, 1_000, 0);
    let mut ids = BTreeSet::new();
    for key in 0..100 {
        let checkout = || order(7, key).line(SKU, 1).payload(&b"the same cart"[..]);
        let tabs = at_once(4, |_| place(&engine, &checkout()));
        let orders: BTreeSet<_> = tabs.iter().filter_map(id).collect();
        assert_eq!((tabs.iter().filter_map(id).count(), orders.len()), (4, 1), "{tabs:?}");
        let first = tabs.iter().filter(|tab| tab.held().is_some_and(|held| !held.replayed));
        assert_eq!(first.count(), 1, "{tabs:?}");
        ids.extend(orders);
    }
    assert_eq!((ids.len(), engine.levels(SKU).expect("known").held), (100, 100));
    // The buyer uses an old tab after the service was restarted.
    engine.close().expect("closes");
    engine = open(folder.path());
    for key in 0..100 {
        let again = place(&engine, &order(7, key).line(SKU, 1).payload(&b"the same cart"[..]));
        assert!(ids.contains(&id(&again).expect("the first one")), "{again:?}");
    }
    assert_eq!(engine.levels(SKU).expect("known").held, 100);
    // If each tab makes a key of its own, a limit keeps the buyer to one order.
    engine.rules(OTHER, SaleRules::new().buyer_limit(1)).expect_err("not known yet");
    add(&engine, OTHER, 10, 0);
    engine.rules(OTHER, SaleRules::new().buyer_limit(1)).expect("limits").wait().expect("durable");
    let tabs = at_once(4, |tab| place(&engine, &order(7, 1_000 + tab).line(OTHER, 1)));
    assert_eq!(tabs.iter().filter_map(id).count(), 1, "{tabs:?}");
}
