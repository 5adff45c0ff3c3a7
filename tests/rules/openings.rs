//! When a sale opens and closes, and for which buyers.

use doorbuster::{Placed, Refusal, SaleRules};

use crate::shop::{SKU, Shop};
use crate::{OTHER, ms};

#[test]
fn a_sale_opens_at_its_millisecond_and_closes_at_its_millisecond() {
    let mut shop = Shop::new();
    let (opens_at_ms, closes_at_ms) = (shop.now_ms() + 1_000, shop.now_ms() + 3_000);
    shop.rule(SKU, SaleRules::new().opens_at_ms(opens_at_ms).closes_at_ms(closes_at_ms));
    for restart in [false, true] {
        if restart {
            shop.kill_after_checkpoint();
        }
        for now_ms in [opens_at_ms - 1_000 + u64::from(restart), opens_at_ms - 1] {
            shop.advance_to(now_ms);
            let not_open = Refusal::NotOpen { sku: SKU, opens_at_ms, now_ms };
            assert_eq!(shop.refusal(SKU), not_open);
            let cart = shop.place(&[(OTHER, 1), (SKU, 1)]);
            assert_eq!(cart, Placed::Refused(not_open), "a cart opens with its last SKU");
            shop.hold(OTHER);
            if !restart {
                break;
            }
        }
    }
    shop.advance_to(opens_at_ms);
    let held = shop.hold(SKU);
    shop.advance_to(closes_at_ms - 1);
    shop.hold(SKU);
    shop.advance_to(closes_at_ms);
    assert_eq!(shop.refusal(SKU), Refusal::Closed { sku: SKU, closed_at_ms: closes_at_ms });
    let confirmed = shop.engine.confirm(held.order).expect("known");
    assert!(confirmed.peek().is_some(), "held orders stay held");
}

#[test]
fn a_key_that_has_an_order_is_answered_whatever_the_rules_say_by_now() {
    let mut shop = Shop::new();
    let order = shop.order(&[(SKU, 1)]);
    let Placed::Held(held) = shop.answer(&order) else { panic!("there is one") };
    let (now_ms, later_ms) = (shop.now_ms(), shop.now_ms() + 1_000);
    let rules = [
        SaleRules::new().opens_at_ms(later_ms),
        SaleRules::new().opens_at_ms(0).closes_at_ms(now_ms),
        SaleRules::new().switch(doorbuster::Switch::NoNewHolds),
        SaleRules::new().switch(doorbuster::Switch::Halted),
    ];
    for rules in rules {
        shop.rule(SKU, rules);
        let again = shop.answer(&order);
        assert_eq!(again.held().map(|held| (held.order, held.replayed)), Some((held.order, true)));
    }
    assert!(matches!(shop.refusal(SKU), Refusal::Switched { .. }), "the others are not");
}

#[test]
fn orders_that_leave_it_to_the_engine_are_held_as_long_as_the_rule_says() {
    let mut shop = Shop::with(|options| options.hold_default(ms(900)).hold_max(ms(5_000)));
    shop.rule(SKU, SaleRules::new().hold_for(ms(100)));
    shop.rule(OTHER, SaleRules::new().hold_for(ms(70)));
    let now_ms = shop.now_ms();
    let deadline = |shop: &mut Shop, lines: &[(doorbuster::SkuId, u32)]| {
        let placed = shop.place(lines);
        placed.held().expect("held").deadline_ms - now_ms
    };
    assert_eq!(deadline(&mut shop, &[(SKU, 1)]), 100);
    assert_eq!(deadline(&mut shop, &[(SKU, 1), (OTHER, 1)]), 70, "of a cart the shortest");
    let order = shop.order(&[(SKU, 1)]).hold_for(ms(2_000));
    assert_eq!(shop.answer(&order).held().map(|held| held.deadline_ms - now_ms), Some(2_000));
    // A repeat that leaves the hold to the engine is the same request, whatever the rule was.
    let order = shop.order(&[(SKU, 1)]);
    let first = shop.answer(&order);
    shop.rule(SKU, SaleRules::new().hold_for(None));
    let again = shop.answer(&order);
    assert!(again.held().is_some_and(|held| held.replayed), "{again:?} of {first:?}");
    assert_eq!(deadline(&mut shop, &[(SKU, 1)]), 900);
    assert_eq!(deadline(&mut shop, &[(SKU, 1), (OTHER, 1)]), 70);
    shop.kill();
    assert_eq!(deadline(&mut shop, &[(SKU, 1), (OTHER, 1)]), 70, "a restart keeps it");
}

#[test]
fn a_class_with_early_access_buys_so_much_before_the_opening() {
    let mut shop = Shop::new();
    let opens_at_ms = shop.now_ms() + 1_000;
    let rules = SaleRules::new().opens_at_ms(opens_at_ms);
    shop.rule(SKU, rules.early_access(0, ms(300)).early_access(3, ms(100)));
    let is_open = |shop: &mut Shop, class| {
        let order = shop.order(&[(SKU, 1)]).class(class);
        match shop.answer(&order) {
            Placed::Held(_) => true,
            Placed::Refused(Refusal::NotOpen { opens_at_ms: its_ms, now_ms, .. }) => {
                assert!(now_ms < its_ms && its_ms <= opens_at_ms);
                assert!(class != 1 || its_ms == opens_at_ms, "it has no early access");
                false
            }
            other => panic!("{other:?}"),
        }
    };
    for (before_ms, open) in [(301, [false; 3]), (300, [true, false, false])] {
        shop.advance_to(opens_at_ms - before_ms);
        assert_eq!([0, 3, 1].map(|class| is_open(&mut shop, class)), open);
    }
    shop.kill();
    for (before_ms, open) in
        [(101, [true, false, false]), (100, [true, true, false]), (1, [true, true, false])]
    {
        shop.advance_to(opens_at_ms - before_ms);
        assert_eq!([0, 3, 1].map(|class| is_open(&mut shop, class)), open);
    }
    shop.rule(SKU, SaleRules::new().early_access(0, ms(0)));
    assert_eq!([0, 3, 1].map(|class| is_open(&mut shop, class)), [false, true, false]);
    shop.advance_to(opens_at_ms);
    assert_eq!([0, 3, 1].map(|class| is_open(&mut shop, class)), [true; 3]);
}
