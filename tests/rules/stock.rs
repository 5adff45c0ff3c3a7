//! Safety stock is kept back, and no order can have it.

use doorbuster::{Adjust, Adjusted, Placed, Quantity, Refusal, SaleRules, StockError};

use crate::shop::{SKU, Shop, settled};

fn keep_back(shop: &mut Shop, units: u32) {
    shop.rule(SKU, SaleRules::new().safety_stock(units));
}

#[test]
fn what_is_kept_back_is_stocked_and_not_to_be_had() {
    let mut shop = Shop::new();
    keep_back(&mut shop, 95);
    let levels = shop.levels(SKU);
    assert_eq!((levels.stocked, levels.available, levels.kept_back), (100, 5, 95));
    assert!(shop.place(&[(SKU, 5)]).held().is_some());
    let sold_out = Refusal::SoldOut { sku: SKU, wanted: Quantity::new(1), available: 0 };
    assert_eq!(shop.refusal(SKU), sold_out);
    let take = shop.engine.stock(SKU, Adjust::take(1).key(1)).expect("an answer");
    assert!(matches!(take.peek(), Some(Adjusted::TooFew { available: 0, .. })));
    shop.engine.run_until_idle();
    for checkpoint in [false, true] {
        if checkpoint {
            shop.kill_after_checkpoint()
        } else {
            shop.kill()
        }
        assert_eq!(shop.refusal(SKU), sold_out);
        let levels = shop.levels(SKU);
        assert_eq!((levels.held, levels.kept_back), (5, 95));
    }
    keep_back(&mut shop, 90);
    assert!(shop.place(&[(SKU, 5)]).held().is_some());
    assert_eq!(shop.refusal(SKU), sold_out);
    keep_back(&mut shop, 0);
    assert_eq!((shop.levels(SKU).available, shop.levels(SKU).kept_back), (90, 0));
}

#[test]
fn more_than_there_is_leaves_a_deficit_that_is_repaid_first() {
    let mut shop = Shop::new();
    let held = shop.place(&[(SKU, 60)]).held().expect("held").order;
    keep_back(&mut shop, 50);
    assert_eq!(shop.levels(SKU).available, -10, "the hold is durable with the rule");
    shop.kill();
    assert_eq!(shop.levels(SKU).available, -10);
    drop(shop.engine.stock(SKU, Adjust::add(4).key(1)).expect("accepted"));
    shop.engine.run_until_idle();
    assert!(matches!(shop.refusal(SKU), Refusal::SoldOut { available: -6, .. }));
    drop(shop.engine.cancel(held).expect("known"));
    shop.engine.run_until_idle();
    assert_eq!(shop.levels(SKU).available, 54);
}

#[test]
fn more_is_kept_back_at_once_and_less_when_durable() {
    let mut shop = Shop::new();
    let more = shop.engine.rules(SKU, SaleRules::new().safety_stock(100)).expect("accepted");
    assert!(!more.is_durable());
    assert!(matches!(shop.refusal(SKU), Refusal::SoldOut { .. }));
    let less = shop.engine.rules(SKU, SaleRules::new().safety_stock(0)).expect("accepted");
    let again = shop.engine.rules(SKU, SaleRules::new().safety_stock(40)).expect("accepted");
    assert_eq!(shop.levels(SKU).kept_back, 100, "the most that a crash may take back");
    assert!(matches!(shop.refusal(SKU), Refusal::SoldOut { .. }));
    shop.engine.run_until_idle();
    [more, less, again].into_iter().for_each(settled);
    assert_eq!(shop.levels(SKU).available, 60);
}

#[test]
fn no_stock_can_owe_more_than_any_stock_is() {
    let mut shop = Shop::new();
    keep_back(&mut shop, u32::MAX);
    let before = shop.engine.dump();
    let set = shop.engine.stock(SKU, Adjust::set(0).expect(100).key(1)).expect("accepted");
    assert!(matches!(set.peek(), Some(Adjusted::Done { stocked: 0, .. })));
    shop.engine.run_until_idle();
    keep_back(&mut shop, 0);
    drop(shop.engine.stock(SKU, Adjust::set(100).expect(0).key(2)).expect("accepted"));
    shop.engine.run_until_idle();
    let Placed::Held(_) = shop.place(&[(SKU, 1)]) else { panic!("there is one: {before}") };
    drop(shop.engine.stock(SKU, Adjust::set(0).expect(100).key(3)).expect("accepted"));
    let error = shop.engine.rules(SKU, SaleRules::new().safety_stock(u32::MAX)).map(drop);
    let units = u64::from(u32::MAX) + 1;
    assert_eq!(error, Err(StockError::OwesTooMuch { sku: SKU, units, max: u32::MAX }));
    assert_eq!(shop.levels(SKU).kept_back, 0, "nothing changed");
}
