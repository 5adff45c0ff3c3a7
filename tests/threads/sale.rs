//! Everything at once: lines and carts, batches, retries from several threads, confirms, cancels, expiries,
//! restocks, write-offs, reads. Then the sums are checked, and again after a reopen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorbuster::error::{PlaceError, StockError};
use doorbuster::testing::ManualClock;
use doorbuster::{
    Adjust, Adjusted, Commit, Durability, Engine, Order, OrderId, OrderState, OrderView, Placed,
    RequestKey, SaleRules, SkuId, Transition,
};
use fastrand::Rng;

use crate::seeds::{Rerun, seeds, stream};
use crate::{Moments, THREADS, options};

const SKUS: u64 = 5;
const BUYERS: u64 = 24;
/// Keys of each buyer. Any thread may send each of them.
const KEYS: u64 = 60;
/// Has a limit for each buyer.
const LIMITED: SkuId = SkuId::new(4);
const LIMIT: u32 = 3;
const ACTIONS: u64 = 6_000;

/// A key's content; `variant` 1 is a content that must be refused.
fn order(seed: u64, buyer: u64, key: u64, variant: u64) -> Order {
    let mut random = stream(seed, (buyer << 16 | key) << 1 | variant);
    let hold = match random.u64(..100) < 40 {
        true => Duration::from_millis(1 + random.u64(..400)),
        false => Duration::from_secs(3_600),
    };
    let mut order = Order::new(buyer, RequestKey::new(u128::from(key))).hold_for(hold);
    let lines = if random.u64(..100) < 60 { 1 } else { 2 + random.u64(..4) };
    for _ in 0..lines {
        order = order.line(random.u64(..SKUS), 1 + random.u64(..2) as u32);
    }
    if variant == 1 || random.u64(..100) < 25 {
        order.payload(vec![variant as u8; 9])
    } else {
        order
    }
}

/// The answers that the threads received.
#[derive(Default)]
struct Books {
    keys: HashMap<(u64, u64), KeyAnswers>,
    verbs: HashMap<OrderId, Vec<Transition>>,
    /// By SKU and key: the answer of the adjustment.
    adjusted: HashMap<(u64, u128), i64>,
    /// When the answer "held" was received, when its cancel was called, and what the order holds by SKU.
    held_at: HashMap<OrderId, u64>,
    cancel_called: HashMap<OrderId, u64>,
    lines: HashMap<OrderId, BTreeMap<u64, i64>>,
    /// By SKU: when units were added, and how many.
    supplies: Vec<(u64, u64, i64)>,
}

#[derive(Default)]
struct KeyAnswers {
    orders: BTreeSet<OrderId>,
    variants: BTreeSet<u64>,
    fresh: u64,
    /// When "held" was first received, and the last call that was refused.
    held_at: Option<u64>,
    refused_call: Option<u64>,
}

struct Sale<'a> {
    engine: &'a Engine,
    clock: &'a ManualClock,
    moments: Moments,
    books: Mutex<Books>,
    seed: u64,
}

#[test]
fn the_books_of_a_sale_add_up_when_written() {
    run(Durability::Written, 3, "the_books_of_a_sale_add_up_when_written");
}

#[test]
fn the_books_of_a_sale_add_up_when_synced() {
    run(Durability::Synced, 1, "the_books_of_a_sale_add_up_when_synced");
}

fn run(durability: Durability, count: usize, name: &str) {
    for seed in seeds("SALE_SEED", count) {
        let _rerun = Rerun::new("SALE_SEED", seed, &format!("--test threads {name}"));
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::default());
        let open = |path: &Path| {
            Engine::open(options(path, durability).clock(clock.clone())).expect("opens")
        };
        let engine = open(folder.path());
        let sale = Sale {
            engine: &engine,
            clock: &clock,
            moments: Moments::default(),
            books: Mutex::default(),
            seed,
        };
        for sku in 0..SKUS {
            sale.adjust(sku, 1 << 64, Adjust::add(60));
        }
        let limit = SaleRules::new().buyer_limit(LIMIT);
        engine.rules(LIMITED, limit).expect("accepted").wait().expect("durable");
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let sale = &sale;
                scope.spawn(move || sale.work(thread));
            }
        });
        let books = sale.books.into_inner().expect("no panic");
        let views = check(&engine, &books, seed);
        engine.close().expect("closes");
        let engine = open(folder.path());
        assert_eq!(check(&engine, &books, seed), views, "after a reopen");
        // Ends what is over by now, and sends every key once more.
        clock.advance(Duration::from_secs(10));
        for ((buyer, key), answers) in &books.keys {
            let Some(first) = answers.orders.first() else { continue };
            let variant = *answers.variants.first().expect("it was held");
            let again = engine.place(order(seed, *buyer, *key, variant)).expect("accepted");
            let again = again.wait().expect("durable");
            assert!(again.held().is_some_and(|held| held.replayed && held.order == *first));
        }
    }
}

impl Sale<'_> {
    fn work(&self, thread: u64) {
        let mut random = stream(self.seed, thread);
        let mut mine: Vec<OrderId> = Vec::new();
        let mut waiting: Vec<Commit<Placed>> = Vec::new();
        for nth in 0..ACTIONS {
            match random.u64(..100) {
                0..=44 => {
                    let placed = self.place(&mut random);
                    mine.extend(placed.as_ref().and_then(held_in));
                    waiting.extend(placed);
                }
                45..=51 => mine.extend(self.place_batch(&mut random)),
                52..=81 => self.end(&mut random, &mine),
                82..=86 => {
                    let key = u128::from(random.u64(..400));
                    let units = 1 + random.u64(..4) as u32;
                    let adjust = match random.u64(..4) {
                        0 | 1 => Adjust::add(units),
                        2 => Adjust::take(units),
                        _ => Adjust::take_up_to(units),
                    };
                    self.adjust(random.u64(..SKUS), key, adjust);
                }
                87..=89 => self.clock.advance(Duration::from_millis(random.u64(..30))),
                90..=95 => {
                    let Some(order) = pick(&mut random, &mine) else { continue };
                    let view = self.engine.order(order).expect("known");
                    assert_eq!(view.order, order);
                    if random.u64(..100) < 20 {
                        assert!(view.when_durable().wait().expect("durable").durable);
                    }
                }
                96 | 97 => {
                    let levels = self.engine.levels(random.u64(..SKUS)).expect("known");
                    assert!(levels.available >= 0 && levels.stocked >= 0, "{levels:?}");
                }
                98 => assert!(self.engine.stats().orders <= BUYERS * KEYS),
                _ => std::thread::yield_now(),
            }
            // Some threads wait for each answer, some for many at once, some never.
            if thread % 4 < 3 && waiting.len() as u64 > 1 + thread % 4 * 20 {
                for commit in waiting.drain(..) {
                    let _ = commit.wait().expect("durable");
                }
            }
            if nth % 256 == 0 {
                waiting.clear();
            }
        }
    }

    fn any_order(&self, random: &mut Rng) -> (u64, u64, u64, Order) {
        let (buyer, key) = (random.u64(..BUYERS), random.u64(..KEYS));
        let variant = u64::from(random.u64(..100) < 4);
        (buyer, key, variant, order(self.seed, buyer, key, variant))
    }

    fn place(&self, random: &mut Rng) -> Option<Commit<Placed>> {
        let (buyer, key, variant, order) = self.any_order(random);
        let called = self.moments.now();
        match self.engine.place(&order) {
            Ok(placed) => {
                self.note(buyer, key, variant, called, placed.peek().expect("an answer"));
                Some(placed)
            }
            Err(PlaceError::Contended { .. }) => None,
            Err(other) => panic!("{other}"),
        }
    }

    fn place_batch(&self, random: &mut Rng) -> Vec<OrderId> {
        let asked: Vec<_> = (0..1 + random.u64(..12)).map(|_| self.any_order(random)).collect();
        let orders: Vec<Order> = asked.iter().map(|(.., order)| order.clone()).collect();
        let called = self.moments.now();
        let batch = self.engine.place_batch(&orders).expect("accepted");
        for (placed, (buyer, key, variant, _)) in
            batch.peek().expect("an answer").iter().zip(&asked)
        {
            match placed {
                Ok(placed) => self.note(*buyer, *key, *variant, called, placed),
                Err(PlaceError::Contended { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let answers = batch.wait().expect("durable");
        answers.iter().flatten().filter_map(|placed| placed.held()).map(|held| held.order).collect()
    }

    fn note(&self, buyer: u64, key: u64, variant: u64, called: u64, placed: &Placed) {
        let answered = self.moments.now();
        let mut books = self.books.lock().expect("no panic");
        let answers = books.keys.entry((buyer, key)).or_default();
        match placed {
            Placed::Held(held) => {
                answers.orders.insert(held.order);
                answers.variants.insert(variant);
                answers.fresh += u64::from(!held.replayed);
                answers.held_at = Some(answers.held_at.map_or(answered, |at| at.min(answered)));
            }
            Placed::KeyReused(reused) => answers.orders.extend(reused.order),
            Placed::Refused(_) if variant == 0 => {
                answers.refused_call = answers.refused_call.max(Some(called));
            }
            _ => {}
        }
        if let Placed::Held(held) = placed
            && !held.replayed
        {
            let mut lines: BTreeMap<u64, i64> = BTreeMap::new();
            for line in order(self.seed, buyer, key, variant).lines() {
                *lines.entry(line.sku.get()).or_default() += i64::from(line.quantity.get());
            }
            books.lines.insert(held.order, lines);
            books.held_at.insert(held.order, answered);
        }
    }

    fn end(&self, random: &mut Rng, mine: &[OrderId]) {
        let Some(order) = pick(random, mine) else { return };
        let verb = [Engine::confirm, Engine::confirm, Engine::cancel, Engine::fulfil]
            [random.u64(..4) as usize];
        let called = self.moments.now();
        let ended = verb(self.engine, order).expect("known");
        let transition = *ended.peek().expect("an answer");
        {
            let mut books = self.books.lock().expect("no panic");
            books.verbs.entry(order).or_default().push(transition);
            if transition == (Transition::Done { state: OrderState::Cancelled }) {
                books.cancel_called.insert(order, called);
            }
        }
        if random.u64(..100) < 30 {
            assert_eq!(ended.wait().expect("durable"), transition);
        }
    }

    fn adjust(&self, sku: u64, key: u128, adjust: Adjust) {
        let called = self.moments.now();
        let adjusted = match self.engine.stock(sku, adjust.key(key)) {
            Err(StockError::Contended { .. }) => return,
            adjusted => adjusted.expect("accepted"),
        };
        match adjusted.peek().expect("an answer") {
            Adjusted::Done { delta, replayed, .. } => {
                let mut books = self.books.lock().expect("no panic");
                let first = books.adjusted.insert((sku, key), *delta);
                assert!(first.is_none_or(|first| first == *delta), "one answer for each key");
                if !replayed {
                    books.supplies.push((sku, called, *delta));
                }
            }
            Adjusted::TooFew { .. } | Adjusted::KeyReused { .. } => {}
            other => panic!("{other:?}"),
        }
        let _ = adjusted.wait().expect("durable");
    }
}

fn held_in(placed: &Commit<Placed>) -> Option<OrderId> {
    placed.peek().and_then(|placed| placed.held()).map(|held| held.order)
}

fn pick(random: &mut Rng, orders: &[OrderId]) -> Option<OrderId> {
    let count = orders.len() as u64;
    (count > 0).then(|| orders[(count - 1 - random.u64(..count.min(60))) as usize])
}

/// Nothing is in flight: the figures add up, and agree with all answers.
fn check(engine: &Engine, books: &Books, seed: u64) -> Vec<OrderView> {
    let mut views = Vec::new();
    for ((buyer, key), answers) in &books.keys {
        let Some(first) = answers.orders.first() else { continue };
        assert_eq!(answers.orders.len(), 1, "one key, one order: {:?}", answers.orders);
        assert_eq!((answers.fresh, answers.variants.len()), (1, 1), "made once: {first}");
        if let (Some(held_at), Some(refused_call)) = (answers.held_at, answers.refused_call) {
            assert!(refused_call < held_at, "{first} was held, and then its key was refused");
        }
        let view = engine.order(*first).expect("known").when_durable().wait().expect("durable");
        let variant = *answers.variants.first().expect("one");
        let asked = order(seed, *buyer, *key, variant);
        assert_eq!((view.buyer, view.key), (asked.buyer(), asked.key()));
        let units = |lines: &[doorbuster::Line], sku: u64| -> u32 {
            let lines = lines.iter().filter(|line| line.sku.get() == sku);
            lines.map(|line| line.quantity.get()).sum()
        };
        for sku in 0..SKUS {
            assert_eq!(units(&view.lines, sku), units(asked.lines(), sku), "{first}");
        }
        views.push(view);
    }
    assert_eq!(engine.stats().orders, views.len() as u64);
    for view in &views {
        check_transitions(view, books.verbs.get(&view.order).map_or(&[][..], Vec::as_slice));
    }
    check_levels(engine, books, &views);
    check_supply(books, &views);
    views.sort_by_key(|view| view.order);
    views
}

/// The answers of the verbs are one way through the states, and end where the order is.
fn check_transitions(view: &OrderView, told: &[Transition]) {
    let done = |state| told.iter().filter(|t| **t == Transition::Done { state }).count();
    let (confirmed, cancelled, fulfilled) =
        (done(OrderState::Confirmed), done(OrderState::Cancelled), done(OrderState::Fulfilled));
    assert!(confirmed <= 1 && cancelled <= 1 && fulfilled <= 1, "{view:?}: {told:?}");
    assert!(cancelled + fulfilled <= 1 && fulfilled <= confirmed, "{view:?}: {told:?}");
    let stands = match (confirmed, cancelled, fulfilled) {
        (_, 1, _) => OrderState::Cancelled,
        (_, _, 1) => OrderState::Fulfilled,
        (1, _, _) => OrderState::Confirmed,
        _ if view.state == OrderState::Expired => OrderState::Expired,
        _ => OrderState::Held,
    };
    assert_eq!(view.state, stands, "{told:?}");
    for transition in told {
        let seen = transition.state();
        let was = match seen {
            OrderState::Held => true,
            OrderState::Expired => view.state == OrderState::Expired,
            state => done(state) == 1,
        };
        assert!(was, "{view:?} was never {seen:?}: {told:?}");
    }
}

fn check_levels(engine: &Engine, books: &Books, views: &[OrderView]) {
    let mut of_buyer: HashMap<_, u32> = HashMap::new();
    for sku in 0..SKUS {
        let units = |states: &[OrderState]| -> i64 {
            let views = views.iter().filter(|view| states.contains(&view.state));
            let lines = views.flat_map(|view| &view.lines).filter(|line| line.sku.get() == sku);
            lines.map(|line| i64::from(line.quantity.get())).sum()
        };
        let stocked: i64 =
            books.adjusted.iter().filter(|((of, _), _)| *of == sku).map(|(_, delta)| delta).sum();
        let levels = engine.levels(sku).expect("known");
        assert!(levels.add_up() && levels.available >= 0, "{levels:?}");
        assert_eq!(levels.stocked, stocked, "{levels:?}");
        assert_eq!(levels.returning, 0, "{levels:?}");
        assert_eq!(levels.held, units(&[OrderState::Held]), "{levels:?}");
        let sold = units(&[OrderState::Confirmed, OrderState::Fulfilled]);
        assert_eq!(levels.sold, sold, "{levels:?}");
    }
    for view in views {
        if matches!(view.state, OrderState::Cancelled | OrderState::Expired) {
            continue;
        }
        for line in view.lines.iter().filter(|line| line.sku == LIMITED) {
            let units = of_buyer.entry(view.buyer).or_default();
            *units += line.quantity.get();
            assert!(*units <= LIMIT, "{} has {units}", view.buyer);
        }
    }
}

/// At no moment did the buyers have more, for certain, than had been delivered until then.
fn check_supply(books: &Books, views: &[OrderView]) {
    let expired: BTreeSet<OrderId> = views
        .iter()
        .filter(|view| view.state == OrderState::Expired)
        .map(|view| view.order)
        .collect();
    for sku in 0..SKUS {
        // At one moment, additions come first and removals last.
        let mut changes: Vec<(u64, i64)> = (books.supplies.iter())
            .filter(|(of, _, delta)| *of == sku && *delta > 0)
            .map(|(_, called, delta)| (*called, *delta))
            .collect();
        for (order, lines) in books.lines.iter().filter(|(order, _)| !expired.contains(order)) {
            let units = lines.get(&sku).copied().unwrap_or(0);
            changes.push((books.held_at[order], -units));
            changes.extend(books.cancel_called.get(order).map(|called| (*called, units)));
        }
        changes.sort_unstable();
        let mut left = 0;
        for (at, change) in changes {
            left += change;
            assert!(left >= 0, "SKU {sku} oversold by {} at {at}", -left);
        }
    }
}
