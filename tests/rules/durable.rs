//! A restriction acts at once, a permission when it is durable (rule R8); and what a crash leaves of a rule.

use doorbuster::testing::SteppedEngine;
use doorbuster::{
    MerchantId, MerchantRules, Order, Placed, Refusal, RequestKey, SaleRules, Scope, Switch,
};

use crate::shop::{SKU, Shop, options, settled};
use crate::{MERCHANT, ms};

/// Pairs of a strict rule and a lax one, and a test whether a refusal comes from the strict one.
type Pair = (SaleRules, SaleRules, fn(&Refusal) -> bool);

fn pairs(now_ms: u64) -> Vec<Pair> {
    let rules = SaleRules::new;
    vec![
        (rules().opens_at_ms(now_ms + 9), rules().opens_at_ms(0), |refusal| {
            matches!(refusal, Refusal::NotOpen { .. })
        }),
        (rules().closes_at_ms(now_ms), rules().closes_at_ms(u64::MAX), |refusal| {
            matches!(refusal, Refusal::Closed { .. })
        }),
        (rules().safety_stock(100), rules().safety_stock(0), |refusal| {
            matches!(refusal, Refusal::SoldOut { .. })
        }),
        (rules().switch(Switch::NoNewHolds), rules().switch(Switch::Open), |refusal| {
            matches!(refusal, Refusal::Switched { switch: Switch::NoNewHolds, .. })
        }),
        (rules().switch(Switch::Halted), rules().switch(Switch::Open), |refusal| {
            matches!(refusal, Refusal::Switched { switch: Switch::Halted, .. })
        }),
        (rules().merchant(MERCHANT), rules().merchant(None), |refusal| {
            matches!(refusal, Refusal::Switched { scope: Scope::Merchant(MERCHANT), .. })
        }),
        (rules().merchant(MERCHANT), rules().merchant(MerchantId::new(1)), |refusal| {
            matches!(refusal, Refusal::Switched { scope: Scope::Merchant(MERCHANT), .. })
        }),
    ]
}

#[test]
fn the_stricter_of_old_and_new_acts_until_a_change_is_durable() {
    let mut shop = Shop::new();
    shop.rule_merchant(MerchantRules::new().switch(Switch::NoNewHolds));
    for (nth, (strict, lax, is_by_it)) in pairs(shop.now_ms()).into_iter().enumerate() {
        shop.hold(SKU);
        let restricted = shop.engine.rules(SKU, strict.clone()).expect("accepted");
        assert!(!restricted.is_durable());
        let refusal = shop.refusal(SKU);
        assert!(is_by_it(&refusal), "rule {nth} acts at once: {refusal:?}");
        shop.engine.run_until_idle();
        settled(restricted);

        let permitted = shop.engine.rules(SKU, lax.clone()).expect("accepted");
        let refusal = shop.refusal(SKU);
        assert!(is_by_it(&refusal), "rule {nth} acts until it is gone for good: {refusal:?}");
        shop.engine.run_until_idle();
        settled(permitted);
        shop.hold(SKU);

        // To the other rule and back, before anything is durable: a crash may leave the one in the middle.
        drop(shop.engine.rules(SKU, strict).expect("accepted"));
        drop(shop.engine.rules(SKU, lax).expect("accepted"));
        assert!(is_by_it(&shop.refusal(SKU)), "rule {nth}");
        shop.engine.run_until_idle();
        shop.hold(SKU);
    }
}

#[test]
fn after_a_crash_a_rule_is_the_old_one_or_the_new_one() {
    for (nth, (strict, lax, is_by_it)) in pairs(Shop::new().now_ms()).into_iter().enumerate() {
        for (from, to, starts_strict) in [(&strict, &lax, true), (&lax, &strict, false)] {
            for durable in [false, true] {
                let mut shop = Shop::new();
                shop.rule_merchant(MerchantRules::new().switch(Switch::NoNewHolds));
                shop.rule(SKU, from.clone());
                let changed = shop.engine.rules(SKU, to.clone()).expect("accepted");
                if durable {
                    shop.engine.run_until_idle();
                    settled(changed);
                }
                shop.kill();
                let is_strict = match shop.place(&[(SKU, 1)]) {
                    Placed::Refused(refusal) => is_by_it(&refusal),
                    _ => false,
                };
                assert_eq!(is_strict, starts_strict != durable, "rule {nth}, durable: {durable}");
            }
        }
    }
}

/// The story: a SKU moves from a delisted merchant to another, which is delisted as well before the move is
/// durable. Whichever of the two merchants the crash leaves, it holds nothing that it may not sell.
#[test]
fn of_two_merchants_both_act_until_one_is_known_to_be_the_right_one() {
    let mut shop = Shop::new();
    let (old, new) = (MerchantId::new(1), MerchantId::new(2));
    shop.rule(SKU, SaleRules::new().merchant(old));
    let handed = shop.engine.rules(SKU, SaleRules::new().merchant(new)).expect("accepted");
    let halts = MerchantRules::new().switch(Switch::Halted);
    drop(shop.engine.merchant(old, halts).expect("accepted"));
    let scope = Scope::Merchant(old);
    let switch = Switch::Halted;
    assert_eq!(shop.refusal(SKU), Refusal::Switched { scope, switch });
    shop.engine.run_until_idle();
    settled(handed);
    shop.hold(SKU);
    drop(shop.engine.merchant(new, halts).expect("accepted"));
    let scope = Scope::Merchant(new);
    assert_eq!(shop.refusal(SKU), Refusal::Switched { scope, switch });
}

#[test]
fn a_sku_that_goes_round_faster_than_the_disk_is_refused_by_name() {
    let mut shop = Shop::new();
    let mut handed = Vec::new();
    let error = (1..10).find_map(|merchant| {
        let rules = SaleRules::new().merchant(MerchantId::new(merchant));
        let ruled = shop.engine.rules(SKU, rules);
        ruled.map(|commit| handed.push(commit)).err()
    });
    let expected = doorbuster::StockError::MerchantsInFlight { sku: SKU, max: 4 };
    assert_eq!((handed.len(), error), (4, Some(expected)));
    shop.engine.run_until_idle();
    handed.into_iter().for_each(settled);
    shop.rule(SKU, SaleRules::new().merchant(MerchantId::new(9)));
}

#[test]
fn every_rule_outlives_restarts_and_checkpoints() {
    let mut shop = Shop::new();
    let now_ms = shop.now_ms();
    let rules = SaleRules::new()
        .buyer_limit(3)
        .opens_at_ms(now_ms + 10)
        .closes_at_ms(now_ms + 99)
        .early_access(0, ms(7))
        .early_access(7, ms(3))
        .hold_for(ms(5))
        .safety_stock(11)
        .switch(Switch::NoNewHolds)
        .merchant(MERCHANT);
    shop.rule(SKU, rules);
    shop.rule_merchant(MerchantRules::new().switch(Switch::Halted).rate(5, 6));
    shop.switch(Switch::NoNewHolds);
    let without_floor = |dump: String| dump.split_once('\n').map(|(_, rest)| rest.to_owned());
    let before = without_floor(shop.engine.dump());
    for checkpoint in [false, true, false] {
        if checkpoint {
            shop.kill_after_checkpoint()
        } else {
            shop.kill()
        }
        assert_eq!(without_floor(shop.engine.dump()), before, "checkpoint: {checkpoint}");
    }
    shop.rule_merchant(MerchantRules::new().switch(Switch::Open).no_rate());
    shop.switch(Switch::Open);
    let rules = SaleRules::new().buyer_limit(0).opens_at_ms(0).closes_at_ms(u64::MAX);
    let rules = rules.early_access(0, ms(0)).early_access(7, ms(0)).hold_for(None);
    shop.rule(SKU, rules.safety_stock(0).switch(Switch::Open).merchant(None));
    let after = shop.engine.dump();
    assert!(!after.contains("\nrules") && !after.contains("witch") && !after.contains("merchant"));
    shop.kill_after_checkpoint();
    assert_eq!(without_floor(shop.engine.dump()), without_floor(after));
}

#[test]
fn verify_and_backup_take_rules_along() {
    let mut shop = Shop::new();
    shop.rule(SKU, SaleRules::new().safety_stock(7).merchant(MERCHANT));
    shop.rule_merchant(MerchantRules::new().rate(1, 1));
    shop.switch(Switch::NoNewHolds);
    let copy = doorbuster::testing::MemoryStorage::new();
    let storage: std::sync::Arc<dyn doorbuster::storage::Storage> =
        std::sync::Arc::new(copy.clone());
    shop.engine.backup_to(&storage).expect("copies");
    let mut restored = SteppedEngine::open(options(&copy, &shop.clock)).expect("opens");
    assert_eq!(restored.levels(SKU).map(|levels| levels.kept_back), Some(7));
    let placed = restored.place(Order::new(1, RequestKey::new(9)).line(SKU, 1)).expect("answers");
    let switched = Refusal::Switched { scope: Scope::Engine, switch: Switch::NoNewHolds };
    assert_eq!(placed.peek(), Some(&Placed::Refused(switched)));
    restored.run_until_idle();
    restored.close().expect("closes");
    doorbuster::verify_on(storage).expect("whole");
}
