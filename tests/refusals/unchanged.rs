//! A refusal changes nothing, whichever verb it was: no record is logged, and everything that the engine knows is
//! as before.

use std::fmt::Debug;
use std::time::Duration;

use doorbuster::testing::Fault;
use doorbuster::{
    Adjust, Adjusted, Commit, Engine, Fill, MerchantId, MerchantRules, Options, Order, OrderId,
    Placed, RequestKey, SaleRules, SkuId, Switch, Transition,
};

use crate::shop::{SKU, Shop};
use crate::{EMPTY, OTHER, SMALL_SEGMENT_BYTES, UNKNOWN, plain, small};

const MERCHANT: MerchantId = MerchantId::new(70);
const NEW_MERCHANT: MerchantId = MerchantId::new(71);
const PATIENCE: Duration = Duration::from_secs(60);
/// The keys of adjustments that a SKU keeps.
const ADJUST_KEYS_MAX: u128 = 1 << 20;

/// The words of a refusal; `Err` if it was no refusal.
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

impl Shop {
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

    /// The call must be refused, with these words among others, and must change nothing.
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
        let ruled = self.engine.rules(sku, rules).expect("accepted");
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
    let mut shop = Shop::new(bounded);
    shop.add(SKU, 1, 0);
    let add = |units: u32| Adjust::add(units).key(9);
    shop.refuse("MissingKey", |it| adjusted(it, SKU, Adjust::add(1)));
    shop.refuse("MissingExpected", |it| adjusted(it, SKU, Adjust::set(1).key(9)));
    shop.refuse("ExpectedWithoutSet", |it| adjusted(it, SKU, add(1).expect(1)));
    shop.refuse("ZeroQuantity", |it| adjusted(it, SKU, add(0)));
    shop.refuse("ReferenceTooLong", |it| adjusted(it, SKU, add(1).reference("123456789")));
    shop.refuse("StockTooLarge", |it| adjusted(it, SKU, add(u32::MAX)));
    shop.refuse("UnknownSku", |it| adjusted(it, UNKNOWN, Adjust::take(1).key(9)));
    shop.refuse("UnknownSku", |it| adjusted(it, UNKNOWN, Adjust::take_up_to(1).key(9)));
    shop.refuse("Unexpected", |it| adjusted(it, UNKNOWN, Adjust::set(1).expect(7).key(9)));
    shop.refuse("Unexpected", |it| adjusted(it, SKU, Adjust::set(1).expect(7).key(9)));
    shop.refuse("TooFew", |it| adjusted(it, SKU, Adjust::take(102).key(9)));
    shop.refuse("KeyReused", |it| adjusted(it, SKU, Adjust::add(2).key(0)));
    shop.refuse("replayed: true", |it| adjusted(it, SKU, Adjust::add(1).key(0)));
    for sku in 90..95 {
        shop.add(SkuId::new(sku), 1, 0);
    }
    shop.refuse("Skus", |it| adjusted(it, UNKNOWN, add(1)));
    shop.add(SKU, u32::MAX - 101, 1);
    // The SKU owes 9, and its stock would be lowered by as much as any stock can be.
    shop.hold(&Order::new(1, RequestKey::new(1)).line(SKU, 9));
    shop.rule(SKU, rules().safety_stock(u32::MAX));
    shop.refuse("OwesTooMuch", |it| {
        let lowered = it.stock(SKU, Adjust::set(0).expect(u32::MAX).key(9));
        lowered.map_or_else(words, |commit| Err(format!("{commit:?}")))
    });
}

/// The story: rules were refused after they had made their merchant, and after the buyers were counted.
#[test]
fn refused_rules_change_nothing() {
    let mut shop = Shop::new(bounded);
    let hour = Duration::from_secs(3_600);
    shop.hold(&Order::new(1, RequestKey::new(1)).line(SKU, 10));
    let all = || rules().merchant(NEW_MERCHANT).buyer_limit(1);
    let closed = all().opens_at_ms(5).closes_at_ms(5);
    shop.refuse("ClosesBeforeItOpens", |it| ruled(it.rules(SKU, closed.clone())));
    shop.refuse("UnknownSku", |it| ruled(it.rules(UNKNOWN, all())));
    shop.refuse("ClassOutOfRange", |it| ruled(it.rules(SKU, all().early_access(8, hour))));
    shop.refuse("EarlyAccess", |it| ruled(it.rules(SKU, all().early_access(1, 999 * hour))));
    shop.refuse("HoldOutOfRange", |it| ruled(it.rules(SKU, all().hold_for(999 * hour))));
    shop.refuse("UnknownSku", |it| ruled(it.end_sale(UNKNOWN)));
    let too_fast = MerchantRules::new().rate(u32::MAX, 1);
    shop.refuse("RateOutOfRange", |it| ruled(it.merchant(NEW_MERCHANT, too_fast)));
    // The SKU owes 10, and would keep back as many units as any stock can be.
    let taken = shop.engine.stock(SKU, Adjust::set(0).expect(100).key(5)).expect("accepted");
    shop.engine.run_until_idle();
    assert!(taken.is_durable());
    let kept = all().safety_stock(u32::MAX);
    shop.refuse("OwesTooMuch", |it| ruled(it.rules(SKU, kept.clone())));
    // None of the refused calls has made a merchant: there is room for one.
    let made =
        shop.engine.merchant(MERCHANT, MerchantRules::new().rate(9, 9)).expect("there is room");
    shop.done(made);
    shop.refuse("Merchants", |it| ruled(it.rules(SKU, all())));
    shop.refuse("Merchants", |it| ruled(it.merchant(NEW_MERCHANT, MerchantRules::new().no_rate())));
    shop.rule(SKU, rules().buyer_limit(1));
    let ended = shop.engine.end_sale(SKU).expect("known");
    shop.refuse("SaleEnding", |it| ruled(it.end_sale(SKU)));
    shop.refuse("SaleEnding", |it| ruled(it.rules(SKU, rules().buyer_limit(1).safety_stock(1))));
    shop.done(ended);
    shop.rule(SKU, rules().buyer_limit(1));
}

#[test]
fn rules_that_are_refused_for_a_bound_change_nothing() {
    let few = |options: Options| {
        options.partitions(1).log_shards(1).buyers_tracked_max(3).merchants_max(9)
    };
    let mut shop = Shop::new(few);
    for buyer in 0..4 {
        shop.hold(&one(buyer, SKU));
    }
    let limited = || rules().buyer_limit(1).merchant(NEW_MERCHANT).safety_stock(5);
    shop.refuse("BuyersTracked", |it| ruled(it.rules(SKU, limited())));
    for merchant in 1..5 {
        drop(
            shop.engine
                .rules(OTHER, rules().merchant(MerchantId::new(merchant)))
                .expect("there is room"),
        );
    }
    let handed = rules().merchant(MerchantId::new(9)).buyer_limit(1);
    shop.refuse("MerchantsInFlight", |it| ruled(it.rules(OTHER, handed.clone())));
    shop.engine.run_until_idle();
    for _ in 0..256 {
        drop(shop.engine.rules(OTHER, rules().switch(Switch::Open)).expect("there is room"));
        drop(shop.engine.switch(Switch::Open).expect("there is room"));
    }
    shop.refuse("RulesInFlight", |it| ruled(it.rules(OTHER, limited())));
    shop.refuse("RulesInFlight", |it| ruled(it.end_sale(OTHER)));
    shop.refuse("RulesInFlight", |it| ruled(it.switch(Switch::Halted)));
    shop.engine.run_until_idle();
    shop.rule(OTHER, rules().buyer_limit(3));
    for buyer in 0..3 {
        shop.hold(&Order::new(buyer, RequestKey::new(600)).line(OTHER, 2));
    }
    shop.refuse("BuyersTracked", |it| placed(it, one(9, OTHER)));
    shop.refuse("BuyerLimit", |it| placed(it, Order::new(0, RequestKey::new(501)).line(OTHER, 2)));
}

#[test]
fn refused_orders_and_verbs_change_nothing() {
    let mut shop = Shop::new(bounded);
    let ruled_sku = |shop: &mut Shop, nth: u64, ruled: SaleRules| {
        shop.add(SkuId::new(nth), 10, 0);
        shop.rule(SkuId::new(nth), ruled);
    };
    let now_ms = shop.engine.now_ms();
    ruled_sku(&mut shop, 20, rules().opens_at_ms(now_ms + 1_000));
    ruled_sku(&mut shop, 21, rules().closes_at_ms(now_ms));
    ruled_sku(&mut shop, 22, rules().switch(Switch::NoNewHolds));
    ruled_sku(&mut shop, 23, rules().waiting_max(1));
    ruled_sku(&mut shop, 24, rules().merchant(MERCHANT));
    let rated =
        shop.engine.merchant(MERCHANT, MerchantRules::new().rate(1, 1)).expect("there is room");
    shop.done(rated);
    let sku = SkuId::new;
    let fits = |shop: &mut Shop, order: Order| {
        let placed = shop.engine.place(&order).expect("an answer");
        shop.engine.run_until_idle();
        placed.peek().and_then(Placed::held).map(|held| held.order)
    };
    let order = fits(&mut shop, one(1, sku(24))).expect("the burst");
    let all = Order::new(2, RequestKey::new(1)).line(sku(23), 10);
    assert!(fits(&mut shop, all).is_some());
    assert_eq!(fits(&mut shop, patient(3, sku(23))), None, "it waits");
    shop.refuse("NoLines", |it| placed(it, Order::new(9, RequestKey::new(1))));
    shop.refuse("ZeroQuantity", |it| placed(it, one(9, SKU).line(OTHER, 0)));
    shop.refuse("TooManyLines", |it| placed(it, one(9, SKU).line(OTHER, 1).line(EMPTY, 1)));
    shop.refuse("QuantityTooLarge", |it| placed(it, one(9, SKU).line(SKU, u32::MAX)));
    shop.refuse("HoldOutOfRange", |it| placed(it, one(9, SKU).hold_for(Duration::ZERO)));
    shop.refuse("PayloadTooLong", |it| placed(it, one(9, SKU).payload(vec![0; 9])));
    shop.refuse("ClassOutOfRange", |it| placed(it, one(9, SKU).class(8)));
    shop.refuse("PatienceOutOfRange", |it| {
        placed(it, one(9, SKU).fill(Fill::Wait { patience: Duration::ZERO }))
    });
    shop.refuse("WaitWithSeveralLines", |it| placed(it, patient(9, SKU).line(OTHER, 1)));
    shop.refuse("MinimumWithoutPartial", |it| placed(it, one(9, SKU).min_quantity(SKU, 1)));
    shop.refuse("UnknownSku", |it| placed(it, one(9, SKU).line(UNKNOWN, 1)));
    shop.refuse("SoldOut", |it| placed(it, one(9, EMPTY)));
    shop.refuse("SoldOut", |it| placed(it, one(9, SKU).line(EMPTY, 1)));
    shop.refuse("SoldOut", |it| placed(it, one(9, EMPTY).fill(Fill::Partial)));
    shop.refuse("NotOpen", |it| placed(it, one(9, SKU).line(sku(20), 1)));
    shop.refuse("Closed", |it| placed(it, one(9, SKU).line(sku(21), 1)));
    shop.refuse("Switched", |it| placed(it, one(9, SKU).line(sku(22), 1)));
    shop.refuse("Refused", |it| placed(it, one(9, sku(23))));
    shop.refuse("WaitingListFull", |it| placed(it, patient(9, sku(23))));
    shop.refuse("RateLimited", |it| placed(it, one(9, SKU).line(sku(24), 1)));
    shop.refuse("KeyReused", |it| placed(it, one(1, SKU)));
    let dated = |ms: u64| {
        let key = (u128::from(ms) << 80) | (7 << 76) | (2 << 62);
        let key = RequestKey::uuid_v7(key.to_be_bytes()).expect("a version 7");
        Order::new(9, key).line(SKU, 1)
    };
    shop.refuse("KeyTooOld", |it| placed(it, dated(now_ms - 9 * 86_400_000)));
    shop.refuse("KeyTooNew", |it| placed(it, dated(now_ms + 86_400_000)));
    let nobody = OrderId::from_u64(1 << 40);
    shop.refuse("UnknownOrder", |it| moved(it.confirm(nobody)));
    shop.refuse("UnknownOrder", |it| moved(it.cancel(nobody)));
    shop.refuse("UnknownOrder", |it| moved(it.fulfil(nobody)));
    shop.refuse("NotAllowed", |it| moved(it.fulfil(order)));
    let halted = shop.engine.switch(Switch::Halted).expect("there is room");
    shop.done(halted);
    shop.refuse("Halted", |it| moved(it.confirm(order)));
    shop.refuse("Halted", |it| moved(it.cancel(order)));
    let opened = shop.engine.switch(Switch::Open).expect("there is room");
    shop.done(opened);
    drop(shop.engine.cancel(order).expect("held"));
    shop.engine.run_until_idle();
    shop.refuse("NotAllowed", |it| moved(it.confirm(order)));
    shop.refuse("AlreadyDone", |it| moved(it.cancel(order)));
}

type Verb = fn(&Engine, OrderId) -> Told;

/// Every verb, in a call that would change something. Those that end an order come last.
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

fn refuse_verbs(shop: &Shop, order: OrderId, expected: &str, verbs: &[(&str, Verb)]) {
    let before = shop.all_of_it();
    for (name, verb) in verbs {
        match verb(shop.engine.engine(), order) {
            Ok(told) => assert!(told.contains(expected), "{name}: {told}, not {expected}"),
            Err(told) => panic!("{name}: {told}, where {expected} was expected"),
        }
        assert!(
            shop.all_of_it() == before,
            "{name}: refused with {expected}, but something changed"
        );
    }
}

#[test]
fn a_backlog_that_is_full_changes_nothing() {
    let small =
        |options: Options| options.partitions(1).log_shards(1).log_backlog_bytes_max(200_000);
    let mut shop = Shop::new(small);
    shop.add(OTHER, 1_000_000, 1);
    let order = shop.hold(&one(1, SKU)).order;
    // Both lanes are filled: the partition's and the SKUs'.
    let filled = (0..100_000_u64).find(|nth| {
        let order = Order::new(*nth, RequestKey::new(900)).line(OTHER, 1);
        is_refused_for("Backlogged", shop.engine.place(&order).map(drop))
    });
    assert!(filled.is_some());
    let filled = (0..100_000_u128).find(|nth| {
        let adjust = Adjust::add(1).key(1_000 + nth);
        is_refused_for("Backlogged", shop.engine.stock(OTHER, adjust).map(drop))
    });
    assert!(filled.is_some());
    // The smallest of the records that are logged there.
    let filled =
        (0..256).find(|_| is_refused_for("Backlogged", shop.engine.switch(Switch::Open).map(drop)));
    assert!(filled.is_some());
    // Endings have room of their own.
    refuse_verbs(&shop, order, "Backlogged", &VERBS[..8]);
}

fn is_refused_for<E: Debug>(cause: &str, answer: Result<(), E>) -> bool {
    answer.is_err_and(|error| format!("{error:?}").contains(cause))
}

#[test]
fn a_disk_that_is_full_changes_nothing() {
    let mut shop = Shop::new(|options| small(options).partitions(1).log_shards(1));
    let order = shop.hold(&one(1, SKU)).order;
    let len = |path: &String| shop.storage.read_file(path).expect("it is listed").len() as u64;
    let used_bytes: u64 = shop.storage.list_files().iter().map(len).sum();
    shop.storage.set_capacity_bytes(Some(used_bytes + SMALL_SEGMENT_BYTES / 2));
    // The segments that were made ahead are used up, until the engine finds no room for another.
    let filled = (0..10_000_u128).find(|nth| {
        let add = Adjust::add(1).key(1_000 + nth);
        let is_full = is_refused_for("DiskFull", shop.engine.stock(OTHER, add).map(drop));
        shop.engine.step_writer(0);
        shop.engine.step_segments();
        is_full
    });
    assert!(filled.is_some());
    // Endings have room of their own.
    refuse_verbs(&shop, order, "DiskFull", &VERBS[..8]);
}

/// The story: a SKU is adjusted so often within one retention that no further key can be kept.
#[test]
fn adjustment_keys_beyond_the_bound_change_nothing() {
    let mut shop = Shop::new(|options| options.segment_bytes(16 << 20));
    let mut nth = 0_u128;
    while nth < ADJUST_KEYS_MAX {
        for _ in 0..8_192 {
            nth += 1;
            let kept = shop.engine.stock(EMPTY, Adjust::add(1).key(nth)).map(drop);
            // The shop has used one key.
            assert_eq!(kept.is_ok(), nth < ADJUST_KEYS_MAX, "{nth}: {kept:?}");
        }
        shop.engine.run_until_idle();
    }
    shop.refuse("AdjustKeys", |it| adjusted(it, EMPTY, Adjust::add(1).key(nth + 1)));
}

#[test]
fn a_latched_engine_changes_nothing() {
    let mut shop = Shop::new(plain);
    let order = shop.hold(&one(1, SKU)).order;
    shop.storage.set_fault_hook(Some(std::sync::Arc::new(|call| {
        let is_change = call.operation.is_change();
        if is_change { Fault::Error(std::io::ErrorKind::Other) } else { Fault::None }
    })));
    drop(shop.engine.place(one(2, SKU)).expect("an answer"));
    for shard in 0..2 {
        let _ = shop.engine.step_writer(shard);
    }
    shop.storage.set_fault_hook(None);
    refuse_verbs(&shop, order, "Latched", &VERBS);
}

#[test]
fn a_closed_engine_changes_nothing() {
    let mut shop = Shop::new(plain);
    let order = shop.hold(&one(1, SKU)).order;
    let handle = shop.engine.engine().clone();
    let before = shop.all_of_it().0;
    let (storage, clock) = (shop.storage.clone(), shop.clock.clone());
    shop.engine.close().expect("closes");
    for (verb, act) in VERBS {
        let told = act(&handle, order);
        assert!(told.as_ref().is_ok_and(|told| told.contains("Closed")), "{verb}: {told:?}");
    }
    let options = crate::shop::options(&storage, &clock);
    let reopened = doorbuster::testing::SteppedEngine::open(options).expect("opens");
    assert_eq!(reopened.dump(), before);
}

#[test]
fn orders_beyond_the_bound_change_nothing() {
    let few = |options: Options| options.partitions(1).log_shards(1).orders_max(2);
    let mut shop = Shop::new(few);
    shop.hold(&one(1, SKU));
    shop.hold(&one(2, SKU));
    shop.refuse("Orders", |it| placed(it, one(3, SKU)));
    shop.refuse("Orders", |it| placed(it, one(3, SKU).line(OTHER, 1)));
}
