//! Which SKUs and merchants there are.

use std::collections::BTreeSet;

use doorbuster::{Adjust, MerchantId, MerchantRules, SaleRules, SkuId};

use crate::shop::{SKU, Shop};

#[test]
fn skus_and_merchants_are_all_named_once_and_by_an_open_too() {
    let mut shop = Shop::of_partitions(4);
    for sku in 2..=700 {
        drop(shop.engine.stock(sku, Adjust::add(1).key(1)).expect("there is room"));
    }
    assert!(shop.engine.stock(900, Adjust::take(1).key(1)).is_err(), "it is not known");
    for merchant in 1..=100 {
        drop(
            shop.engine.merchant(merchant, MerchantRules::new().rate(5, 5)).expect("there is room"),
        );
    }
    let of_another = SaleRules::new().merchant(MerchantId::new(500));
    drop(shop.engine.rules(SKU, of_another).expect("known"));
    shop.engine.run_until_idle();
    let named = |shop: &Shop| {
        let skus: Vec<_> = shop.engine.skus().collect();
        let merchants: Vec<_> = shop.engine.merchants().collect();
        assert_eq!((skus.len(), merchants.len()), (700, 101), "each once");
        (BTreeSet::from_iter(skus), BTreeSet::from_iter(merchants))
    };
    let expected = (
        (1..=700).map(SkuId::new).collect(),
        (1..=100).chain([500]).map(MerchantId::new).collect(),
    );
    assert_eq!(named(&shop), expected);
    shop.kill();
    assert_eq!(named(&shop), expected);
}

#[test]
fn what_becomes_known_meanwhile_comes_last() {
    let shop = Shop::of_partitions(1);
    let mut skus = shop.engine.skus();
    let mut merchants = shop.engine.merchants();
    assert_eq!((skus.next(), merchants.next()), (Some(SKU), None));
    drop(shop.engine.stock(2, Adjust::add(1).key(1)).expect("there is room"));
    drop(shop.engine.merchant(9, MerchantRules::new().rate(5, 5)).expect("there is room"));
    assert_eq!((skus.next(), merchants.next()), (Some(SkuId::new(2)), Some(MerchantId::new(9))));
    assert_eq!((skus.next(), merchants.next()), (None, None));
}
