//! Safety stock: kept back, and not to be had.

use doorbuster::{Adjust, Adjusted, Placed, Quantity, Refusal, SaleRules, StockError};

use crate::bench::{Bench, SKU, settled};

fn keep_back(bench: &mut Bench, units: u32) {
    bench.rule(SKU, SaleRules::new().safety_stock(units));
}

#[test]
fn what_is_kept_back_is_stocked_and_not_to_be_had() {
    let mut bench = Bench::new();
    keep_back(&mut bench, 95);
    let levels = bench.levels(SKU);
    assert_eq!((levels.stocked, levels.available, levels.kept_back), (100, 5, 95));
    assert!(bench.place(&[(SKU, 5)]).held().is_some());
    let sold_out = Refusal::SoldOut { sku: SKU, wanted: Quantity::new(1), available: 0 };
    assert_eq!(bench.refusal(SKU), sold_out);
    let take = bench.engine.stock(SKU, Adjust::take(1).key(1)).expect("an answer");
    assert!(matches!(take.peek(), Some(Adjusted::TooFew { available: 0, .. })));
    bench.engine.run_until_idle();
    for checkpoint in [false, true] {
        bench = if checkpoint { bench.restart_from_checkpoint() } else { bench.restart() };
        assert_eq!(bench.refusal(SKU), sold_out);
        let levels = bench.levels(SKU);
        assert_eq!((levels.held, levels.kept_back), (5, 95));
    }
    keep_back(&mut bench, 90);
    assert!(bench.place(&[(SKU, 5)]).held().is_some());
    assert_eq!(bench.refusal(SKU), sold_out);
    keep_back(&mut bench, 0);
    assert_eq!((bench.levels(SKU).available, bench.levels(SKU).kept_back), (90, 0));
}

#[test]
fn more_than_there_is_leaves_a_deficit_that_is_repaid_first() {
    let mut bench = Bench::new();
    let held = bench.place(&[(SKU, 60)]).held().expect("held").order;
    keep_back(&mut bench, 50);
    assert_eq!(bench.levels(SKU).available, -10, "the hold is durable with the rule");
    bench = bench.restart();
    assert_eq!(bench.levels(SKU).available, -10);
    drop(bench.engine.stock(SKU, Adjust::add(4).key(1)).expect("takes it"));
    bench.engine.run_until_idle();
    assert!(matches!(bench.refusal(SKU), Refusal::SoldOut { available: -6, .. }));
    drop(bench.engine.cancel(held).expect("known"));
    bench.engine.run_until_idle();
    assert_eq!(bench.levels(SKU).available, 54);
}

#[test]
fn more_is_kept_back_at_once_and_less_when_durable() {
    let mut bench = Bench::new();
    let more = bench.engine.rules(SKU, SaleRules::new().safety_stock(100)).expect("takes it");
    assert!(!more.is_durable());
    assert!(matches!(bench.refusal(SKU), Refusal::SoldOut { .. }));
    let less = bench.engine.rules(SKU, SaleRules::new().safety_stock(0)).expect("takes it");
    let again = bench.engine.rules(SKU, SaleRules::new().safety_stock(40)).expect("takes it");
    assert_eq!(bench.levels(SKU).kept_back, 100, "the most of what may come back in a crash");
    assert!(matches!(bench.refusal(SKU), Refusal::SoldOut { .. }));
    bench.engine.run_until_idle();
    [more, less, again].into_iter().for_each(settled);
    assert_eq!(bench.levels(SKU).available, 60);
}

#[test]
fn no_stock_can_owe_more_than_any_stock_is() {
    let mut bench = Bench::new();
    keep_back(&mut bench, u32::MAX);
    let before = bench.engine.dump();
    let set = bench.engine.stock(SKU, Adjust::set(0).expect(100).key(1)).expect("takes it");
    assert!(matches!(set.peek(), Some(Adjusted::Done { stocked: 0, .. })));
    bench.engine.run_until_idle();
    keep_back(&mut bench, 0);
    drop(bench.engine.stock(SKU, Adjust::set(100).expect(0).key(2)).expect("takes it"));
    bench.engine.run_until_idle();
    let Placed::Held(_) = bench.place(&[(SKU, 1)]) else { panic!("there is one: {before}") };
    drop(bench.engine.stock(SKU, Adjust::set(0).expect(100).key(3)).expect("takes it"));
    let error = bench.engine.rules(SKU, SaleRules::new().safety_stock(u32::MAX)).map(drop);
    let units = u64::from(u32::MAX) + 1;
    assert_eq!(error, Err(StockError::OwesTooMuch { sku: SKU, units, max: u32::MAX }));
    assert_eq!(bench.levels(SKU).kept_back, 0, "nothing changed");
}
