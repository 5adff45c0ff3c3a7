//! Which SKUs and merchants there are.

use std::collections::BTreeSet;

use doorbuster::{Adjust, MerchantId, MerchantRules, SaleRules, SkuId};

use crate::bench::{Bench, SKU};

#[test]
fn skus_and_merchants_are_all_named_once_and_by_an_open_too() {
    let mut bench = Bench::new(4);
    for sku in 2..=700 {
        drop(bench.engine.stock(sku, Adjust::add(1).key(1)).expect("room"));
    }
    assert!(bench.engine.stock(900, Adjust::take(1).key(1)).is_err(), "it is not known");
    for merchant in 1..=100 {
        drop(bench.engine.merchant(merchant, MerchantRules::new().rate(5, 5)).expect("room"));
    }
    let of_another = SaleRules::new().merchant(MerchantId::new(500));
    drop(bench.engine.rules(SKU, of_another).expect("known"));
    bench.engine.run_until_idle();
    let named = |bench: &Bench| {
        let skus: Vec<_> = bench.engine.skus().collect();
        let merchants: Vec<_> = bench.engine.merchants().collect();
        assert_eq!((skus.len(), merchants.len()), (700, 101), "each once");
        (BTreeSet::from_iter(skus), BTreeSet::from_iter(merchants))
    };
    let expected = (
        (1..=700).map(SkuId::new).collect(),
        (1..=100).chain([500]).map(MerchantId::new).collect(),
    );
    assert_eq!(named(&bench), expected);
    bench.kill();
    assert_eq!(named(&bench), expected);
}

#[test]
fn what_becomes_known_meanwhile_comes_last() {
    let bench = Bench::new(1);
    let mut skus = bench.engine.skus();
    let mut merchants = bench.engine.merchants();
    assert_eq!((skus.next(), merchants.next()), (Some(SKU), None));
    drop(bench.engine.stock(2, Adjust::add(1).key(1)).expect("room"));
    drop(bench.engine.merchant(9, MerchantRules::new().rate(5, 5)).expect("room"));
    assert_eq!((skus.next(), merchants.next()), (Some(SkuId::new(2)), Some(MerchantId::new(9))));
    assert_eq!((skus.next(), merchants.next()), (None, None));
}
