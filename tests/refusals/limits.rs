//! Buyer limits, deficits, and the edges of the figures.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use doorbuster::error::{Capacity, OrderError, PlaceError, StockError, Unavailable};
use doorbuster::testing::{ManualClock, MemoryStorage, Step, SteppedEngine};
use doorbuster::{
    Adjust, Engine, Order, OrderId, OrderState, Placed, Refusal, RequestKey, STOCK_MAX, SaleRules,
    SkuId, Transition,
};

use crate::shop::{SKU, Shop, options, settled};
use crate::{OTHER, order, plain, small};

/// Long enough that only a test that hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(15);

fn limit(shop: &mut Shop, units: u32) {
    drop(shop.engine.rules(SKU, SaleRules::new().buyer_limit(units)).expect("accepted"));
    shop.engine.run_until_idle();
}

/// Whether the limit refuses this many more units for the buyer. If they are held, they are cancelled again.
fn refuses(shop: &mut Shop, buyer: u64, key: u128, units: u32) -> bool {
    let order = Order::new(buyer, RequestKey::new(key)).line(OTHER, 1).line(SKU, units);
    let placed = shop.engine.place(order).expect("an answer");
    shop.engine.run_until_idle();
    match settled(placed) {
        Placed::Refused(Refusal::BuyerLimit { sku, .. }) => {
            assert_eq!(sku, SKU);
            true
        }
        Placed::Held(held) => {
            drop(shop.engine.cancel(held.order).expect("known"));
            shop.engine.run_until_idle();
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_limit_counts_what_the_buyer_holds_has_paid_and_has_got() {
    let mut shop = Shop::new(plain);
    let ids: Vec<OrderId> = (1..=4)
        .map(|key| shop.hold(&order(1, key).hold_for(Duration::from_secs(key as u64))).order)
        .collect();
    drop(shop.engine.confirm(ids[1]).expect("known"));
    for verb in [Engine::confirm, Engine::fulfil] {
        drop(verb(&shop.engine, ids[2]).expect("known"));
    }
    limit(&mut shop, 4);
    for restart in [false, true] {
        if restart {
            shop.kill();
        }
        let base = 100 * u128::from(restart);
        assert!(refuses(&mut shop, 1, base + 10, 1), "those placed before the limit count");
        assert!(!refuses(&mut shop, 2, base + 10, 4));
        assert!(refuses(&mut shop, 2, base + 11, 5));
    }
    drop(shop.engine.cancel(ids[3]).expect("known"));
    assert!(!refuses(&mut shop, 1, 20, 1), "given back within the partition at once");
    shop.pass(Duration::from_secs(1));
    assert_eq!(shop.engine.order(ids[0]).expect("known").state, OrderState::Expired);
    assert!(!refuses(&mut shop, 1, 21, 2));
    assert!(refuses(&mut shop, 1, 22, 3), "what is paid and what is shipped stays counted");
    drop(shop.engine.cancel(ids[1]).expect("known"));
    assert!(!refuses(&mut shop, 1, 23, 3));
}

#[test]
fn while_a_rule_is_not_durable_the_stricter_of_old_and_new_acts() {
    let mut shop = Shop::new(plain);
    limit(&mut shop, 3);
    let taken = |shop: &Shop, buyer: u64, units: u32| {
        let order = Order::new(buyer, RequestKey::new(1)).line(SKU, units);
        let placed = shop.engine.place(order).expect("an answer");
        matches!(placed.peek(), Some(Placed::Held(_)))
    };
    let rule = |shop: &Shop, units: u32| {
        drop(shop.engine.rules(SKU, SaleRules::new().buyer_limit(units)).expect("accepted"));
    };
    rule(&shop, 5);
    assert!(!taken(&shop, 1, 4), "a looser limit acts only when it is durable");
    rule(&shop, 2);
    assert!(!taken(&shop, 2, 3), "a stricter limit acts at once");
    rule(&shop, 0);
    assert!(!taken(&shop, 3, 3), "none is looser than any");
    shop.engine.run_until_idle();
    assert!(taken(&shop, 4, 90));
    rule(&shop, 1);
    assert!(!taken(&shop, 5, 2), "any is stricter than none");
}

/// At its deadline a hold is over, so the buyer no longer holds its units, whether or not the timekeeper has run.
#[test]
fn a_hold_that_is_over_does_not_count_towards_the_limit() {
    let mut shop = Shop::new(plain);
    limit(&mut shop, 1);
    let over = shop.hold(&order(1, 1).hold_for(Duration::from_secs(1)));
    shop.clock.advance(Duration::from_secs(1));
    assert!(shop.engine.now_ms() >= over.deadline_ms);
    let placed = shop.engine.place(order(1, 2)).expect("an answer");
    assert!(matches!(placed.peek(), Some(Placed::Held(_))), "{placed:?}");
}

#[test]
fn a_deficit_is_repaid_before_anyone_can_have_a_unit() {
    let mut shop = Shop::new(plain);
    let ids: Vec<OrderId> =
        (1..=10).map(|key| shop.hold(&Order::new(key as u64, key).line(SKU, 10)).order).collect();
    drop(shop.engine.stock(SKU, Adjust::set(85).expect(100).key(1)).expect("accepted"));
    assert_eq!(shop.available(SKU), -15, "at once");
    shop.engine.run_until_idle();
    let wants_one = |shop: &Shop, key: u128| {
        let placed = shop.engine.place(order(50, key)).expect("an answer");
        placed.peek().expect("an answer").clone()
    };
    drop(shop.engine.cancel(ids[0]).expect("known"));
    shop.engine.run_until_idle();
    assert_eq!(shop.available(SKU), -5);
    let Placed::Refused(Refusal::SoldOut { available: -5, .. }) = wants_one(&shop, 1) else {
        panic!("it owes five")
    };
    shop.kill();
    assert_eq!(shop.available(SKU), -5);
    drop(shop.engine.cancel(ids[1]).expect("known"));
    shop.engine.run_until_idle();
    assert_eq!(shop.available(SKU), 5);
    assert!(matches!(wants_one(&shop, 2), Placed::Held(_)));
    let levels = shop.engine.levels(SKU).expect("known");
    assert_eq!(levels.stocked, 85);
    assert!(levels.add_up());
}

/// The story: a `set` that lowers the stock acts at once, one that raises it acts when it is durable. While the
/// disk is behind, a host that lowers and raises again and again owes more and more. The figure must not wrap
/// around into stock that does not exist.
#[test]
fn no_number_of_sets_in_flight_makes_stock_out_of_nothing() {
    let mut shop = Shop::new(plain);
    let sku = SkuId::new(4);
    let mut key = 0;
    let mut set = |shop: &Shop, expected: u32, units: u32| {
        key += 1;
        shop.engine.stock(sku, Adjust::set(units).expect(expected).key(key))
    };
    drop(set(&shop, 0, STOCK_MAX).expect("accepted"));
    shop.engine.run_until_idle();
    let mut stocked = STOCK_MAX;
    for round in 0..8 {
        let (lowered, raised) = (set(&shop, STOCK_MAX, 0), set(&shop, 0, STOCK_MAX));
        if lowered.is_err() || raised.is_err() {
            stocked = if lowered.is_err() { STOCK_MAX } else { 0 };
            break;
        }
        let available = shop.available(sku);
        assert!(available <= 0, "round {round}: {available} available out of nothing");
    }
    shop.engine.run_until_idle();
    assert_eq!(shop.available(sku), i64::from(stocked));
}

/// A shard that has no room for another segment refuses new orders. Every order that it accepted can still be
/// confirmed and fulfilled, or cancelled, one by one.
#[test]
fn endings_have_room_on_a_full_disk() {
    let tiny = |options: doorbuster::Options| small(options).partitions(1).log_shards(1);
    let mut shop = Shop::new(tiny);
    let mut held = Vec::new();
    for buyer in 1.. {
        if buyer == 40 {
            shop.storage.set_capacity_bytes(Some(0));
        }
        shop.engine.step_segments();
        match shop.engine.place(order(buyer, 1)) {
            Ok(placed) => {
                assert_eq!(shop.engine.step_writer(0), Step::Wrote);
                held.push(settled(placed).held().expect("there is enough").order);
            }
            Err(PlaceError::Unavailable(Unavailable::DiskFull { .. })) => break,
            other => panic!("{other:?}"),
        }
    }
    for (nth, id) in held.iter().enumerate() {
        for verb in [Engine::confirm, Engine::fulfil] {
            let ended: Result<_, OrderError> = verb(&shop.engine, *id);
            let ended = ended.unwrap_or_else(|error| panic!("{nth} of {}: {error}", held.len()));
            let step = shop.engine.step_writer(0);
            assert_eq!(step, Step::Wrote, "ending {nth} of {} orders", held.len());
            assert!(matches!(settled(ended), Transition::Done { .. }));
        }
    }
}

/// The disk fills up between two looks of the keeper of segments. An order that was placed in between may have to
/// wait for room. It is not lost, and it is durable once there is room.
#[test]
fn what_was_taken_before_the_disk_was_full_becomes_durable_when_there_is_room() {
    let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
    let options = small(options(&storage, &clock)).partitions(1).log_shards(1);
    let engine = Engine::open(options).expect("opens");
    let added = engine.stock(SKU, Adjust::add(1_000_000).key(1)).expect("accepted");
    added.wait().expect("durable");
    storage.set_capacity_bytes(Some(0));
    let mut commits = Vec::new();
    for buyer in 1.. {
        match engine.place(order(buyer, 1)) {
            Ok(placed) => commits.push(placed),
            Err(PlaceError::Unavailable(Unavailable::DiskFull { .. })) => break,
            // The same disk, in the other case.
            Err(PlaceError::Unavailable(Unavailable::Backlogged { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
    storage.set_capacity_bytes(None);
    let taken = commits.len();
    for (nth, mut commit) in commits.into_iter().enumerate() {
        let answer = commit.wait_timeout(PATIENCE);
        assert!(matches!(answer, Some(Ok(_))), "order {nth} of {taken}: {answer:?}");
    }
}

/// The story: an id has 43 bits for its sequence, and every open after a crash skips 2^20 of them. A service that
/// was restarted in a loop for months reaches the end. Then ids must not start again from 0.
#[test]
fn order_ids_that_ran_out_are_a_named_refusal() {
    // The second folder is one in which an earlier version used ids beyond the end of this version's.
    for (sequence, left) in [((1_u64 << 43) - 2, 2), ((1 << 54) - 2, 0)] {
        order_ids_run_out(sequence, left);
    }
}

fn order_ids_run_out(sequence: u64, left: usize) {
    let one = |options: doorbuster::Options| options.partitions(1).log_shards(1);
    let mut shop = Shop::new(one);
    let first = shop.hold(&order(1, 1)).order;
    let storage = shop.storage.kill();
    let mut manifest = storage.read_file("MANIFEST").expect("there");
    manifest[40..48].copy_from_slice(&sequence.to_le_bytes());
    let body = manifest.len() - 32;
    let hash = *blake3::hash(&manifest[..body]).as_bytes();
    manifest[body..].copy_from_slice(&hash);
    storage.overwrite("MANIFEST", 0, &manifest).expect("there");
    let engine = SteppedEngine::open(one(options(&storage, &shop.clock)));
    let engine = engine.expect("the orders that are there can still end");
    let mut given = BTreeSet::from([first]);
    for buyer in 2..8 {
        match engine.place(order(buyer, 1)) {
            Ok(placed) => {
                let held = *placed.peek().expect("an answer").held().expect("there is enough");
                assert!(given.insert(held.order), "{} was given before", held.order);
                assert!(held.order.get() < 1 << 53);
                assert_eq!(engine.order(held.order).expect("known").buyer, buyer.into());
            }
            Err(PlaceError::Unavailable(Unavailable::AtCapacity {
                what: Capacity::OrderIds,
                ..
            })) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(given.len(), 1 + left);
    assert_eq!(engine.order(first).expect("known").buyer, 1_u64.into());
}

/// A host that lowers stock which is not durable yet may not owe more than any stock can be. The error names that
/// bound, and does not tell the host to wait for room in the log.
#[test]
fn a_set_that_would_owe_too_much_is_named_until_the_log_has_caught_up() {
    let mut shop = Shop::new(plain);
    let sku = SkuId::new(50);
    let set = |engine: &SteppedEngine, units: u32, expected: u32, key: u128| {
        engine.stock(sku, Adjust::set(units).expect(expected).key(key))
    };
    for round in 0..2 {
        let key = 10 * round;
        drop(set(&shop.engine, STOCK_MAX, 0, key).expect("accepted"));
        let lowered = set(&shop.engine, 0, STOCK_MAX, key + 1);
        if round == 0 {
            drop(lowered.expect("accepted"));
            continue;
        }
        let owes = StockError::OwesTooMuch { sku, units: 2 * u64::from(STOCK_MAX), max: STOCK_MAX };
        assert_eq!(lowered.expect_err("too much"), owes);
        shop.engine.run_until_idle();
        drop(set(&shop.engine, 0, STOCK_MAX, key + 1).expect("it has caught up"));
    }
    shop.engine.run_until_idle();
    let levels = shop.engine.levels(sku).expect("known");
    assert_eq!((levels.stocked, levels.available), (0, 0));
}
