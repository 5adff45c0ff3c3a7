//! Refusals that are remembered: one key has one outcome, for refused requests too.

use std::time::Duration;

use doorbuster::error::{OpenError, Unavailable};
use doorbuster::testing::SteppedEngine;
use doorbuster::{
    Adjust, Fill, KeyField, KeyReused, MerchantId, MerchantRules, Options, Order, Placed, Refusal,
    RefusedBefore, RequestKey, SaleRules, SkuId, Switch,
};

use crate::shop::{SKU, Shop, options, settled};
use crate::{EMPTY, OTHER, order, plain, replayed};

const KEPT: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

fn remembering(options: Options) -> Options {
    options.remember_refusals(KEPT, 1000)
}

/// One unit of [`EMPTY`].
fn ask(buyer: u64, key: u128) -> Order {
    Order::new(buyer, RequestKey::new(key)).line(EMPTY, 1)
}

/// Returns the answer of the request, once it is durable.
fn told(shop: &mut Shop, order: &Order) -> Placed {
    let placed = shop.engine.place(order).expect("an answer");
    shop.engine.run_until_idle();
    settled(placed)
}

/// Returns the first refusal of the request.
fn refused(shop: &mut Shop, order: &Order) -> RefusedBefore {
    let until_ms = shop.engine.now_ms() + KEPT.as_millis() as u64;
    match told(shop, order) {
        Placed::Refused(refusal) => RefusedBefore { refusal, until_ms },
        other => panic!("refused, not {other:?}"),
    }
}

#[test]
fn a_late_duplicate_of_a_refused_request_does_not_buy() {
    let mut shop = Shop::new(remembering);
    let before = refused(&mut shop, &ask(1, 7));
    assert!(matches!(before.refusal, Refusal::SoldOut { available: 0, .. }), "{before:?}");
    shop.add(EMPTY, 5, 1);
    assert_eq!(told(&mut shop, &ask(1, 7)), Placed::RefusedBefore(before));
    let handle = shop.engine.sku(EMPTY).expect("known");
    let by_handle = handle.place(ask(1, 7)).expect("an answer");
    assert_eq!(settled(by_handle).refusal(), Some(&before.refusal));
    assert_eq!(shop.available(EMPTY), 5);
    let stats = shop.engine.stats();
    assert_eq!((stats.placed, stats.replayed, stats.refusals_remembered), (0, 2, 1));
    // The key is the buyer's own, and another key is another request.
    assert!(replayed(&told(&mut shop, &ask(2, 7))).is_none());
    assert!(told(&mut shop, &ask(1, 8)).held().is_some());
    assert_eq!(shop.available(EMPTY), 3);
}

#[test]
fn without_the_option_a_refusal_leaves_no_trace() {
    let mut shop = Shop::new(plain);
    let before = shop.seen();
    assert!(matches!(told(&mut shop, &ask(1, 7)), Placed::Refused(_)));
    assert_eq!(shop.seen(), before);
    shop.add(EMPTY, 1, 1);
    assert!(told(&mut shop, &ask(1, 7)).held().is_some());
}

#[test]
fn a_refusal_resolves_when_it_is_durable_and_its_repeat_not_before() {
    let mut shop = Shop::new(remembering);
    let first = shop.engine.place(ask(1, 7)).expect("an answer");
    let again = shop.engine.place(ask(1, 7)).expect("an answer");
    let other = shop.engine.place(ask(1, 7).payload(&b"x"[..])).expect("an answer");
    assert!(!first.is_durable() && !again.is_durable() && !other.is_durable());
    shop.engine.run_until_idle();
    assert!(matches!(settled(first), Placed::Refused(_)));
    assert!(matches!(settled(again), Placed::RefusedBefore(_)));
    assert!(matches!(settled(other), Placed::KeyReused(_)));
}

#[test]
fn other_content_is_named_and_changes_nothing() {
    let mut shop = Shop::new(remembering);
    let hold = |ms| Duration::from_millis(ms);
    let full = || ask(1, 7).hold_for(hold(5)).payload(&b"x"[..]);
    let before = refused(&mut shop, &full());
    shop.add(EMPTY, 5, 1);
    let same = ask(1, 7).line(EMPTY, 1).hold_for(hold(5)).payload(&b"x"[..]);
    let others = [
        (KeyField::Lines, same),
        (KeyField::Lines, full().line(SKU, 1)),
        (KeyField::Hold, ask(1, 7).hold_for(hold(6)).payload(&b"x"[..])),
        (KeyField::Hold, ask(1, 7).payload(&b"x"[..])),
        (KeyField::Policy, full().fill(Fill::Partial)),
        (KeyField::Payload, full().payload(&b"y"[..])),
    ];
    for (field, other) in others {
        let reused = KeyReused { order: None, field };
        assert_eq!(told(&mut shop, &other), Placed::KeyReused(reused), "{other:?}");
    }
    // Its class is not a part of its content.
    assert_eq!(told(&mut shop, &full().class(3)), Placed::RefusedBefore(before));
    assert_eq!(shop.engine.stats().keys_reused, 6);
}

#[test]
fn a_key_counts_as_new_at_the_millisecond_at_which_its_time_is_over() {
    for timekeeper_comes_by in [false, true] {
        let mut shop = Shop::new(remembering);
        let before = refused(&mut shop, &ask(1, 7));
        shop.add(EMPTY, 5, 1);
        shop.clock.advance(KEPT - MS);
        assert_eq!(shop.engine.now_ms(), before.until_ms - 1);
        if timekeeper_comes_by {
            shop.engine.run_until_idle();
        }
        let again = shop.engine.place(ask(1, 7)).expect("an answer");
        assert_eq!(settled(again), Placed::RefusedBefore(before));
        shop.clock.advance(MS);
        if timekeeper_comes_by {
            shop.engine.run_until_idle();
            assert_eq!(shop.engine.stats().refusals_remembered, 0, "its memory is freed");
        }
        let held = *told(&mut shop, &ask(1, 7)).held().expect("there is enough");
        assert!(!held.replayed);
        // From now on the key has the order, after a replay of both too.
        shop.kill();
        assert_eq!(replayed(&told(&mut shop, &ask(1, 7))), Some(held.order));
    }
}

#[test]
fn refusals_outlive_kills_and_checkpoints_and_die_with_what_was_not_durable() {
    for of_checkpoint in [false, true] {
        let mut shop = Shop::new(remembering);
        let early: Vec<_> = (0..40).map(|buyer| refused(&mut shop, &ask(buyer, 7))).collect();
        if of_checkpoint {
            shop.checkpoint();
        }
        let late: Vec<_> = (40..50).map(|buyer| refused(&mut shop, &ask(buyer, 7))).collect();
        let dump = shop.engine.dump();
        assert_eq!(dump.lines().filter(|line| line.starts_with("refused ")).count(), 50);
        // This one was never acknowledged.
        drop(shop.engine.place(ask(99, 7)).expect("an answer"));
        shop.kill();
        assert_eq!(shop.engine.recovery().checkpoint.is_some(), of_checkpoint);
        let without_floor = |dump: &str| dump.split_once('\n').map(|(_, rest)| rest.to_owned());
        assert_eq!(without_floor(&shop.engine.dump()), without_floor(&dump));
        shop.add(EMPTY, 60, 1);
        for (buyer, before) in (0..).zip(early.into_iter().chain(late)) {
            assert_eq!(told(&mut shop, &ask(buyer, 7)), Placed::RefusedBefore(before));
        }
        assert!(told(&mut shop, &ask(99, 7)).held().is_some());
        // It is over, also when the engine was down meanwhile.
        shop.clock.advance(KEPT);
        shop.kill();
        assert_eq!(shop.engine.stats().refusals_remembered, 0);
        assert!(told(&mut shop, &ask(0, 7)).held().is_some());
    }
}

/// While a checkpoint is copied, new refusals are placed after the copied ones, and refusals that are still to be
/// copied are forgotten.
#[test]
fn a_checkpoint_under_refusals_and_the_log_behind_it_come_to_the_same() {
    const COUNT_MAX: usize = 3000;
    let few = |options: Options| {
        let options = options.partitions(1).log_shards(1);
        options.remember_refusals(KEPT, COUNT_MAX as u64)
    };
    let mut shop = Shop::new(few);
    let mut buyer = 3500;
    let early: Vec<_> = (0..buyer).map(|buyer| ask(buyer, 7)).collect();
    drop(shop.engine.place_batch(&early).expect("open"));
    shop.engine.run_until_idle();
    let taken = shop.engine.checkpoint().expect("open");
    while taken.peek().is_none() {
        let placed = shop.engine.place(ask(buyer, 7)).expect("an answer");
        shop.engine.step_checkpointer();
        shop.engine.step_segments();
        shop.engine.step_writer(0);
        assert!(matches!(settled(placed), Placed::Refused(_)));
        buyer += 1;
    }
    assert!(buyer > 3502, "it takes several steps");
    let dump = shop.engine.dump();
    shop.kill();
    assert!(shop.engine.recovery().checkpoint.is_some());
    let refusals = |dump: &str| {
        let lines = dump.lines().filter(|line| line.starts_with("refused "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(refusals(&shop.engine.dump()), refusals(&dump));
    assert_eq!(refusals(&dump).len(), COUNT_MAX);
}

#[test]
fn the_oldest_is_forgotten_when_there_is_one_too_many() {
    let few = |options: Options| options.partitions(1).log_shards(1).remember_refusals(KEPT, 3);
    let mut shop = Shop::new(few);
    let before: Vec<_> = (0..4).map(|buyer| refused(&mut shop, &ask(buyer, 7))).collect();
    assert_eq!(shop.engine.stats().refusals_remembered, 3);
    shop.add(EMPTY, 10, 1);
    let held = *told(&mut shop, &ask(0, 7)).held().expect("its refusal is forgotten");
    shop.kill_and_adapt(few);
    for buyer in 1..4 {
        let again = told(&mut shop, &ask(buyer, 7));
        assert_eq!(again, Placed::RefusedBefore(before[buyer as usize]));
    }
    assert_eq!(replayed(&told(&mut shop, &ask(0, 7))), Some(held.order));
    // A larger bound finds the forgotten refusal in the log, and the key's order before it (rule R1).
    shop.kill_and_adapt(move |options| few(options).remember_refusals(KEPT, 100));
    assert_eq!(replayed(&told(&mut shop, &ask(0, 7))), Some(held.order));
    // Without the option no refusal is remembered, and none is kept.
    shop.kill_and_adapt(|options| options.partitions(1).log_shards(1));
    assert!(told(&mut shop, &ask(1, 7)).held().is_some_and(|held| !held.replayed));
    shop.checkpoint();
    shop.kill_and_adapt(few);
    assert!(told(&mut shop, &ask(2, 7)).held().is_some_and(|held| !held.replayed));
}

/// The story: a key that was refused, forgotten and refused again has two refusals in the log. A larger bound finds
/// both, and the index of keys found the older one first. So a repeat received older figures than the answer before
/// it.
#[test]
fn of_two_refusals_of_a_key_the_later_one_is_remembered() {
    let few = |options: Options| options.partitions(1).log_shards(1).remember_refusals(KEPT, 1);
    let mut shop = Shop::new(few);
    let again = || ask(0, 7).line(EMPTY, 1);
    let _ = refused(&mut shop, &ask(0, 7));
    let _ = refused(&mut shop, &ask(1, 7));
    let later = refused(&mut shop, &again());
    shop.kill_and_adapt(move |options| few(options).remember_refusals(KEPT, 100));
    assert_eq!(shop.engine.stats().refusals_remembered, 3);
    assert_eq!(told(&mut shop, &again()), Placed::RefusedBefore(later));
    let reused = KeyReused { order: None, field: KeyField::Lines };
    assert_eq!(told(&mut shop, &ask(0, 7)), Placed::KeyReused(reused));
}

/// The story: the oldest refusal had a long retention, since the option was changed later. When it made room for
/// another, the engine did not check whether those after it were over, and they stayed in memory until others were.
#[test]
fn what_is_over_after_one_that_is_forgotten_early_frees_its_memory() {
    let few =
        |options: Options, kept| options.partitions(1).log_shards(1).remember_refusals(kept, 2);
    let mut shop = Shop::new(move |options| few(options, KEPT));
    let _ = refused(&mut shop, &ask(0, 7));
    shop.kill_and_adapt(move |options| few(options, MS));
    let Placed::Refused(_) = told(&mut shop, &ask(1, 7)) else { panic!("it is empty") };
    shop.pass(MS);
    assert_eq!(shop.engine.stats().refusals_remembered, 2, "they leave from the front");
    let Placed::Refused(_) = told(&mut shop, &ask(2, 7)) else { panic!("it is empty") };
    assert_eq!(shop.engine.stats().refusals_remembered, 1, "the last one");
}

#[test]
fn what_is_remembered_keeps_its_time_when_the_option_is_changed() {
    let mut shop = Shop::new(remembering);
    let before = refused(&mut shop, &ask(1, 7));
    shop.kill_and_adapt(|options| options.remember_refusals(MS, 1000));
    let Placed::Refused(_) = told(&mut shop, &ask(2, 7)) else { panic!("a new one") };
    shop.add(EMPTY, 5, 1);
    shop.clock.advance(KEPT - MS);
    assert_eq!(told(&mut shop, &ask(1, 7)), Placed::RefusedBefore(before));
    assert!(told(&mut shop, &ask(2, 7)).held().is_some(), "though an older one is remembered");
}

#[test]
fn a_batch_remembers_what_it_refuses() {
    let mut shop = Shop::new(remembering);
    let batch = [ask(1, 7), order(1, 8), ask(1, 7), ask(1, 7).payload(&b"x"[..]), ask(2, 7)];
    let placed = shop.engine.place_batch(&batch).expect("open");
    assert!(!placed.is_durable());
    shop.engine.run_until_idle();
    let answers = settled(placed);
    let [Ok(first), Ok(held), Ok(again), Ok(other), Ok(last)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert!(matches!((first, last), (Placed::Refused(_), Placed::Refused(_))));
    assert!(held.held().is_some());
    assert!(
        matches!(again, Placed::RefusedBefore(before) if Some(&before.refusal) == first.refusal())
    );
    assert!(matches!(other, Placed::KeyReused(KeyReused { order: None, .. })));
    shop.add(EMPTY, 5, 1);
    let answers = settled(shop.engine.place_batch(&batch[2..3]).expect("open"));
    assert_eq!(answers, [Ok(again.clone())]);
}

/// Which refusals are outcomes, and which only say when to try again.
#[test]
fn refusals_that_say_when_to_come_again_leave_the_key_free() {
    let mut shop = Shop::new(remembering);
    let merchant = MerchantId::new(5);
    let now_ms = shop.engine.now_ms();
    let waiting = || Fill::Wait { patience: KEPT };
    let rule = |shop: &mut Shop, sku: SkuId, rules: SaleRules| {
        let ruled = shop.engine.rules(sku, rules).expect("known");
        shop.engine.run_until_idle();
        settled(ruled);
    };
    let mut cases: Vec<(Order, Placed)> = Vec::new();
    let mut ask_now = |shop: &mut Shop, order: Order| {
        let first = told(shop, &order);
        assert!(first.held().is_none(), "{first:?}");
        cases.push((order, first));
    };
    rule(&mut shop, SKU, SaleRules::new().opens_at_ms(now_ms + 5));
    ask_now(&mut shop, order(1, 1));
    rule(&mut shop, SKU, SaleRules::new().opens_at_ms(0).closes_at_ms(now_ms));
    ask_now(&mut shop, order(2, 1));
    rule(&mut shop, SKU, SaleRules::new().closes_at_ms(u64::MAX).switch(Switch::NoNewHolds));
    ask_now(&mut shop, order(3, 1));
    rule(&mut shop, SKU, SaleRules::new().switch(Switch::Open).buyer_limit(1));
    ask_now(&mut shop, order(4, 1).line(SKU, 1));
    rule(&mut shop, SKU, SaleRules::new().buyer_limit(0).merchant(merchant));
    let rated =
        shop.engine.merchant(merchant, MerchantRules::new().rate(1, 1)).expect("there is room");
    shop.engine.run_until_idle();
    settled(rated);
    assert!(told(&mut shop, &order(5, 1)).held().is_some());
    ask_now(&mut shop, order(5, 2));
    rule(&mut shop, EMPTY, SaleRules::new().waiting_max(1));
    assert!(matches!(told(&mut shop, &ask(6, 1).fill(waiting())), Placed::Waiting(_)));
    ask_now(&mut shop, ask(6, 2).fill(waiting()));
    ask_now(&mut shop, ask(6, 3));
    ask_now(&mut shop, Order::new(7, dated(1_577_836_800_000)).line(OTHER, 1));
    ask_now(&mut shop, Order::new(7, dated(now_ms + 3_600_000)).line(OTHER, 1));
    ask_now(&mut shop, Order::new(8, 1).line(OTHER, 101));

    let names: Vec<_> = cases.iter().map(|(_, first)| name_of(first)).collect();
    let expected = [
        "NotOpen",
        "Closed",
        "Switched",
        "BuyerLimit",
        "RateLimited",
        "WaitingListFull",
        "OthersWaiting",
        "KeyTooOld",
        "KeyTooNew",
        "SoldOut",
    ];
    assert_eq!(names, expected, "each of them once");
    for (order, first) in cases {
        let refusal = *first.refusal().expect("refused");
        let again = told(&mut shop, &order);
        let free = matches!(
            refusal,
            Refusal::NotOpen { .. } | Refusal::RateLimited { .. } | Refusal::KeyTooOld { .. }
        );
        assert_eq!(refusal.is_remembered(), !free);
        assert_eq!(matches!(again, Placed::RefusedBefore(_)), !free, "{first:?}, then {again:?}");
    }
}

fn name_of(placed: &Placed) -> String {
    let text = format!("{:?}", placed.refusal().expect("refused"));
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// A UUID of version 7 with this time.
fn dated(unix_ms: u64) -> RequestKey {
    let mut bytes = [9; 16];
    bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
    (bytes[6], bytes[8]) = (0x70, 0x80);
    RequestKey::uuid_v7(bytes).expect("a UUID of version 7")
}

/// A refusal that could not be remembered must not be answered: a duplicate of the request might buy.
#[test]
fn what_cannot_be_logged_is_an_error_and_leaves_the_key_free() {
    let mut shop = Shop::new(|options| {
        remembering(crate::small(options))
            .partitions(1)
            .log_shards(1)
            .log_backlog_bytes_max(1 << 10)
    });
    let mut refused = 0;
    let error = loop {
        match shop.engine.place(ask(refused, 7)) {
            Ok(_) => refused += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, doorbuster::PlaceError::Unavailable(Unavailable::Backlogged { .. })));
    assert!(refused > 3, "{refused}");
    shop.engine.run_until_idle();
    shop.add(EMPTY, 1, 1);
    assert!(told(&mut shop, &ask(refused, 7)).held().is_some());
    assert!(matches!(told(&mut shop, &ask(0, 7)), Placed::RefusedBefore(_)));
}

#[test]
fn bounds_out_of_range_are_named() {
    for (duration, count_max, named) in [
        (Duration::ZERO, 1, "remember_refusals.duration"),
        (Duration::from_micros(1500), 1, "remember_refusals.duration"),
        (doorbuster::RETENTION_MAX + MS, 1, "remember_refusals.duration"),
        (MS, 0, "remember_refusals.count_max"),
        (MS, (1 << 30) + 1, "remember_refusals.count_max"),
    ] {
        let (storage, clock) = Default::default();
        let opened =
            SteppedEngine::open(options(&storage, &clock).remember_refusals(duration, count_max));
        let error = opened.expect_err("out of range");
        assert!(
            matches!(error, OpenError::InvalidOption { field, .. } if field == named),
            "{error}"
        );
    }
    for (duration, count_max) in [(MS, 1), (doorbuster::RETENTION_MAX, 1 << 30)] {
        drop(Shop::new(move |options| options.remember_refusals(duration, count_max)));
    }
}

/// A refused adjustment is not a buyer's refusal: it leaves its key free as before.
#[test]
fn adjustments_that_are_refused_are_not_remembered() {
    let mut shop = Shop::new(remembering);
    let take = || Adjust::take(1).key(9);
    let refused = shop.engine.stock(EMPTY, take()).expect("an answer");
    shop.engine.run_until_idle();
    assert!(matches!(settled(refused), doorbuster::Adjusted::TooFew { .. }));
    shop.add(EMPTY, 1, 1);
    let done = shop.engine.stock(EMPTY, take()).expect("an answer");
    shop.engine.run_until_idle();
    assert!(matches!(settled(done), doorbuster::Adjusted::Done { delta: -1, replayed: false, .. }));
}
