//! Merchants: one call throttles or delists all their SKUs.

use doorbuster::{
    Adjust, MerchantRules, Order, Placed, Refusal, RequestKey, SaleRules, Scope, SkuId, Switch,
};

use crate::shop::{SKU, Shop};
use crate::{MERCHANT, OTHER, ms};

fn owned(skus: &[SkuId]) -> Shop {
    let mut shop = Shop::new();
    for sku in skus {
        shop.rule(*sku, SaleRules::new().merchant(MERCHANT));
    }
    shop
}

/// Places orders of one unit until one is refused, at most 50. Returns how many were held, and the refusal.
fn run(shop: &mut Shop, lines: &[(SkuId, u32)]) -> (usize, Option<Refusal>) {
    for held in 0..50 {
        match shop.place(lines) {
            Placed::Held(_) => {}
            Placed::Refused(refusal) => return (held, Some(refusal)),
            other => panic!("{other:?}"),
        }
    }
    (50, None)
}

fn limited(retry_after_ms: u64) -> Option<Refusal> {
    Some(Refusal::RateLimited { merchant: MERCHANT, retry_after_ms })
}

#[test]
fn one_call_delists_all_skus_of_a_merchant_and_no_others() {
    let mut shop = owned(&[SKU]);
    shop.rule_merchant(MerchantRules::new().switch(Switch::NoNewHolds));
    let scope = Scope::Merchant(MERCHANT);
    assert_eq!(shop.refusal(SKU), Refusal::Switched { scope, switch: Switch::NoNewHolds });
    shop.hold(OTHER);
    shop.rule(OTHER, SaleRules::new().merchant(MERCHANT));
    assert!(matches!(shop.refusal(OTHER), Refusal::Switched { .. }));
    shop.rule(SKU, SaleRules::new().merchant(None));
    shop.hold(SKU);
}

#[test]
fn a_merchant_is_held_to_his_rate_over_all_his_skus() {
    let mut shop = owned(&[SKU, OTHER]);
    shop.rule_merchant(MerchantRules::new().rate(10, 3));
    assert_eq!(run(&mut shop, &[(SKU, 1), (OTHER, 1)]), (3, limited(100)), "a cart counts once");
    assert_eq!(run(&mut shop, &[(OTHER, 1)]), (0, limited(100)));
    shop.clock.advance(ms(99));
    assert_eq!(run(&mut shop, &[(SKU, 1)]), (0, limited(1)));
    shop.clock.advance(ms(1));
    assert_eq!(run(&mut shop, &[(SKU, 1)]), (1, limited(100)));
    shop.clock.advance(ms(5_000));
    assert_eq!(run(&mut shop, &[(OTHER, 1)]), (3, limited(100)), "no more than the burst");
    shop.kill();
    assert_eq!(run(&mut shop, &[(OTHER, 1)]), (3, limited(100)), "full again, as is said");
    shop.rule_merchant(MerchantRules::new().no_rate());
    assert_eq!(run(&mut shop, &[(OTHER, 1)]), (50, None));
}

#[test]
fn repeats_and_refused_orders_cost_no_token() {
    let mut shop = owned(&[SKU]);
    shop.rule_merchant(MerchantRules::new().rate(1, 2));
    let order = shop.order(&[(SKU, 1)]);
    for nth in 0..20 {
        let held = *shop.answer(&order).held().expect("held or repeated");
        assert_eq!(held.replayed, nth > 0);
        // More than there are. It is refused in admission, and under the lock where there seem to be plenty.
        let sold_out = shop.place(&[(SKU, 101)]);
        assert!(matches!(sold_out, Placed::Refused(Refusal::SoldOut { .. })), "{sold_out:?}");
        let cart = shop.place(&[(SKU, 1), (OTHER, 101)]);
        assert!(matches!(cart, Placed::Refused(Refusal::SoldOut { .. })), "{cart:?}");
    }
    assert_eq!(run(&mut shop, &[(SKU, 1)]), (1, limited(1_000)), "one of the two is left");
    assert!(shop.answer(&order).held().is_some_and(|held| held.replayed), "over the rate, too");
}

/// It is refused under the lock: all orders of one buyer in a batch are admitted before the first of them takes the
/// last unit.
#[test]
fn a_token_is_given_back_by_an_order_that_finds_nothing_left() {
    let mut shop = owned(&[SKU]);
    shop.rule(SKU, SaleRules::new().safety_stock(99));
    shop.rule_merchant(MerchantRules::new().rate(1, 4));
    let order = |key| Order::new(1_u64 << 40, RequestKey::new(key)).line(SKU, 1);
    let orders: Vec<Order> = (1..=4).map(order).collect();
    let placed = shop.engine.place_batch(&orders).expect("open");
    let answers = placed.peek().expect("answers");
    let sold_out = |answer: &&Result<Placed, _>| {
        matches!(answer, Ok(Placed::Refused(Refusal::SoldOut { .. })))
    };
    assert_eq!(answers.iter().filter(sold_out).count(), 3, "{answers:?}");
    shop.rule(SKU, SaleRules::new().safety_stock(0));
    assert_eq!(run(&mut shop, &[(SKU, 1)]), (3, limited(1_000)), "one of the four is taken");
}

/// It is refused under the lock, because admission could not know the buyer's limit.
#[test]
fn an_order_over_its_buyers_limit_costs_no_token() {
    let mut shop = owned(&[SKU]);
    shop.rule_merchant(MerchantRules::new().rate(1, 1));
    shop.rule(SKU, SaleRules::new().buyer_limit(1));
    for _ in 0..5 {
        let over = shop.place(&[(SKU, 2)]);
        assert!(matches!(over, Placed::Refused(Refusal::BuyerLimit { .. })), "{over:?}");
    }
    shop.hold(SKU);
    assert_eq!(Some(shop.refusal(SKU)), limited(1_000));
}

#[test]
fn a_stricter_rate_acts_at_once_and_a_laxer_one_when_durable() {
    let mut shop = owned(&[SKU]);
    drop(shop.engine.stock(SKU, Adjust::add(1_000).key(9)).expect("accepted"));
    shop.rule_merchant(MerchantRules::new().rate(100, 9));
    let stricter = shop.engine.merchant(MERCHANT, MerchantRules::new().rate(1, 4));
    let stricter = stricter.expect("accepted");
    assert_eq!(run(&mut shop, &[(SKU, 1)]).0, 4);
    assert!(!stricter.is_durable());
    shop.clock.advance(ms(60_000));
    let laxer = shop.engine.merchant(MERCHANT, MerchantRules::new().no_rate()).expect("accepted");
    assert_eq!(run(&mut shop, &[(SKU, 1)]).0, 4, "not before it is durable");
    shop.engine.run_until_idle();
    drop((stricter, laxer));
    assert_eq!(run(&mut shop, &[(SKU, 1)]), (50, None));
}
