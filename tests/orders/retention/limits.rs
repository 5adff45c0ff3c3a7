//! Buyer limits outlive the orders that they count.

use doorbuster::{
    Capacity, Options, Order, OrderState, PlaceError, Placed, Refusal, RequestKey, SaleRules,
    StockError, Unavailable,
};

use super::{OTHER, plain, retired};
use crate::shop::{SKU, Shop};
use crate::{MS, RETENTION, one};

/// What the buyer has, when the limit refuses more.
fn taken(placed: &Placed) -> Option<u64> {
    match placed {
        Placed::Refused(Refusal::BuyerLimit { taken, .. }) => Some(*taken),
        _ => None,
    }
}

#[test]
fn what_a_buyer_bought_counts_until_the_sale_ends() {
    let mut shop = Shop::of_two_skus(plain);
    shop.limit(SKU, 2);
    let bought = shop.order_in(7, 1, OrderState::Fulfilled);
    let returned = shop.order_in(7, 2, OrderState::Cancelled);
    shop.pass(RETENTION);
    assert_eq!(shop.state(bought), retired(bought));
    assert_eq!(shop.state(returned), retired(returned));
    for life in 0..3 {
        let two = |key| Order::new(7, RequestKey::new(key)).line(SKU, 2);
        assert_eq!(taken(&shop.place(two(10))), Some(1), "life {life}");
        assert_eq!(shop.engine.stats().buyers_tracked, 1);
        shop.kill();
    }
    shop.hold(one(7, 11));
    assert_eq!(taken(&shop.place(one(7, 12))), Some(2));
    shop.end_sale(SKU);
    for _ in 0..2 {
        assert_eq!(shop.engine.stats().buyers_tracked, 0);
        shop.kill();
    }
    shop.hold(one(7, 13));
    shop.hold(one(7, 14));
}

/// A limit that is set during a sale counts the orders that are in memory then. Those that have left are not known
/// any more.
#[test]
fn a_first_limit_counts_what_is_in_memory() {
    let mut shop = Shop::of_two_skus(plain);
    let gone = shop.order_in(7, 1, OrderState::Fulfilled);
    shop.pass(RETENTION);
    let there = shop.order_in(7, 2, OrderState::Fulfilled);
    shop.limit(SKU, 2);
    shop.pass(RETENTION);
    assert_eq!((shop.state(gone), shop.state(there)), (retired(gone), retired(there)));
    let two = || Order::new(7, RequestKey::new(3)).line(SKU, 2);
    assert_eq!(taken(&shop.place(two())), Some(1));
    shop.kill();
    assert_eq!(taken(&shop.place(two())), Some(1));
}

/// The story: a buyer's order of the last sale is cancelled after the next sale began. It was never counted in this
/// one, so the buyer's count stays.
#[test]
fn orders_of_a_sale_that_ended_never_count_again() {
    let mut shop = Shop::of_two_skus(plain);
    shop.limit(SKU, 1);
    let old = shop.order_in(7, 1, OrderState::Confirmed);
    shop.end_sale(SKU);
    shop.kill();
    let mut shop = shop;
    shop.limit(SKU, 1);
    let new = shop.hold(one(7, 2));
    assert_eq!(taken(&shop.place(one(7, 3))), Some(1));
    shop.settle(|engine| engine.cancel(old).expect("confirmed"));
    for _ in 0..2 {
        assert_eq!(taken(&shop.place(one(7, 3))), Some(1));
        shop.kill();
    }
    shop.settle(|engine| engine.cancel(new).expect("held"));
    shop.hold(one(7, 4));
}

#[test]
fn a_limit_acts_until_the_end_of_the_sale_is_durable() {
    let mut shop = Shop::of_two_skus(plain);
    shop.limit(SKU, 1);
    let ended = shop.engine.end_sale(SKU).expect("known");
    let two = || Order::new(7, RequestKey::new(1)).line(SKU, 2);
    let placed = shop.engine.place(two()).expect("an answer");
    assert_eq!(placed.peek().and_then(taken), Some(0));
    assert!(!ended.is_durable());
    shop.engine.run_until_idle();
    assert!(ended.is_durable());
    shop.hold(two());
}

/// The story: a sale was ended, its buyers bought once more, and the process was killed before the record that
/// lifts the limit was durable. The limit was there again, what they had was forgotten, and they had two under a
/// limit of one.
#[test]
fn an_end_that_a_crash_took_leaves_the_limit_and_what_buyers_have() {
    let mut lost = 0;
    for (first, checkpoint) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut shop = Shop::of_two_skus(plain);
        shop.limit(SKU, 1);
        (0..16).for_each(|buyer| _ = shop.hold(one(buyer, 1)));
        if checkpoint {
            shop.checkpoint();
        }
        let ended = shop.engine.end_sale(SKU).expect("known");
        for buyer in 0..16 {
            let placed = shop.engine.place(one(buyer, 2)).expect("an answer");
            assert_eq!(placed.peek().and_then(taken), Some(1), "the limit acts until it is gone");
        }
        _ = shop.engine.step_writer(first);
        assert!(!ended.is_durable());
        shop.kill();
        let two = Order::new(99, RequestKey::new(1)).line(SKU, 2);
        if taken(&shop.place(two)).is_none() {
            continue;
        }
        lost += 1;
        // Later lives know too that the limit is void.
        for life in 0..3 {
            for buyer in 0..16 {
                assert_eq!(taken(&shop.place(one(buyer, 3))), Some(1), "life {life}");
            }
            shop.kill();
        }
        shop.end_sale(SKU);
        shop.limit(SKU, 1);
        (0..16).for_each(|buyer| _ = shop.hold(one(buyer, 4)));
        for life in 0..3 {
            for buyer in 0..16 {
                assert_eq!(taken(&shop.place(one(buyer, 5))), Some(1), "life {life}");
            }
            shop.kill();
        }
    }
    assert_eq!(lost, 2, "with one of the two shards first, with a checkpoint and without");
}

/// Orders that were placed after the end count when the next limit is set, whether or not the promoter has run.
#[test]
fn a_limit_after_an_end_counts_what_was_ordered_after_it() {
    let mut shop = Shop::of_two_skus(plain);
    shop.limit(SKU, 2);
    (0..16).for_each(|buyer| _ = shop.hold(one(buyer, 1)));
    let ended = shop.engine.end_sale(SKU).expect("known");
    let again = shop.engine.end_sale(SKU).map(drop);
    assert_eq!(again, Err(StockError::SaleEnding { sku: SKU }));
    let limited = shop.engine.rules(SKU, SaleRules::new().buyer_limit(1)).map(drop);
    assert_eq!(limited, Err(StockError::SaleEnding { sku: SKU }));
    (0..8).for_each(|buyer| drop(shop.engine.place(one(buyer, 2)).expect("an answer")));
    while !ended.is_durable() {
        (0..2).for_each(|shard| _ = shop.engine.step_writer(shard));
    }
    shop.limit(SKU, 1);
    for _ in 0..3 {
        (0..8).for_each(|buyer| assert_eq!(taken(&shop.place(one(buyer, 3))), Some(1)));
        shop.kill();
    }
    (8..16).for_each(|buyer| _ = shop.hold(one(buyer, 3)));
}

#[test]
fn a_sale_can_be_ended_again_and_only_of_a_known_sku() {
    let mut shop = Shop::of_two_skus(plain);
    let unknown = doorbuster::SkuId::new(99);
    assert_eq!(
        shop.engine.end_sale(unknown).map(drop),
        Err(StockError::UnknownSku { sku: unknown })
    );
    shop.end_sale(SKU);
    shop.end_sale(SKU);
    shop.limit(SKU, 1);
    shop.hold(one(7, 1));
    shop.end_sale(SKU);
    shop.end_sale(SKU);
    shop.hold(one(7, 2));
}

/// The story: the power goes between the two shards' writes. The limit is there, and one partition's record that it
/// counts from now on is not, or the other way round. In both cases each order counts once, and still counts after
/// it has left memory.
#[test]
fn a_limit_of_which_a_crash_left_a_part_counts_all_the_same() {
    for first in [0, 1] {
        let mut shop = Shop::of_two_skus(plain);
        for buyer in 0..16 {
            shop.order_in(buyer, 1, OrderState::Fulfilled);
        }
        drop(shop.engine.rules(SKU, SaleRules::new().buyer_limit(1)).expect("known"));
        _ = shop.engine.step_writer(first);
        shop.kill();
        // If the limit did not survive, it is set again.
        shop.limit(SKU, 1);
        shop.pass(RETENTION);
        assert_eq!(shop.engine.stats().orders, 0);
        for _ in 0..2 {
            for buyer in 0..16 {
                assert_eq!(taken(&shop.place(one(buyer, 2))), Some(1), "buyer {buyer}");
            }
            shop.kill();
        }
    }
}

/// The same, and the limit is not set again: the log itself must hold what recovery found out.
#[test]
fn what_an_open_counts_anew_is_in_the_log() {
    let mut shop = Shop::of_two_skus(plain);
    for buyer in 0..16 {
        shop.order_in(buyer, 1, OrderState::Fulfilled);
    }
    drop(shop.engine.rules(SKU, SaleRules::new().buyer_limit(1)).expect("known"));
    let survived = (0..2).find(|shard| {
        let storage = shop.storage.clone();
        _ = shop.engine.step_writer(*shard);
        let has_limit = |shop: &Shop| {
            let two = Order::new(99, RequestKey::new(1)).line(SKU, 2);
            shop.engine.place(two).expect("an answer").peek().and_then(taken).is_some()
        };
        let _ = storage;
        has_limit(&shop)
    });
    assert!(survived.is_some());
    shop.kill();
    shop.pass(RETENTION);
    for _ in 0..2 {
        assert_eq!(shop.engine.stats().orders, 0);
        assert_eq!(shop.engine.stats().buyers_tracked, 16);
        for buyer in 0..16 {
            assert_eq!(taken(&shop.place(one(buyer, 2))), Some(1), "buyer {buyer}");
        }
        shop.kill();
    }
}

/// The story: a limit is set, changed and lifted again, and the process is killed as soon as the host knows that
/// one of the first two and the last are durable. The next limit finds no trace of them, and still counts what was
/// in memory when the first one was set.
#[test]
fn a_limit_that_was_lifted_before_a_crash_counts_all_the_same() {
    for (first, waited_for) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut shop = Shop::of_two_skus(plain);
        for buyer in 0..16 {
            shop.order_in(buyer, 1, OrderState::Fulfilled);
        }
        let limit = |units: u32| SaleRules::new().buyer_limit(units);
        let changes = [1, 2, 0].map(|units| shop.engine.rules(SKU, limit(units)).expect("known"));
        let is_told = || changes[waited_for].is_durable() && changes[2].is_durable();
        for shard in [first, 1 - first] {
            if !is_told() {
                _ = shop.engine.step_writer(shard);
            }
        }
        assert!(is_told());
        shop.kill();
        shop.pass(RETENTION);
        assert_eq!(shop.engine.stats().orders, 0);
        shop.limit(SKU, 1);
        for buyer in 0..16 {
            assert_eq!(taken(&shop.place(one(buyer, 2))), Some(1), "buyer {buyer}");
        }
    }
}

#[test]
fn buyers_that_cannot_be_counted_are_refused_and_others_go_on() {
    let few = |options: Options| options.partitions(1).log_shards(1).buyers_tracked_max(3);
    let mut shop = Shop::of_two_skus(few);
    let full = Unavailable::AtCapacity { what: Capacity::BuyersTracked, bound: 3 };
    shop.limit(SKU, 2);
    for buyer in 0..3 {
        shop.order_in(buyer, 1, OrderState::Fulfilled);
    }
    shop.pass(RETENTION);
    assert_eq!(shop.engine.stats().orders, 0);
    let refused = shop.engine.place(one(3, 1)).map(drop);
    assert_eq!(refused, Err(PlaceError::Unavailable(full.clone())));
    // Buyers who are counted already, and SKUs without a limit, are not affected.
    shop.hold(one(2, 2));
    shop.hold(Order::new(3, RequestKey::new(1)).line(OTHER, 1));
    shop.hold(Order::new(4, RequestKey::new(1)).line(OTHER, 1));
    let limited = shop.engine.rules(OTHER, SaleRules::new().buyer_limit(1)).map(drop);
    assert_eq!(limited, Err(StockError::Unavailable(full)));
    shop.hold(Order::new(3, RequestKey::new(2)).line(OTHER, 2));
    shop.end_sale(SKU);
    shop.hold(one(3, 9).hold_for(MS));
    assert_eq!(shop.engine.stats().buyers_tracked, 0);
}
