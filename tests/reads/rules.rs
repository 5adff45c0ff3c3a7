//! Which rules stand: those that act, those that are logged, and whether these are durable.

use std::time::Duration;

use doorbuster::{
    Adjust, MerchantId, MerchantRules, Quantity, Ruled, SaleRules, SkuId, SkuRules, Switch,
};

use crate::bench::{Bench, SKU};

const ONE: MerchantId = MerchantId::new(1);
const OTHER: MerchantId = MerchantId::new(2);

fn of_sku(bench: &Bench) -> Ruled<SkuRules> {
    bench.engine.sku_rules(SKU).expect("known")
}

#[test]
fn a_sku_tells_the_rules_that_act_and_those_that_are_logged() {
    let mut bench = Bench::new(4);
    assert_eq!(bench.engine.sku_rules(SkuId::new(99)), None, "no stock was ever set for it");
    let none = of_sku(&bench);
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
    bench.settle(|engine| engine.rules(SKU, first).expect("known"));
    let stands = of_sku(&bench);
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
    let changed = bench.engine.rules(SKU, second).expect("known");
    let Ruled { acting, logged, durable, .. } = of_sku(&bench);
    let seen = |it: &SkuRules| (it.buyer_limit, it.safety_stock, it.opens_at_ms);
    assert_eq!(seen(&acting), (Some(Quantity::new(5)), Quantity::new(20), 50));
    assert_eq!(seen(&logged), (Some(Quantity::new(9)), Quantity::new(10), 50));
    assert_eq!((&acting.merchants[..], &logged.merchants[..]), (&[ONE, OTHER][..], &[OTHER][..]));
    assert!(!durable && !changed.is_durable());
    bench.engine.run_until_idle();
    let stands = of_sku(&bench);
    assert!(changed.is_durable() && stands.durable);
    assert_eq!((&stands.acting, &stands.logged), (&logged, &logged));
    let lost = bench.engine.rules(SKU, SaleRules::new().buyer_limit(0)).expect("known");
    drop(lost);
    bench.kill();
    assert_eq!(of_sku(&bench), stands, "what was not durable is gone");
    drop(bench.engine.stock(SKU, Adjust::add(1).key(9)).expect("room"));
    assert!(!of_sku(&bench).durable, "its stock has a change that is not durable");
}

#[test]
fn merchants_and_the_engine_tell_theirs() {
    let mut bench = Bench::new(4);
    assert_eq!(bench.engine.merchant_rules(ONE), None);
    let open = bench.engine.switch_state();
    assert_eq!((open.acting, open.logged, open.durable), (Switch::Open, Switch::Open, true));
    bench.settle(|engine| engine.merchant(ONE, MerchantRules::new().rate(7, 8)).expect("room"));
    bench.settle(|engine| engine.switch(Switch::Halted).expect("open"));
    drop(bench.engine.merchant(ONE, MerchantRules::new().rate(9, 3)).expect("room"));
    drop(bench.engine.switch(Switch::Open).expect("open"));
    let rate = |bench: &Bench| {
        let Ruled { acting, logged, durable, .. } = bench.engine.merchant_rules(ONE).expect("made");
        let rates =
            [acting, logged].map(|it| (it.orders_per_s.unwrap_or(0), it.burst.unwrap_or(0)));
        (rates, durable)
    };
    assert_eq!(rate(&bench), ([(7, 3), (9, 3)], false));
    let lifted = bench.engine.switch_state();
    assert_eq!(
        (lifted.acting, lifted.logged, lifted.durable),
        (Switch::Halted, Switch::Open, false)
    );
    bench.engine.run_until_idle();
    assert_eq!(rate(&bench), ([(9, 3), (9, 3)], true));
    let lifted = bench.engine.switch_state();
    assert_eq!((lifted.acting, lifted.logged, lifted.durable), (Switch::Open, Switch::Open, true));
    bench.kill();
    assert_eq!(rate(&bench), ([(9, 3), (9, 3)], true));
    assert_eq!(bench.engine.switch_state(), lifted);
}
