//! Which rules there are: those that act, those that are logged, and whether these are durable.

use std::time::Duration;

use doorbuster::{
    Adjust, MerchantId, MerchantRules, Quantity, Ruled, SaleRules, SkuId, SkuRules, Switch,
};

use crate::shop::{SKU, Shop};

const ONE: MerchantId = MerchantId::new(1);
const OTHER: MerchantId = MerchantId::new(2);

fn of_sku(shop: &Shop) -> Ruled<SkuRules> {
    shop.engine.sku_rules(SKU).expect("known")
}

#[test]
fn a_sku_tells_the_rules_that_act_and_those_that_are_logged() {
    let mut shop = Shop::of_partitions(4);
    assert_eq!(shop.engine.sku_rules(SkuId::new(99)), None, "no stock was ever set for it");
    let none = of_sku(&shop);
    assert!(none.durable && none.acting == none.logged);
    assert_eq!((none.logged.buyer_limit, none.logged.closes_at_ms), (None, u64::MAX));

    let first = SaleRules::new()
        .buyer_limit(5)
        .opens_at_ms(10)
        .closes_at_ms(1 << 50)
        .early_access(3, Duration::from_millis(4))
        .hold_for(Duration::from_millis(700))
        .safety_stock(20)
        .waiting_max(30)
        .waiting_passes(true)
        .switch(Switch::NoNewHolds)
        .merchant(ONE);
    shop.settle(|engine| engine.rules(SKU, first).expect("known"));
    let stands = of_sku(&shop);
    assert!(stands.durable && stands.acting == stands.logged, "{stands:?}");
    let rules = &stands.logged;
    assert_eq!(
        (rules.buyer_limit, rules.safety_stock),
        (Some(Quantity::new(5)), Quantity::new(20))
    );
    assert_eq!((rules.opens_at_ms, rules.closes_at_ms), (10, 1 << 50));
    assert_eq!((rules.early_access_ms, rules.hold_ms), ([0, 0, 0, 4, 0, 0, 0, 0], Some(700)));
    assert_eq!((rules.waiting_max, rules.waiting_passes), (30, true));
    assert_eq!((rules.switch, &rules.merchants[..]), (Switch::NoNewHolds, &[ONE][..]));

    // One field is stricter at once, the others when they are durable.
    let second = SaleRules::new().buyer_limit(9).safety_stock(10).opens_at_ms(50).merchant(OTHER);
    let changed = shop.engine.rules(SKU, second).expect("known");
    let Ruled { acting, logged, durable, .. } = of_sku(&shop);
    let seen = |it: &SkuRules| (it.buyer_limit, it.safety_stock, it.opens_at_ms);
    assert_eq!(seen(&acting), (Some(Quantity::new(5)), Quantity::new(20), 50));
    assert_eq!(seen(&logged), (Some(Quantity::new(9)), Quantity::new(10), 50));
    assert_eq!((&acting.merchants[..], &logged.merchants[..]), (&[ONE, OTHER][..], &[OTHER][..]));
    assert!(!durable && !changed.is_durable());
    shop.engine.run_until_idle();
    let stands = of_sku(&shop);
    assert!(changed.is_durable() && stands.durable);
    assert_eq!((&stands.acting, &stands.logged), (&logged, &logged));
    let lost = shop.engine.rules(SKU, SaleRules::new().buyer_limit(0)).expect("known");
    drop(lost);
    shop.kill();
    assert_eq!(of_sku(&shop), stands, "what was not durable is gone");
    drop(shop.engine.stock(SKU, Adjust::add(1).key(9)).expect("there is room"));
    assert!(!of_sku(&shop).durable, "its stock has a change that is not durable");
}

#[test]
fn merchants_and_the_engine_tell_theirs() {
    let mut shop = Shop::of_partitions(4);
    assert_eq!(shop.engine.merchant_rules(ONE), None);
    let open = shop.engine.switch_state();
    assert_eq!((open.acting, open.logged, open.durable), (Switch::Open, Switch::Open, true));
    shop.settle(|engine| {
        engine.merchant(ONE, MerchantRules::new().rate(7, 8)).expect("there is room")
    });
    shop.settle(|engine| engine.switch(Switch::Halted).expect("open"));
    drop(shop.engine.merchant(ONE, MerchantRules::new().rate(9, 3)).expect("there is room"));
    drop(shop.engine.switch(Switch::Open).expect("open"));
    let rate = |shop: &Shop| {
        let Ruled { acting, logged, durable, .. } = shop.engine.merchant_rules(ONE).expect("made");
        let rates =
            [acting, logged].map(|it| (it.orders_per_s.unwrap_or(0), it.burst.unwrap_or(0)));
        (rates, durable)
    };
    assert_eq!(rate(&shop), ([(7, 3), (9, 3)], false));
    let lifted = shop.engine.switch_state();
    assert_eq!(
        (lifted.acting, lifted.logged, lifted.durable),
        (Switch::Halted, Switch::Open, false)
    );
    shop.engine.run_until_idle();
    assert_eq!(rate(&shop), ([(9, 3), (9, 3)], true));
    let lifted = shop.engine.switch_state();
    assert_eq!((lifted.acting, lifted.logged, lifted.durable), (Switch::Open, Switch::Open, true));
    shop.kill();
    assert_eq!(rate(&shop), ([(9, 3), (9, 3)], true));
    assert_eq!(shop.engine.switch_state(), lifted);
}
