//! When a hold ends, and when its stock comes back.

use std::time::Duration;

use doorbuster::error::{CommitError, OrderError, Unavailable};
use doorbuster::testing::{MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, Commit, Engine, HOLD_MAX, Order, OrderId, OrderState, Placed, Refusal, RequestKey,
    SaleRules, Transition,
};
use fastrand::Rng;

use super::{CONFIRMED, TOO_LATE, ms};
use crate::seeds::{Rerun, seeds};
use crate::shop::{SKU, Shop, options, settled};

#[test]
fn a_confirm_is_in_time_one_millisecond_before_the_deadline_and_late_at_it() {
    for hold in [ms(1), ms(2), ms(255), ms(256), ms(257), ms(900_000), ms(1 << 24), HOLD_MAX] {
        let mut shop = Shop::selling(2);
        let placed_ms = shop.engine.now_ms();
        let (early, late) = (shop.hold_for(1, hold), shop.hold_for(2, hold));
        for held in [early, late] {
            assert_eq!(held.deadline_ms - placed_ms, hold.as_millis() as u64);
        }
        shop.advance_to(early.deadline_ms - 1);
        shop.engine.step_timekeeper();
        assert_eq!(shop.levels(SKU).held, 2, "{hold:?}: nothing ends early");
        shop.clock.advance(Duration::from_nanos(999_999));
        assert_eq!(shop.confirm(early.order), CONFIRMED, "{hold:?}");
        shop.clock.advance(Duration::from_nanos(1));
        let confirmed = shop.engine.confirm(late.order).expect("known");
        assert!(!confirmed.is_durable(), "its answer rests on the expiry's record");
        shop.engine.run_until_idle();
        assert_eq!(settled(confirmed), TOO_LATE, "{hold:?}");
        let levels = shop.levels(SKU);
        assert_eq!((levels.available, levels.held, levels.sold), (1, 0, 1));
    }
}

#[test]
fn a_hold_is_rounded_up_to_whole_milliseconds() {
    let mut shop = Shop::selling(2);
    shop.clock.advance(Duration::from_nanos(999_999));
    let held = shop.hold_for(1, Duration::from_nanos(1_000_001));
    assert_eq!(held.deadline_ms, shop.engine.now_ms() + 2);
}

#[test]
fn at_the_deadline_every_verb_and_every_read_finds_the_hold_over() {
    type Verb = fn(&Engine, OrderId) -> Result<Commit<Transition>, OrderError>;
    let verbs: [Verb; 3] = [Engine::confirm, Engine::cancel, Engine::fulfil];
    for verb in verbs {
        let mut shop = Shop::selling(1);
        let held = shop.hold_for(1, ms(10));
        shop.advance_to(held.deadline_ms);
        let said = verb(&shop.engine, held.order).expect("known");
        shop.engine.run_until_idle();
        assert_eq!(settled(said), TOO_LATE, "the timekeeper has not run");
        assert_eq!(shop.engine.stats().expired, 1);
    }
    let shop = Shop::selling(1);
    let held = shop.place_for(1, ms(10));
    shop.advance_to(held.deadline_ms - 1);
    assert_eq!(shop.engine.order(held.order).expect("known").state, OrderState::Held);
    shop.advance_to(held.deadline_ms);
    let view = shop.engine.order(held.order).expect("known");
    assert_eq!((view.state, view.durable), (OrderState::Expired, false));
}

#[test]
fn the_stock_of_an_expired_hold_comes_back_when_its_record_is_durable() {
    for told_by in ["the timekeeper", "a confirm", "a read"] {
        let mut shop = Shop::selling(1);
        let held = shop.hold_for(1, ms(50));
        shop.advance_to(held.deadline_ms);
        match told_by {
            "the timekeeper" => assert!(!shop.engine.step_timekeeper()),
            "a confirm" => drop(shop.engine.confirm(held.order)),
            _ => drop(shop.engine.order(held.order)),
        }
        let levels = shop.levels(SKU);
        assert_eq!((levels.available, levels.held, levels.returning), (0, 0, 1), "{told_by}");
        assert!(levels.add_up());
        let wanted = Order::new(2, RequestKey::new(1)).line(SKU, 1);
        let refused = shop.engine.place(&wanted).expect("an answer");
        assert!(matches!(settled(refused), Placed::Refused(Refusal::SoldOut { available: 0, .. })));
        // A crash before the record is written takes the expiry back, and nothing else.
        let copy = shop.storage.deep_copy();
        let reopened = SteppedEngine::open(options(&copy, &shop.clock));
        let mut reopened = reopened.expect("opens");
        let levels = reopened.levels(SKU).expect("known");
        assert_eq!((levels.available, levels.held), (0, 1), "{told_by}");
        reopened.run_until_idle();
        assert_eq!(reopened.levels(SKU).expect("known").available, 1, "{told_by}");

        shop.engine.run_until_idle();
        let levels = shop.levels(SKU);
        assert_eq!((levels.available, levels.held, levels.returning), (1, 0, 0), "{told_by}");
        assert!(
            shop.engine
                .place(&wanted)
                .expect("an answer")
                .peek()
                .is_some_and(|placed| placed.held().is_some())
        );
    }
}

#[test]
fn a_hold_ends_once_however_often_one_looks() {
    let mut shop = Shop::selling(1);
    let held = shop.hold_for(1, ms(50));
    shop.advance_to(held.deadline_ms);
    for _ in 0..3 {
        assert_eq!(shop.confirm(held.order), TOO_LATE);
        shop.engine.step_timekeeper();
        assert_eq!(shop.engine.order(held.order).expect("known").state, OrderState::Expired);
    }
    assert_eq!((shop.engine.stats().expired, shop.levels(SKU).available), (1, 1));
    shop.kill();
    assert_eq!(shop.confirm(held.order), TOO_LATE);
    assert_eq!((shop.engine.stats().expired, shop.levels(SKU).available), (0, 1));
}

#[test]
fn what_was_paid_or_called_off_in_time_does_not_expire() {
    let mut shop = Shop::selling(3);
    let held: Vec<_> = (1..=3).map(|buyer| shop.hold_for(buyer, ms(50))).collect();
    assert_eq!(shop.confirm(held[0].order), CONFIRMED);
    assert_eq!(shop.confirm(held[1].order), CONFIRMED);
    drop(shop.engine.fulfil(held[1].order).expect("known"));
    drop(shop.engine.cancel(held[2].order).expect("known"));
    shop.engine.run_until_idle();
    shop.pass(ms(1_000_000));
    let states: Vec<_> =
        held.iter().map(|held| shop.engine.order(held.order).expect("known").state).collect();
    assert_eq!(states, [OrderState::Confirmed, OrderState::Fulfilled, OrderState::Cancelled]);
    assert_eq!((shop.levels(SKU).available, shop.levels(SKU).sold), (1, 2));
    assert_eq!(shop.engine.stats().expired, 0);
}

/// More holds end at one moment than the timekeeper ends under one lock.
#[test]
fn a_thousand_holds_that_end_together_all_end() {
    let mut shop = Shop::selling(3_000);
    for buyer in 0..3_000 {
        shop.place_for(buyer, ms(40));
    }
    shop.engine.run_until_idle();
    shop.clock.advance(ms(40));
    let mut rounds = 1;
    while shop.engine.step_timekeeper() {
        rounds += 1;
    }
    assert!(rounds > 1, "not all under one lock");
    assert_eq!((shop.levels(SKU).held, shop.levels(SKU).returning), (0, 3_000));
    shop.engine.run_until_idle();
    assert_eq!((shop.levels(SKU).available, shop.levels(SKU).returning), (3_000, 0));
}

/// The disk is so far behind that there is no room for the expiry's record either. The hold is over all the same,
/// and no caller can confirm it.
#[test]
fn a_hold_is_over_even_when_the_log_has_no_room_to_say_so() {
    let (storage, clock) = (MemoryStorage::new(), Default::default());
    let tight = options(&storage, &clock)
        .partitions(1)
        .log_shards(1)
        .lines_max(1)
        .payload_bytes_max(0)
        .log_backlog_bytes_max(536);
    let mut engine = SteppedEngine::open(tight).expect("opens");
    drop(engine.stock(SKU, Adjust::add(1_000).key(1)).expect("accepted"));
    engine.run_until_idle();
    let place = |engine: &SteppedEngine, buyer: u64, hold: Duration| {
        let order = Order::new(buyer, RequestKey::new(1)).line(SKU, 1).hold_for(hold);
        let placed = engine.place(order).ok()?;
        placed.peek().and_then(|placed| placed.held()).map(|held| held.order)
    };
    let mut due = Vec::new();
    for buyer in 0..30 {
        due.extend(place(&engine, buyer, ms(20)));
        engine.run_until_idle();
    }
    assert_eq!(due.len(), 30);
    let filled = (100..).map_while(|buyer| place(&engine, buyer, ms(90_000))).count();
    assert_eq!(filled, 8);
    clock.advance(ms(20));
    engine.step_timekeeper();
    let held = engine.levels(SKU).expect("known").held;
    assert!(held > 8 && held < 38, "some were logged, {held} are left");
    for order in &due {
        match engine.confirm(*order) {
            Err(OrderError::Unavailable(Unavailable::Backlogged { .. })) => {}
            Ok(said) => assert_eq!(said.peek(), Some(&TOO_LATE)),
            other => panic!("{other:?}"),
        }
    }
    engine.run_until_idle();
    engine.run_until_idle();
    assert_eq!(engine.levels(SKU).expect("known").held, 8);
    assert_eq!(engine.stats().expired, 30);
}

/// Deadlines of all sizes and a clock that steps by all sizes: after each run of the timekeeper exactly the holds
/// that are due have ended.
#[test]
fn exactly_what_is_due_ends() {
    for seed in seeds("EXPIRY_SEED", 6) {
        let _rerun = Rerun::new("EXPIRY_SEED", seed, "--test orders exactly_what_is_due_ends");
        let mut random = Rng::with_seed(seed);
        let mut shop = Shop::selling(1_000_000);
        let mut deadlines: Vec<u64> = Vec::new();
        let any_ms = |random: &mut Rng| {
            let bits = 1 + random.u64(..31);
            (1 + random.u64(..1 << bits)).min(HOLD_MAX.as_millis() as u64)
        };
        for buyer in 0..600 {
            if random.u64(..100) < 60 {
                deadlines.push(shop.place_for(buyer, ms(any_ms(&mut random))).deadline_ms);
                continue;
            }
            if random.u64(..100) < 10 {
                // Not later than the writer may write: see the restarts.
                shop.engine.run_until_idle();
                shop.kill();
            }
            // Often a step to a deadline, or to a moment beside it.
            let now_ms = shop.engine.now_ms();
            let next_ms = deadlines.iter().copied().filter(|due| *due > now_ms).min();
            let by_ms = match next_ms {
                Some(next_ms) if random.u64(..100) < 70 => next_ms - now_ms - random.u64(..2),
                _ => any_ms(&mut random) / 64,
            };
            shop.engine.run_until_idle();
            shop.clock.advance(ms(by_ms));
            while shop.engine.step_timekeeper() {}
            let now_ms = shop.engine.now_ms();
            let live = deadlines.iter().filter(|due| **due > now_ms).count();
            assert_eq!(shop.levels(SKU).held, live as i64, "at {now_ms}");
        }
    }
}

/// The story: a flood of holds is over at once. Before the timekeeper has run, a buyer orders again whose limit one
/// of those holds had used up.
#[test]
fn a_hold_that_is_over_does_not_count_however_many_are_over_with_it() {
    let buyers = 3_000;
    let mut shop = Shop::selling(buyers as u32 + 2);
    drop(shop.engine.rules(SKU, SaleRules::new().buyer_limit(1)).expect("accepted"));
    shop.engine.run_until_idle();
    for buyer in 0..buyers {
        shop.place_for(buyer, ms(100));
    }
    shop.engine.run_until_idle();
    let again = |key: u128| Order::new(buyers - 1, RequestKey::new(key)).line(SKU, 1);
    let refused = shop.engine.place(again(2)).expect("an answer");
    assert!(matches!(refused.peek(), Some(Placed::Refused(Refusal::BuyerLimit { .. }))));
    shop.clock.advance(ms(100));
    let placed = shop.engine.place(again(2)).expect("an answer");
    assert!(placed.peek().is_some_and(|placed| placed.held().is_some()), "{placed:?}");
    let refused = shop.engine.place(again(3)).expect("an answer");
    assert!(matches!(refused.peek(), Some(Placed::Refused(Refusal::BuyerLimit { .. }))));
}

/// The story: the engine was closed, and a clerk reads an order whose hold has run out since.
#[test]
fn a_closed_engine_shows_that_a_hold_is_over_and_that_this_is_not_durable() {
    let mut shop = Shop::selling(1);
    let held = shop.hold_for(1, ms(100));
    let engine = shop.engine.engine().clone();
    shop.engine.close().expect("closes");
    let viewed = |engine: &Engine| engine.order(held.order).expect("known");
    assert_eq!((viewed(&engine).state, viewed(&engine).durable), (OrderState::Held, true));
    shop.clock.advance(ms(100));
    assert_eq!((viewed(&engine).state, viewed(&engine).durable), (OrderState::Expired, false));
    assert_eq!(viewed(&engine).when_durable().wait().expect_err("never"), CommitError::Closed);
}
