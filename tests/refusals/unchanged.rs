//! What is refused changes nothing, whichever verb it was: no record is logged, and all that the engine knows is
//! as before.

use std::fmt::Debug;
use std::time::Duration;

use doorbuster::testing::Fault;
use doorbuster::{
    Adjust, Adjusted, Commit, Engine, Fill, MerchantId, MerchantRules, Options, Order, OrderId,
    Placed, RequestKey, SaleRules, SkuId, Switch, Transition,
};

use crate::bench::{Bench, EMPTY, OTHER, SKU, UNKNOWN};

const MERCHANT: MerchantId = MerchantId::new(70);
const NEW_MERCHANT: MerchantId = MerchantId::new(71);
const PATIENCE: Duration = Duration::from_secs(60);

/// Its words if it was a refusal.
type Told = Result<String, String>;

fn words(refusal: impl Debug) -> Told {
    Ok(format!("{refusal:?}"))
}

fn placed(engine: &Engine, order: Order) -> Told {
    match engine.place(&order) {
        Err(error) => words(error),
        Ok(commit) => match commit.peek() {
            Some(refused @ (Placed::Refused(_) | Placed::KeyReused(_))) => words(refused),
            other => Err(format!("{other:?}")),
        },
    }
}

fn adjusted(engine: &Engine, sku: SkuId, adjust: Adjust) -> Told {
    match engine.stock(sku, adjust) {
        Err(error) => words(error),
        Ok(commit) => match commit.peek() {
            Some(Adjusted::Done { replayed: false, .. }) | None => Err(format!("{commit:?}")),
            Some(refused) => words(refused),
        },
    }
}

fn moved<E: Debug>(answer: Result<Commit<Transition>, E>) -> Told {
    match answer {
        Err(error) => words(error),
        Ok(commit) => match commit.peek() {
            Some(Transition::Done { .. }) | None => Err(format!("{commit:?}")),
            Some(refused) => words(refused),
        },
    }
}

fn ruled<E: Debug>(answer: Result<Commit<()>, E>) -> Told {
    answer.map_or_else(words, |commit| Err(format!("{commit:?}")))
}

impl Bench {
    fn all_of_it(&self) -> (String, [u64; 6]) {
        let stats = self.engine.stats();
        let counts = [
            stats.orders,
            stats.live_orders,
            stats.waiting,
            stats.buyers_tracked,
            stats.refusals_remembered,
            stats.backlog_bytes,
        ];
        (self.engine.dump(), counts)
    }

    /// It is refused, with these words among others, and changes nothing.
    fn refuse(&self, expected: &str, act: impl Fn(&Engine) -> Told) {
        let before = self.all_of_it();
        match act(self.engine.engine()) {
            Ok(told) => assert!(told.contains(expected), "{told}, not {expected}"),
            Err(told) => panic!("{told}, where {expected} was expected"),
        }
        assert_eq!(self.all_of_it(), before, "{expected}");
    }

    fn done(&mut self, commit: Commit<()>) {
        self.engine.run_until_idle();
        assert!(commit.is_durable());
    }

    fn rule(&mut self, sku: SkuId, rules: SaleRules) {
        let ruled = self.engine.rules(sku, rules).expect("takes it");
        self.done(ruled);
    }
}

fn bounded(options: Options) -> Options {
    options.lines_max(2).payload_bytes_max(8).orders_max(400).merchants_max(1).skus_max(8)
}

fn rules() -> SaleRules {
    SaleRules::new()
}

fn one(buyer: u64, sku: SkuId) -> Order {
    Order::new(buyer, RequestKey::new(500)).line(sku, 1)
}

fn patient(buyer: u64, sku: SkuId) -> Order {
    one(buyer, sku).fill(Fill::Wait { patience: PATIENCE })
}

#[test]
fn refused_stock_changes_nothing() {
    let mut bench = Bench::new(bounded);
    let add = |units: u32| Adjust::add(units).key(9);
    bench.refuse("MissingKey", |it| adjusted(it, SKU, Adjust::add(1)));
    bench.refuse("MissingExpected", |it| adjusted(it, SKU, Adjust::set(1).key(9)));
    bench.refuse("ExpectedWithoutSet", |it| adjusted(it, SKU, add(1).expect(1)));
    bench.refuse("ZeroQuantity", |it| adjusted(it, SKU, add(0)));
    bench.refuse("ReferenceTooLong", |it| adjusted(it, SKU, add(1).reference("123456789")));
    bench.refuse("StockTooLarge", |it| adjusted(it, SKU, add(u32::MAX)));
    bench.refuse("UnknownSku", |it| adjusted(it, UNKNOWN, Adjust::take(1).key(9)));
    bench.refuse("UnknownSku", |it| adjusted(it, UNKNOWN, Adjust::take_up_to(1).key(9)));
    bench.refuse("Unexpected", |it| adjusted(it, UNKNOWN, Adjust::set(1).expect(7).key(9)));
    bench.refuse("Unexpected", |it| adjusted(it, SKU, Adjust::set(1).expect(7).key(9)));
    bench.refuse("TooFew", |it| adjusted(it, SKU, Adjust::take(101).key(9)));
    bench.refuse("KeyReused", |it| adjusted(it, SKU, Adjust::add(1).key(0)));
    bench.refuse("replayed: true", |it| adjusted(it, SKU, Adjust::add(100).key(0)));
    for sku in 90..95 {
        bench.add(SkuId::new(sku), 1, 0);
    }
    bench.refuse("Skus", |it| adjusted(it, UNKNOWN, add(1)));
    bench.add(SKU, u32::MAX - 100, 1);
    // It owes 9, and its stock would be lowered by as much as any stock is.
    bench.hold(&Order::new(1, RequestKey::new(1)).line(SKU, 9));
    bench.rule(SKU, rules().safety_stock(u32::MAX));
    bench.refuse("OwesTooMuch", |it| {
        let lowered = it.stock(SKU, Adjust::set(0).expect(u32::MAX).key(9));
        lowered.map_or_else(words, |commit| Err(format!("{commit:?}")))
    });
}

/// The story: rules that were refused had made their merchant by then, and had their buyers counted.
#[test]
fn refused_rules_change_nothing() {
    let mut bench = Bench::new(bounded);
    let hour = Duration::from_secs(3_600);
    bench.hold(&Order::new(1, RequestKey::new(1)).line(SKU, 10));
    let all = || rules().merchant(NEW_MERCHANT).buyer_limit(1);
    let closed = all().opens_at_ms(5).closes_at_ms(5);
    bench.refuse("ClosesBeforeItOpens", |it| ruled(it.rules(SKU, closed.clone())));
    bench.refuse("UnknownSku", |it| ruled(it.rules(UNKNOWN, all())));
    bench.refuse("ClassOutOfRange", |it| ruled(it.rules(SKU, all().early_access(8, hour))));
    bench.refuse("EarlyAccess", |it| ruled(it.rules(SKU, all().early_access(1, 999 * hour))));
    bench.refuse("HoldOutOfRange", |it| ruled(it.rules(SKU, all().hold_for(999 * hour))));
    bench.refuse("UnknownSku", |it| ruled(it.end_sale(UNKNOWN)));
    let too_fast = MerchantRules::new().rate(u32::MAX, 1);
    bench.refuse("RateOutOfRange", |it| ruled(it.merchant(NEW_MERCHANT, too_fast)));
    // It owes 10, and is to keep back as many as any stock is.
    let taken = bench.engine.stock(SKU, Adjust::set(0).expect(100).key(5)).expect("takes it");
    bench.engine.run_until_idle();
    assert!(taken.is_durable());
    let kept = all().safety_stock(u32::MAX);
    bench.refuse("OwesTooMuch", |it| ruled(it.rules(SKU, kept.clone())));
    // None of them has made a merchant: there is room for one.
    let made = bench.engine.merchant(MERCHANT, MerchantRules::new().rate(9, 9)).expect("room");
    bench.done(made);
    bench.refuse("Merchants", |it| ruled(it.rules(SKU, all())));
    bench
        .refuse("Merchants", |it| ruled(it.merchant(NEW_MERCHANT, MerchantRules::new().no_rate())));
    bench.rule(SKU, rules().buyer_limit(1));
    let ended = bench.engine.end_sale(SKU).expect("known");
    bench.refuse("SaleEnding", |it| ruled(it.end_sale(SKU)));
    bench.refuse("SaleEnding", |it| ruled(it.rules(SKU, rules().buyer_limit(1).safety_stock(1))));
    bench.done(ended);
    bench.rule(SKU, rules().buyer_limit(1));
}

#[test]
fn rules_that_are_refused_for_a_bound_change_nothing() {
    let few = |options: Options| {
        options.partitions(1).log_shards(1).buyers_tracked_max(3).merchants_max(9)
    };
    let mut bench = Bench::new(few);
    for buyer in 0..4 {
        bench.hold(&one(buyer, SKU));
    }
    let limited = || rules().buyer_limit(1).merchant(NEW_MERCHANT).safety_stock(5);
    bench.refuse("BuyersTracked", |it| ruled(it.rules(SKU, limited())));
    for merchant in 1..5 {
        drop(bench.engine.rules(OTHER, rules().merchant(MerchantId::new(merchant))).expect("room"));
    }
    let handed = rules().merchant(MerchantId::new(9)).buyer_limit(1);
    bench.refuse("MerchantsInFlight", |it| ruled(it.rules(OTHER, handed.clone())));
    bench.engine.run_until_idle();
    for _ in 0..256 {
        drop(bench.engine.rules(OTHER, rules().switch(Switch::Open)).expect("room"));
        drop(bench.engine.switch(Switch::Open).expect("room"));
    }
    bench.refuse("RulesInFlight", |it| ruled(it.rules(OTHER, limited())));
    bench.refuse("RulesInFlight", |it| ruled(it.end_sale(OTHER)));
    bench.refuse("RulesInFlight", |it| ruled(it.switch(Switch::Halted)));
    bench.engine.run_until_idle();
    bench.rule(OTHER, rules().buyer_limit(3));
    for buyer in 0..3 {
        bench.hold(&Order::new(buyer, RequestKey::new(600)).line(OTHER, 2));
    }
    bench.refuse("BuyersTracked", |it| placed(it, one(9, OTHER)));
    bench.refuse("BuyerLimit", |it| placed(it, Order::new(0, RequestKey::new(501)).line(OTHER, 2)));
}

#[test]
fn refused_orders_and_verbs_change_nothing() {
    let mut bench = Bench::new(bounded);
    let ruled_sku = |bench: &mut Bench, nth: u64, ruled: SaleRules| {
        bench.add(SkuId::new(nth), 10, 0);
        bench.rule(SkuId::new(nth), ruled);
    };
    let now_ms = bench.engine.now_ms();
    ruled_sku(&mut bench, 20, rules().opens_at_ms(now_ms + 1_000));
    ruled_sku(&mut bench, 21, rules().closes_at_ms(now_ms));
    ruled_sku(&mut bench, 22, rules().switch(Switch::NoNewHolds));
    ruled_sku(&mut bench, 23, rules().waiting_max(1));
    ruled_sku(&mut bench, 24, rules().merchant(MERCHANT));
    let rated = bench.engine.merchant(MERCHANT, MerchantRules::new().rate(1, 1)).expect("room");
    bench.done(rated);
    let sku = SkuId::new;
    let fits = |bench: &mut Bench, order: Order| {
        let placed = bench.engine.place(&order).expect("an answer");
        bench.engine.run_until_idle();
        placed.peek().and_then(Placed::held).map(|held| held.order)
    };
    let order = fits(&mut bench, one(1, sku(24))).expect("the burst");
    let all = Order::new(2, RequestKey::new(1)).line(sku(23), 10);
    assert!(fits(&mut bench, all).is_some());
    assert_eq!(fits(&mut bench, patient(3, sku(23))), None, "it waits");
    bench.refuse("NoLines", |it| placed(it, Order::new(9, RequestKey::new(1))));
    bench.refuse("ZeroQuantity", |it| placed(it, one(9, SKU).line(OTHER, 0)));
    bench.refuse("TooManyLines", |it| placed(it, one(9, SKU).line(OTHER, 1).line(EMPTY, 1)));
    bench.refuse("QuantityTooLarge", |it| placed(it, one(9, SKU).line(SKU, u32::MAX)));
    bench.refuse("HoldOutOfRange", |it| placed(it, one(9, SKU).hold_for(Duration::ZERO)));
    bench.refuse("PayloadTooLong", |it| placed(it, one(9, SKU).payload(vec![0; 9])));
    bench.refuse("ClassOutOfRange", |it| placed(it, one(9, SKU).class(8)));
    bench.refuse("PatienceOutOfRange", |it| {
        placed(it, one(9, SKU).fill(Fill::Wait { patience: Duration::ZERO }))
    });
    bench.refuse("WaitWithSeveralLines", |it| placed(it, patient(9, SKU).line(OTHER, 1)));
    bench.refuse("MinimumWithoutPartial", |it| placed(it, one(9, SKU).min_quantity(SKU, 1)));
    bench.refuse("UnknownSku", |it| placed(it, one(9, SKU).line(UNKNOWN, 1)));
    bench.refuse("SoldOut", |it| placed(it, one(9, EMPTY)));
    bench.refuse("SoldOut", |it| placed(it, one(9, SKU).line(EMPTY, 1)));
    bench.refuse("SoldOut", |it| placed(it, one(9, EMPTY).fill(Fill::Partial)));
    bench.refuse("NotOpen", |it| placed(it, one(9, SKU).line(sku(20), 1)));
    bench.refuse("Closed", |it| placed(it, one(9, SKU).line(sku(21), 1)));
    bench.refuse("Switched", |it| placed(it, one(9, SKU).line(sku(22), 1)));
    bench.refuse("Refused", |it| placed(it, one(9, sku(23))));
    bench.refuse("WaitingListFull", |it| placed(it, patient(9, sku(23))));
    bench.refuse("RateLimited", |it| placed(it, one(9, SKU).line(sku(24), 1)));
    bench.refuse("KeyReused", |it| placed(it, one(1, SKU)));
    let dated = |ms: u64| {
        let key = (u128::from(ms) << 80) | (7 << 76) | (2 << 62);
        let key = RequestKey::uuid_v7(key.to_be_bytes()).expect("a version 7");
        Order::new(9, key).line(SKU, 1)
    };
    bench.refuse("KeyTooOld", |it| placed(it, dated(now_ms - 9 * 86_400_000)));
    bench.refuse("KeyTooNew", |it| placed(it, dated(now_ms + 86_400_000)));
    let nobody = OrderId::from_u64(1 << 40);
    bench.refuse("UnknownOrder", |it| moved(it.confirm(nobody)));
    bench.refuse("UnknownOrder", |it| moved(it.cancel(nobody)));
    bench.refuse("UnknownOrder", |it| moved(it.fulfil(nobody)));
    bench.refuse("NotAllowed", |it| moved(it.fulfil(order)));
    let halted = bench.engine.switch(Switch::Halted).expect("room");
    bench.done(halted);
    bench.refuse("Halted", |it| moved(it.confirm(order)));
    bench.refuse("Halted", |it| moved(it.cancel(order)));
    let opened = bench.engine.switch(Switch::Open).expect("room");
    bench.done(opened);
    drop(bench.engine.cancel(order).expect("held"));
    bench.engine.run_until_idle();
    bench.refuse("NotAllowed", |it| moved(it.confirm(order)));
    bench.refuse("AlreadyDone", |it| moved(it.cancel(order)));
}

type Verb = fn(&Engine, OrderId) -> Told;

/// Every verb, of which each would change something; those that end an order last.
const VERBS: [(&str, Verb); 10] = [
    ("stock", |it, _| adjusted(it, SKU, Adjust::add(1).key(99))),
    ("stock of a new SKU", |it, _| adjusted(it, UNKNOWN, Adjust::add(1).key(99))),
    ("rules", |it, _| ruled(it.rules(SKU, rules().merchant(NEW_MERCHANT).buyer_limit(1)))),
    ("merchant", |it, _| ruled(it.merchant(NEW_MERCHANT, MerchantRules::new().rate(1, 1)))),
    ("switch", |it, _| ruled(it.switch(Switch::NoNewHolds))),
    ("end_sale", |it, _| ruled(it.end_sale(SKU))),
    ("place", |it, _| placed(it, one(9, SKU))),
    ("place_batch", |it, _| in_batch(it, one(9, SKU))),
    ("confirm", |it, order| moved(it.confirm(order))),
    ("cancel", |it, order| moved(it.cancel(order))),
];

fn in_batch(engine: &Engine, order: Order) -> Told {
    match engine.place_batch(&[order]) {
        Err(error) => words(error),
        Ok(commit) => match commit.peek().and_then(|answers| answers.first()) {
            Some(Err(error)) => words(error),
            other => Err(format!("{other:?}")),
        },
    }
}

fn refuse_verbs(bench: &Bench, order: OrderId, expected: &str, verbs: &[(&str, Verb)]) {
    let before = bench.all_of_it();
    for (name, verb) in verbs {
        match verb(bench.engine.engine(), order) {
            Ok(told) => assert!(told.contains(expected), "{name}: {told}, not {expected}"),
            Err(told) => panic!("{name}: {told}, where {expected} was expected"),
        }
        assert!(bench.all_of_it() == before, "{name}: {expected} and a change");
    }
}

#[test]
fn a_backlog_that_is_full_changes_nothing() {
    let small =
        |options: Options| options.partitions(1).log_shards(1).log_backlog_bytes_max(200_000);
    let mut bench = Bench::new(small);
    bench.add(OTHER, 1_000_000, 1);
    let order = bench.hold(&one(1, SKU)).order;
    // Both lanes are filled: that of the partition, and that of the SKUs.
    let filled = (0..100_000_u64).find(|nth| {
        let order = Order::new(*nth, RequestKey::new(900)).line(OTHER, 1);
        engine_is_full(bench.engine.place(&order).map(drop))
    });
    assert!(filled.is_some());
    let filled = (0..100_000_u128).find(|nth| {
        let adjust = Adjust::add(1).key(1_000 + nth);
        engine_is_full(bench.engine.stock(OTHER, adjust).map(drop))
    });
    assert!(filled.is_some());
    // The smallest of the records that go there.
    let filled = (0..256).find(|_| engine_is_full(bench.engine.switch(Switch::Open).map(drop)));
    assert!(filled.is_some());
    // Endings have room of their own.
    refuse_verbs(&bench, order, "Backlogged", &VERBS[..8]);
}

fn engine_is_full<E: Debug>(answer: Result<(), E>) -> bool {
    answer.is_err_and(|error| format!("{error:?}").contains("Backlogged"))
}

#[test]
fn a_latched_engine_changes_nothing() {
    let mut bench = Bench::new(|options| options);
    let order = bench.hold(&one(1, SKU)).order;
    bench.storage.set_fault_hook(Some(std::sync::Arc::new(|call| {
        let is_change = call.operation.is_change();
        if is_change { Fault::Error(std::io::ErrorKind::Other) } else { Fault::None }
    })));
    drop(bench.engine.place(one(2, SKU)).expect("an answer"));
    for shard in 0..2 {
        let _ = bench.engine.step_writer(shard);
    }
    bench.storage.set_fault_hook(None);
    refuse_verbs(&bench, order, "Latched", &VERBS);
}

#[test]
fn a_closed_engine_changes_nothing() {
    let mut bench = Bench::new(|options| options);
    let order = bench.hold(&one(1, SKU)).order;
    let handle = bench.engine.engine().clone();
    let before = bench.all_of_it().0;
    let (storage, clock) = (bench.storage.clone(), bench.clock.clone());
    bench.engine.close().expect("closes");
    for (verb, act) in VERBS {
        let told = act(&handle, order);
        assert!(told.as_ref().is_ok_and(|told| told.contains("Closed")), "{verb}: {told:?}");
    }
    let options = crate::bench::options(&storage, &clock);
    let reopened = doorbuster::testing::SteppedEngine::open(options).expect("opens");
    assert_eq!(reopened.dump(), before);
}

#[test]
fn orders_beyond_the_bound_change_nothing() {
    let few = |options: Options| options.partitions(1).log_shards(1).orders_max(2);
    let mut bench = Bench::new(few);
    bench.hold(&one(1, SKU));
    bench.hold(&one(2, SKU));
    bench.refuse("Orders", |it| placed(it, one(3, SKU)));
    bench.refuse("Orders", |it| placed(it, one(3, SKU).line(OTHER, 1)));
}
