//! A key that has an order is answered with that order, whatever else is true. A key that was refused is free.

use std::time::Duration;

use doorbuster::error::{Capacity, PlaceError, StockError, Unavailable};
use doorbuster::testing::Step;
use doorbuster::{
    Adjust, Adjusted, Fill, KeyField, KeyReused, Order, Placed, Quantity, Refusal, RequestKey,
    SaleRules, SkuId,
};

use crate::shop::{SKU, Shop, settled};
use crate::{OTHER, order, plain, replayed, small};

/// Places the order of [`order`], whose key the tests retry. It holds one unit.
fn first(shop: &mut Shop) -> doorbuster::OrderId {
    shop.hold(&order(1, 1)).order
}

fn assert_replays(shop: &Shop, id: doorbuster::OrderId) {
    let single = settled(shop.engine.place(order(1, 1)).expect("an answer"));
    assert_eq!(replayed(&single), Some(id), "{single:?}");
    let batch = settled(shop.engine.place_batch(&[order(1, 1)]).expect("a batch is accepted"));
    let batch = batch[0].as_ref().expect("an answer");
    assert_eq!(replayed(batch), Some(id), "{batch:?}");
}

fn unavailable(answer: Result<doorbuster::Commit<Placed>, PlaceError>) -> Unavailable {
    match answer {
        Err(PlaceError::Unavailable(unavailable)) => unavailable,
        other => panic!("unavailable, not {other:?}"),
    }
}

#[test]
fn a_held_key_is_answered_when_all_is_sold_out() {
    let mut shop = Shop::new(plain);
    let id = first(&mut shop);
    shop.hold(&Order::new(2, RequestKey::new(1)).line(SKU, 99));
    let refused = Refusal::SoldOut { sku: SKU, wanted: Quantity::new(1), available: 0 };
    let answer = settled(shop.engine.place(order(3, 1)).expect("an answer"));
    assert_eq!(answer, Placed::Refused(refused));
    assert_replays(&shop, id);
    let lowered = shop.engine.stock(SKU, Adjust::set(0).expect(100).key(1)).expect("accepted");
    shop.engine.run_until_idle();
    assert!(matches!(settled(lowered), Adjusted::Done { stocked: 0, .. }));
    assert_eq!(shop.available(SKU), -100);
    assert_replays(&shop, id);
    // In a batch, after the order that takes the last unit.
    shop.add(OTHER, 1, 1);
    let last = Order::new(5, RequestKey::new(1)).line(OTHER, 101);
    let batch = shop.engine.place_batch(&[last.clone(), last]).expect("a batch is accepted");
    shop.engine.run_until_idle();
    let batch = settled(batch);
    let ids: Vec<_> = batch
        .iter()
        .map(|answer| answer.as_ref().expect("an answer").held().expect("held").order)
        .collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn a_held_key_is_answered_when_the_buyer_is_over_his_limit() {
    let mut shop = Shop::new(plain);
    let id = first(&mut shop);
    drop(shop.engine.rules(SKU, SaleRules::new().buyer_limit(1)).expect("accepted"));
    shop.engine.run_until_idle();
    let refused = Refusal::BuyerLimit {
        sku: SKU,
        wanted: Quantity::new(1),
        taken: 1,
        limit: Quantity::new(1),
    };
    let answer = settled(shop.engine.place(order(1, 2)).expect("an answer"));
    assert_eq!(answer, Placed::Refused(refused));
    assert_replays(&shop, id);
    shop.kill();
    assert_replays(&shop, id);
    let answer = settled(shop.engine.place(order(1, 2)).expect("an answer"));
    assert_eq!(answer, Placed::Refused(refused), "the limit and the counts survive");
}

#[test]
fn a_held_key_is_answered_when_the_log_is_behind_and_a_refused_one_is_free() {
    let tight = |options: doorbuster::Options| {
        small(options).partitions(1).log_shards(1).log_backlog_bytes_max(536)
    };
    let mut shop = Shop::new(tight);
    let id = first(&mut shop);
    let held = (2..).take_while(|buyer| shop.engine.place(order(*buyer, 1)).is_ok()).count();
    assert_eq!(held, 8);
    let before = shop.seen();
    let backlogged = unavailable(shop.engine.place(order(50, 1)));
    assert_eq!(backlogged, Unavailable::Backlogged { bytes: 512, max: 536 });
    assert!(backlogged.to_string().contains("512 bytes wait for the disk, at most 536"));
    let batch = shop.engine.place_batch(&[order(50, 1)]).expect("a batch is accepted");
    assert!(matches!(
        settled(batch)[0],
        Err(PlaceError::Unavailable(Unavailable::Backlogged { .. }))
    ));
    assert_eq!(shop.seen(), before);
    assert_replays(&shop, id);
    // Endings have room that orders do not have.
    let confirmed = shop.engine.confirm(id).expect("there is room");
    shop.engine.run_until_idle();
    assert!(confirmed.is_durable());
    shop.hold(&Order::new(50, RequestKey::new(1)).line(OTHER, 2));
}

#[test]
fn adjustments_are_refused_by_name_when_the_log_is_behind() {
    let tight = |options: doorbuster::Options| {
        small(options).partitions(1).log_shards(1).log_backlog_bytes_max(536)
    };
    let mut shop = Shop::new(tight);
    let add = |shop: &Shop, sku: u64, key: u128| shop.engine.stock(sku, Adjust::add(1).key(key));
    drop(add(&shop, 1, 1).expect("accepted"));
    let taken = (2..).take_while(|key| add(&shop, 1, *key).is_ok()).count() as u128;
    let before = shop.seen();
    let refused = add(&shop, 1, taken + 2).expect_err("backlogged");
    assert!(matches!(refused, StockError::Unavailable(Unavailable::Backlogged { max: 536, .. })));
    assert_eq!(shop.seen(), before);
    assert!(matches!(
        add(&shop, 1, 1).expect("a repeat").peek(),
        Some(Adjusted::Done { replayed: true, .. })
    ));
    shop.engine.run_until_idle();
    shop.add(SKU, 1, taken + 2);
    assert_eq!(shop.available(SKU), 102 + taken as i64);
}

#[test]
fn a_held_key_is_answered_at_capacity_and_a_refused_one_is_free() {
    let full = |options: doorbuster::Options| options.partitions(1).log_shards(1).orders_max(2);
    let mut shop = Shop::new(full);
    let id = first(&mut shop);
    shop.hold(&order(2, 1));
    let before = shop.seen();
    let bound = Unavailable::AtCapacity { what: Capacity::Orders, bound: 2 };
    assert_eq!(unavailable(shop.engine.place(order(3, 1))), bound);
    assert!(bound.to_string().contains("orders of one partition are bounded at 2"));
    assert_eq!(shop.seen(), before);
    assert_replays(&shop, id);
    shop.kill_and_adapt(full);
    assert_replays(&shop, id);
    assert_eq!(unavailable(shop.engine.place(order(3, 1))), bound);
    shop.kill_and_adapt(move |options| full(options).orders_max(3));
    assert_replays(&shop, id);
    shop.hold(&Order::new(3, RequestKey::new(1)).line(OTHER, 5));
}

#[test]
fn skus_have_a_bound_that_is_named() {
    let shop = Shop::new(|options| options.skus_max(3));
    let before = shop.seen();
    let refused = shop.engine.stock(4, Adjust::add(1).key(1)).expect_err("full");
    let bound = Unavailable::AtCapacity { what: Capacity::Skus, bound: 3 };
    assert_eq!(refused, StockError::Unavailable(bound));
    assert_eq!(shop.seen(), before);
}

#[test]
fn a_held_key_is_answered_when_the_disk_is_full_and_a_refused_one_is_free() {
    let tiny = |options: doorbuster::Options| small(options).partitions(1).log_shards(1);
    let mut shop = Shop::new(tiny);
    let id = first(&mut shop);
    shop.storage.set_capacity_bytes(Some(0));
    let mut buyer = 1;
    let full = loop {
        buyer += 1;
        shop.engine.step_segments();
        match shop.engine.place(order(buyer, 1)) {
            Ok(placed) => {
                assert_eq!(shop.engine.step_writer(0), Step::Wrote);
                assert!(placed.is_durable());
            }
            refused => break unavailable(refused),
        }
    };
    assert_eq!(full, Unavailable::DiskFull { segment_bytes: 32 << 10 });
    assert!(full.to_string().contains("32768 bytes"), "{full}");
    let refused = shop.engine.stock(SKU, Adjust::add(1).key(9)).expect_err("full");
    assert_eq!(refused, StockError::Unavailable(full));
    assert_replays(&shop, id);
    shop.storage.set_capacity_bytes(None);
    shop.engine.run_until_idle();
    shop.hold(&Order::new(buyer, RequestKey::new(1)).line(OTHER, 2));
    shop.add(SKU, 1, 9);
}

#[test]
fn a_held_key_is_answered_with_its_first_outcome_whatever_became_of_the_order() {
    let hold = Duration::from_secs(5);
    for ending in 0..5 {
        let mut shop = Shop::new(plain);
        let held = shop.hold(&order(1, 1).hold_for(hold));
        let engine = shop.engine.engine().clone();
        match ending {
            0 => {}
            1 => drop(engine.cancel(held.order)),
            2 => drop(engine.confirm(held.order)),
            3 => drop(engine.confirm(held.order).and_then(|_| engine.fulfil(held.order))),
            _ => shop.pass(hold),
        }
        drop(engine);
        shop.engine.run_until_idle();
        for restart in [false, true] {
            if restart {
                shop.kill();
            }
            let again = shop.engine.place(order(1, 1).hold_for(hold)).expect("an answer");
            let again = *settled(again).held().expect("the first outcome");
            assert_eq!((again.order, again.deadline_ms), (held.order, held.deadline_ms));
            assert!(again.replayed);
        }
    }
}

/// The story: the buyer's client sends the very same request again after the service was restarted with another
/// default. The order and its hold are as they were.
#[test]
fn a_held_key_is_answered_after_a_restart_with_another_default_hold() {
    let mut shop = Shop::new(plain);
    let id = first(&mut shop);
    shop.kill_and_adapt(|options| options.hold_default(Duration::from_secs(60)));
    assert_replays(&shop, id);
}

/// The story: the same, with bounds that this order would break if it were new.
#[test]
fn a_held_key_is_answered_after_a_restart_with_tighter_bounds() {
    let mut shop = Shop::new(plain);
    let large = order(1, 1).line(OTHER, 1).payload(vec![7; 100]).hold_for(Duration::from_secs(100));
    let id = shop.hold(&large).order;
    let tighter: [fn(doorbuster::Options) -> doorbuster::Options; 3] = [
        |options| options.payload_bytes_max(10),
        |options| options.lines_max(1),
        |options| options.hold_max(Duration::from_secs(60)).hold_default(Duration::from_secs(60)),
    ];
    for tighten in tighter {
        shop.kill_and_adapt(tighten);
        let again = settled(shop.engine.place(&large).expect("the first outcome"));
        assert_eq!(replayed(&again), Some(id));
    }
}

/// What the engine compares of a policy: its kind, and a partial order's minimums with its lines, but not the class
/// and the patience. It compares the same in this life, after a crash, and from a checkpoint.
#[test]
fn a_held_key_is_compared_by_the_kind_of_its_policy() {
    let mut shop = Shop::new(plain);
    let wait = |seconds| Fill::Wait { patience: Duration::from_secs(seconds) };
    let partial = || order(3, 1).line(OTHER, 4).fill(Fill::Partial).min_quantity(OTHER, 2);
    let ids: Vec<_> = [order(1, 1), order(2, 1).fill(wait(5)), partial()]
        .iter()
        .map(|order| shop.hold(order).order)
        .collect();
    for life in 0..3 {
        let placed = |order: &Order| settled(shop.engine.place(order).expect("the first outcome"));
        let same = [order(1, 1).class(1), order(2, 1).fill(wait(9)).class(7), partial().class(2)];
        for (order, id) in same.iter().zip(&ids) {
            assert_eq!(replayed(&placed(order)), Some(*id), "{order:?}");
        }
        let other = [
            (0, order(1, 1).fill(wait(5)), KeyField::Policy),
            (0, order(1, 1).fill(Fill::Partial), KeyField::Policy),
            (1, order(2, 1), KeyField::Policy),
            (2, partial().min_quantity(OTHER, 3), KeyField::Lines),
            (2, partial().min_quantity(OTHER, 0), KeyField::Lines),
            (2, partial().min_quantity(SKU, 1), KeyField::Lines),
        ];
        for (nth, order, field) in other {
            let reused = KeyReused { order: Some(ids[nth]), field };
            assert_eq!(placed(&order), Placed::KeyReused(reused), "{order:?}");
        }
        if life == 1 {
            shop.checkpoint();
        }
        shop.kill();
    }
}

#[test]
fn a_refused_order_leaves_its_key_free_for_anything() {
    let mut shop = Shop::new(plain);
    drop(shop.engine.rules(OTHER, SaleRules::new().buyer_limit(2)).expect("accepted"));
    shop.engine.run_until_idle();
    let refused = [
        Order::new(1, RequestKey::new(1)).line(SKU, 101),
        Order::new(1, RequestKey::new(1)).line(OTHER, 3),
        // The second line falls short after the first was taken.
        Order::new(1, RequestKey::new(1)).line(SKU, 1).line(OTHER, 1).line(crate::EMPTY, 1),
    ];
    for order in &refused {
        let before = shop.seen().0;
        let answer = shop.engine.place(order).expect("an answer");
        assert!(matches!(settled(answer), Placed::Refused(_)), "{order:?}");
        let batch =
            shop.engine.place_batch(std::slice::from_ref(order)).expect("a batch is accepted");
        assert!(matches!(settled(batch)[..], [Ok(Placed::Refused(_))]), "{order:?}");
        assert_eq!(shop.seen().0, before);
        assert_eq!(shop.engine.stats().orders, 0);
    }
    shop.kill();
    shop.hold(&Order::new(1, RequestKey::new(1)).line(OTHER, 2).payload(&b"at last"[..]));
    // By the same key, in the same batch as the refusal.
    let batch = [
        Order::new(2, RequestKey::new(1)).line(SkuId::new(3), 1),
        Order::new(2, RequestKey::new(1)).line(SKU, 1),
    ];
    let batch = shop.engine.place_batch(&batch).expect("a batch is accepted");
    shop.engine.run_until_idle();
    let answers = settled(batch);
    assert!(matches!(
        answers[..],
        [Ok(Placed::Refused(Refusal::SoldOut { .. })), Ok(Placed::Held(_))]
    ));
}
