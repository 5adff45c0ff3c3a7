//! Waiting lists under many threads: orders join, leave, run out of patience and are served, beside restocks, a
//! merchant's rate and a switch. No order is served out of turn, no unit is left while an order waits, and a key
//! that has an order is answered with that order (rules R1 and R17).

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use doorbuster::error::PlaceError;
use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, Durability, Engine, Fill, MerchantId, MerchantRules, Options, Order, OrderId,
    OrderState, Placed, Refusal, RequestKey, SaleRules, SkuId, Switch, served_in_turn,
};
use fastrand::Rng;

use crate::seeds::{Rerun, seeds, stream};
use crate::{Moments, THREADS, options};

const HOT: SkuId = SkuId::new(1);
const MERCHANT: MerchantId = MerchantId::new(1);
const BUYERS: u64 = 16;
/// Keys of each buyer.
const KEYS: u64 = 200;
const ACTIONS: u64 = 1_500;
const WAITING_MAX: u32 = 40;

/// A key's content, always the same. Most wait, and their hold is shorter than their patience, so an order that is
/// served moves to another timer.
fn order(seed: u64, (buyer, key): (u64, u64)) -> Order {
    let mut random = stream(seed, buyer << 16 | key);
    let order = Order::new(buyer, RequestKey::new(u128::from(key))).line(HOT, 1);
    let order = order.hold_for(Duration::from_millis(5 + random.u64(..100)));
    let patience = Duration::from_millis(50 + random.u64(..2_000));
    match random.u64(..100) < 85 {
        true => order.class(random.u64(..3) as u8).fill(Fill::Wait { patience }),
        false => order,
    }
}

/// The answers for a key.
#[derive(Default)]
struct KeyBook {
    orders: BTreeSet<OrderId>,
    /// Answers that were not marked as repeats.
    fresh: u64,
    /// When its order was first returned, and when the last request that was refused had been called.
    told_at: Option<u64>,
    refused_call: Option<u64>,
}

struct Shop<'a> {
    engine: &'a Engine,
    clock: &'a ManualClock,
    seed: u64,
    moments: Moments,
    books: Mutex<HashMap<(u64, u64), KeyBook>>,
    /// Keys that have orders.
    known: Mutex<Vec<((u64, u64), OrderId)>>,
    stocked: AtomicI64,
}

#[test]
fn a_waiting_list_under_many_threads_is_served_in_turn_and_to_the_last_unit() {
    for seed in seeds("LIST_SEED", 2) {
        let _rerun = Rerun::new("LIST_SEED", seed, "--test threads a_waiting_list_under_many");
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::default());
        let open = || {
            let options = options(folder.path(), Durability::Written).clock(clock.clone());
            Engine::open(options.checkpoint_bytes(1 << 40)).expect("opens")
        };
        let engine = open();
        let shop = Shop {
            engine: &engine,
            clock: &clock,
            seed,
            moments: Moments::default(),
            books: Mutex::default(),
            known: Mutex::default(),
            stocked: AtomicI64::new(0),
        };
        shop.restock(3, 0);
        let rules = SaleRules::new().waiting_max(WAITING_MAX).merchant(MERCHANT);
        engine.rules(HOT, rules).expect("known").wait().expect("durable");
        let rate = MerchantRules::new().rate(2_000, 3);
        engine.merchant(MERCHANT, rate).expect("there is room").wait().expect("durable");
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let shop = &shop;
                scope.spawn(move || shop.work(thread));
            }
        });
        shop.settle();
        let (books, stocked) = shop.into_books();
        for (key, book) in &books {
            check(*key, book);
        }
        engine.close().expect("closes");
        let turns = served_in_turn(folder.path()).expect("a whole log");
        assert_eq!((turns.out_of_turn, turns.passed, turns.lost), (0, 0, 0), "{turns:?}");
        assert!(turns.promoted > 0 && turns.left > 0, "{turns:?}");
        let engine = open();
        let levels = engine.levels(HOT).expect("known");
        assert!(levels.add_up() && levels.available >= 0, "{levels:?}");
        assert_eq!(levels.stocked, stocked);
        for (key, book) in &books {
            let Some(first) = book.orders.first() else { continue };
            let again = engine.place(order(seed, *key)).expect("accepted");
            assert_eq!(told(again.peek().expect("an answer")), Some((*first, true)), "{key:?}");
        }
    }
}

/// The order that an answer names, and whether it is a repeat; `None`: refused.
fn told(placed: &Placed) -> Option<(OrderId, bool)> {
    match placed {
        Placed::Held(held) => Some((held.order, held.replayed)),
        Placed::Waiting(waiting) => Some((waiting.order, waiting.replayed)),
        Placed::Refused(
            Refusal::SoldOut { .. }
            | Refusal::OthersWaiting { .. }
            | Refusal::WaitingListFull { .. }
            | Refusal::RateLimited { .. }
            | Refusal::Switched { .. },
        ) => None,
        other => panic!("{other:?}"),
    }
}

fn check(key: (u64, u64), book: &KeyBook) {
    assert!(book.orders.len() <= 1, "{key:?} has several orders: {:?}", book.orders);
    assert_eq!(book.fresh, book.orders.len() as u64, "{key:?}: answers that made its order");
    if let (Some(told), Some(refused)) = (book.told_at, book.refused_call) {
        assert!(
            refused < told,
            "{key:?} was refused at {refused}, after its order was returned at {told}"
        );
    }
}

impl Shop<'_> {
    fn work(&self, thread: u64) {
        let mut random = stream(self.seed, 1 << 32 | thread);
        for nth in 0..ACTIONS {
            match random.u64(..100) {
                0..=24 => self.place(&[(random.u64(..BUYERS), random.u64(..KEYS))]),
                25..=54 => {
                    let Some((key, _)) = self.known(&mut random) else { continue };
                    self.place(&vec![key; 1 + random.u64(..8) as usize]);
                }
                55..=66 => {
                    let Some((_, order)) = self.known(&mut random) else { continue };
                    let cancelled = self.engine.cancel(order).expect("known");
                    if random.u64(..100) < 30 {
                        cancelled.wait().expect("durable");
                    }
                }
                67..=70 => {
                    let Some((_, order)) = self.known(&mut random) else { continue };
                    drop(self.engine.confirm(order).expect("known"));
                }
                // Few units: those that cancels and expiry return are served again and again.
                71..=73 if random.u64(..100) < 10 => {
                    self.restock(1, u128::from(thread << 32 | nth) + 1);
                }
                74..=89 => self.clock.advance(Duration::from_micros(random.u64(..3_000))),
                90..=91 if thread == 0 => {
                    for switch in [Switch::NoNewHolds, Switch::Open] {
                        let switched = self.engine.switch(switch).expect("open");
                        switched.wait().expect("durable");
                    }
                }
                _ => {
                    let Some((_, order)) = self.known(&mut random) else { continue };
                    let position = self.engine.position(order).expect("known");
                    assert!(position.is_none_or(|before| before < u64::from(WAITING_MAX)));
                    std::thread::yield_now();
                }
            }
        }
    }

    fn known(&self, random: &mut Rng) -> Option<((u64, u64), OrderId)> {
        let known = self.known.lock().expect("no panic");
        // Mostly a recent one, which may be about to be served.
        let last = known.len().checked_sub(1)? as u64;
        let back = if random.u64(..100) < 70 { last.min(20) } else { last };
        Some(known[(last - random.u64(..back + 1)) as usize])
    }

    fn place(&self, keys: &[(u64, u64)]) {
        let orders: Vec<Order> = keys.iter().map(|key| order(self.seed, *key)).collect();
        let called = self.moments.now();
        let answers = match &*orders {
            [order] => vec![self.engine.place(order).map(|it| it.peek().expect("answer").clone())],
            orders => {
                let batch = self.engine.place_batch(orders).expect("open");
                batch.peek().expect("answers").clone()
            }
        };
        let answered = self.moments.now();
        for (key, placed) in keys.iter().zip(answers) {
            let placed = match placed {
                Err(PlaceError::Contended { .. }) => continue,
                placed => placed.expect("an answer"),
            };
            let mut books = self.books.lock().expect("no panic");
            let book = books.entry(*key).or_default();
            match told(&placed) {
                None => book.refused_call = book.refused_call.max(Some(called)),
                Some((order, replayed)) => {
                    book.fresh += u64::from(!replayed);
                    book.told_at = Some(book.told_at.map_or(answered, |at| at.min(answered)));
                    if book.orders.insert(order) {
                        self.known.lock().expect("no panic").push((*key, order));
                    }
                }
            }
        }
    }

    fn restock(&self, units: u32, key: u128) {
        let added = self.engine.stock(HOT, Adjust::add(units).key(key)).expect("there is room");
        added.wait().expect("durable");
        self.stocked.fetch_add(units.into(), Ordering::Relaxed);
    }

    /// Returns once no order waits for a unit that is there: the promoter has served what it was asked for.
    fn settle(&self) {
        let is_left = || {
            let levels = self.engine.levels(HOT).expect("known");
            levels.available > 0 && levels.waiting > 0
        };
        while is_left() {
            std::thread::yield_now();
        }
    }

    fn into_books(self) -> (HashMap<(u64, u64), KeyBook>, i64) {
        (self.books.into_inner().expect("no panic"), self.stocked.into_inner())
    }
}

/// A long cart takes the only unit and fails at its last line, while an order that waits for that unit joins the
/// list. No other buyer can have it, so the order is served, by the promoter that the failed cart asked.
#[test]
fn a_unit_that_a_failed_cart_returns_is_handed_on() {
    const PLENTY: std::ops::Range<u64> = 5_000_000..5_000_200;
    const LAST: u64 = 6_000_000;
    const ROUNDS: u128 = 400;
    let options = Options::on_storage(Arc::new(MemoryStorage::new()))
        .clock(Arc::new(ManualClock::default()))
        .partitions(4)
        .log_shards(1)
        .segment_bytes(8 << 20);
    let mut engine = SteppedEngine::open(options).expect("opens");
    for sku in PLENTY.chain([HOT.get(), LAST]) {
        let units = if PLENTY.contains(&sku) { 1_000_000 } else { 1 };
        drop(engine.stock(sku, Adjust::add(units).key(0)).expect("there is room"));
    }
    engine.run_until_idle();
    drop(engine.rules(HOT, SaleRules::new().waiting_max(1)).expect("known"));
    engine.run_until_idle();
    let (barrier, over, done) = (Barrier::new(2), AtomicBool::new(false), AtomicU64::new(0));
    let carts = engine.engine().clone();
    std::thread::scope(|scope| {
        let carts = scope.spawn(|| {
            for nth in 0.. {
                barrier.wait();
                if over.load(Ordering::SeqCst) {
                    return;
                }
                // A cart that is certainly short takes nothing. So it comes in a batch, after the order that takes
                // what it lacks.
                let order = |key: u128| Order::new(2, RequestKey::new(key));
                let taker = order(2 * nth).line(LAST, 1);
                let cart = order(2 * nth + 1).line(HOT, 1).line(LAST, 1);
                let cart = PLENTY.fold(cart, |cart, sku| cart.line(sku, 1));
                let batch = carts.place_batch(&[taker, cart]).expect("open");
                let answers = batch.peek().expect("answers");
                let taken = answers[0].as_ref().expect("an answer").held().expect("held").order;
                assert!(!matches!(answers[1], Ok(Placed::Held(_))), "{:?}", answers[1]);
                done.fetch_add(1, Ordering::SeqCst);
                drop(carts.cancel(taken).expect("held"));
                barrier.wait();
            }
        });
        for nth in 0..ROUNDS {
            let patience = Duration::from_secs(9);
            let order = Order::new(1, RequestKey::new(nth)).line(HOT, 1);
            barrier.wait();
            // Best while the cart has the unit.
            let has_begun = || engine.levels(HOT).is_none_or(|levels| levels.available < 1);
            while !has_begun() && done.load(Ordering::SeqCst) <= nth as u64 {
                std::thread::yield_now();
            }
            let placed = engine.place(order.fill(Fill::Wait { patience })).expect("an answer");
            let (order, _) = told(placed.peek().expect("an answer")).expect("it may wait");
            barrier.wait();
            engine.run_until_idle();
            let state = engine.order(order).expect("known").state;
            if state != OrderState::Held {
                eprintln!("round {nth}: the unit is there, and the order is {state:?}");
                // The other thread waits at the barrier.
                std::process::abort();
            }
            drop(engine.cancel(order).expect("held"));
            engine.run_until_idle();
        }
        over.store(true, Ordering::SeqCst);
        barrier.wait();
        carts.join().expect("no panic");
    });
}
