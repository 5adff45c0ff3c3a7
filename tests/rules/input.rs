//! Rules that make no sense: each has a name, a value and a bound, and nothing changes.

use doorbuster::{
    Capacity, EARLY_ACCESS_MAX, MerchantError, MerchantId, MerchantRules, RATE_MAX, SaleRules,
    SkuId, StockError, Switch, Unavailable,
};

use crate::shop::{SKU, Shop};
use crate::{MERCHANT, ms};

#[test]
fn rules_out_of_their_bounds_are_named_and_change_nothing() {
    let mut shop = Shop::with(|options| options.hold_default(ms(900)).hold_max(ms(5_000)));
    shop.rule(SKU, SaleRules::new().opens_at_ms(20).closes_at_ms(30).buyer_limit(2));
    let before = shop.engine.dump();
    let limited = || SaleRules::new().buyer_limit(9).switch(Switch::Halted).safety_stock(3);
    let closes = |opens_at_ms, closes_at_ms| StockError::ClosesBeforeItOpens {
        sku: SKU,
        opens_at_ms,
        closes_at_ms,
    };
    let hold = |hold_ms| StockError::HoldOutOfRange { sku: SKU, hold_ms, min_ms: 1, max_ms: 5_000 };
    let max_ms = EARLY_ACCESS_MAX.as_millis() as u64;
    let early_ms = max_ms + 1;
    let cases = [
        (limited().opens_at_ms(40).closes_at_ms(39), closes(40, 39)),
        (limited().opens_at_ms(40).closes_at_ms(40), closes(40, 40)),
        (limited().opens_at_ms(31), closes(31, 30)),
        (limited().closes_at_ms(0), closes(20, 0)),
        (limited().opens_at_ms(u64::MAX).closes_at_ms(u64::MAX), closes(u64::MAX, u64::MAX)),
        (limited().hold_for(ms(0)), hold(0)),
        (limited().hold_for(ms(5_001)), hold(5_001)),
        (limited().hold_for(std::time::Duration::MAX), hold(u64::MAX)),
        (
            limited().early_access(8, ms(1)),
            StockError::ClassOutOfRange { sku: SKU, class: 8, max: 7 },
        ),
        (
            limited().early_access(0, ms(1)).early_access(7, EARLY_ACCESS_MAX + ms(1)),
            StockError::EarlyAccessOutOfRange { sku: SKU, early_ms, max_ms },
        ),
    ];
    for (rules, expected) in cases {
        let error = shop.engine.rules(SKU, rules).map(drop).expect_err("makes no sense");
        assert_eq!(error, expected);
        shop.engine.run_until_idle();
        assert_eq!(shop.engine.dump(), before, "{error}");
    }
    let unknown = SkuId::new(404);
    let error = shop.engine.rules(unknown, limited()).map(drop);
    assert_eq!(error, Err(StockError::UnknownSku { sku: unknown }));
    shop.rule(SKU, SaleRules::new().hold_for(ms(5_000)).early_access(7, EARLY_ACCESS_MAX));
}

#[test]
fn rates_out_of_their_bounds_are_named_and_change_nothing() {
    let mut shop = Shop::new();
    shop.rule_merchant(MerchantRules::new().rate(RATE_MAX, 1));
    let before = shop.engine.dump();
    let (merchant, min, max) = (MERCHANT, 1, RATE_MAX);
    for (field, value, rules) in [
        ("orders_per_s", 0, MerchantRules::new().rate(0, 1)),
        ("burst", 0, MerchantRules::new().rate(1, 0)),
        ("orders_per_s", RATE_MAX + 1, MerchantRules::new().rate(RATE_MAX + 1, 1)),
        ("burst", RATE_MAX + 1, MerchantRules::new().rate(1, RATE_MAX + 1)),
    ] {
        let error = shop.engine.merchant(MERCHANT, rules.switch(Switch::Halted)).map(drop);
        let expected = MerchantError::RateOutOfRange { merchant, field, value, min, max };
        assert_eq!(error, Err(expected));
        shop.engine.run_until_idle();
        assert_eq!(shop.engine.dump(), before);
    }
}

#[test]
fn merchants_are_bounded() {
    let mut shop = Shop::with(|options| options.merchants_max(2));
    shop.rule_merchant(MerchantRules::new().rate(1, 1));
    shop.rule(SKU, SaleRules::new().merchant(MerchantId::new(2)));
    let full = Unavailable::AtCapacity { what: Capacity::Merchants, bound: 2 };
    let rules = SaleRules::new().merchant(MerchantId::new(3)).buyer_limit(1);
    let before = shop.engine.dump();
    let error = shop.engine.rules(SKU, rules).map(drop);
    assert_eq!(error, Err(StockError::Unavailable(full.clone())));
    let error = shop.engine.merchant(3, MerchantRules::new().switch(Switch::Halted)).map(drop);
    assert_eq!(error, Err(MerchantError::Unavailable(full)));
    shop.engine.run_until_idle();
    assert_eq!(shop.engine.dump(), before);
    shop.rule_merchant(MerchantRules::new().no_rate());
}

#[test]
fn a_folder_with_more_merchants_than_the_option_says_is_refused_by_name() {
    let mut shop = Shop::new();
    shop.rule_merchant(MerchantRules::new().switch(Switch::Halted));
    shop.rule(SKU, SaleRules::new().merchant(MerchantId::new(2)));
    let storage = shop.storage.kill();
    let options = crate::shop::options(&storage, &shop.clock).merchants_max(1);
    let error = doorbuster::testing::SteppedEngine::open(options).expect_err("too many");
    assert!(error.to_string().contains("merchants_max: 1 given"), "{error}");
}
