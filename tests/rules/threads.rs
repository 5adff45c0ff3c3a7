//! Many threads: an opening and a closing are one moment for all partitions, and a switch that was returned is in
//! force (rule R9).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage};
use doorbuster::{
    Adjust, Durability, Engine, MerchantId, MerchantRules, Options, Order, Placed, Refusal,
    RequestKey, SaleRules, SkuId, Switch,
};

const THREADS: u64 = 6;
const SKU: SkuId = SkuId::new(1_000);
const MERCHANT: MerchantId = MerchantId::new(5);

fn open() -> (Engine, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let options = Options::on_storage(Arc::new(MemoryStorage::new()))
        .clock(clock.clone())
        .durability(Durability::Written)
        .partitions(8)
        .segment_bytes(1 << 20);
    (Engine::open(options).expect("opens"), clock)
}

/// Numbers the moments at which calls began and returned, in one order.
#[derive(Default)]
struct Moments(AtomicU64);

impl Moments {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    /// Waits until some thread has begun a call and received its answer since. Of more than two moments a thread,
    /// one thread had three, and only the first of them can end a call that was begun before.
    fn wait_for_a_request(&self) {
        let since = self.0.load(Ordering::SeqCst);
        while self.0.load(Ordering::SeqCst) <= since + 2 * THREADS {
            std::thread::yield_now();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    NotOpen,
    Held,
    Closed,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    called: u64,
    answered: u64,
    told: Told,
}

/// Places orders until the answer is that the sale is closed, one by one and in batches, each by a new buyer.
fn buy(engine: &Engine, moments: &Moments, thread: u64) -> Vec<Request> {
    let mut requests = Vec::new();
    for nth in 0_u64.. {
        let buyer = thread << 32 | nth << 8;
        let orders: Vec<Order> = (0..if nth % 3 == 0 { 5 } else { 1 })
            .map(|more| Order::new(buyer + more, RequestKey::new(1)).line(SKU, 1))
            .collect();
        let called = moments.now();
        let placed = match &orders[..] {
            [order] => vec![engine.place(order).ok().and_then(|placed| placed.peek().cloned())],
            orders => {
                let placed = engine.place_batch(orders).expect("open");
                let placed = placed.peek().expect("answers");
                placed.iter().map(|placed| placed.clone().ok()).collect()
            }
        };
        let answered = moments.now();
        if placed.contains(&None) {
            // The log's writers had no turn.
            std::thread::yield_now();
        }
        let told = placed.into_iter().flatten().map(|placed| match placed {
            Placed::Held(_) => Told::Held,
            Placed::Refused(Refusal::NotOpen { opens_at_ms, now_ms, .. }) => {
                assert!(now_ms < opens_at_ms);
                Told::NotOpen
            }
            Placed::Refused(Refusal::Closed { .. }) => Told::Closed,
            other => panic!("{other:?}"),
        });
        requests.extend(told.map(|told| Request { called, answered, told }));
        if requests.last().is_some_and(|last| last.told == Told::Closed) {
            return requests;
        }
    }
    requests
}

#[test]
fn a_sale_opens_and_closes_at_one_moment_for_everybody() {
    for _ in 0..3 {
        let (engine, clock) = open();
        let _ = engine.stock(SKU, Adjust::add(10_000_000).key(0)).expect("accepted").wait();
        let opens_at_ms = engine.now_ms() + 6;
        let closes_at_ms = opens_at_ms + 6;
        let rules = SaleRules::new().opens_at_ms(opens_at_ms).closes_at_ms(closes_at_ms);
        engine.rules(SKU, rules).expect("accepted").wait().expect("durable");
        let moments = Moments::default();
        let requests = Mutex::new(Vec::new());
        // The moments before and after the clock was moved to the opening and to the closing.
        let mut moved = [(0, 0); 2];
        std::thread::scope(|scope| {
            for thread in 1..=THREADS {
                let (engine, moments, requests) = (&engine, &moments, &requests);
                scope.spawn(move || {
                    let made = buy(engine, moments, thread);
                    requests.lock().expect("no panic").extend(made);
                });
            }
            for now_ms in opens_at_ms - 5..=closes_at_ms {
                moments.wait_for_a_request();
                let before = moments.now();
                clock.advance(Duration::from_millis(1));
                let at = [opens_at_ms, closes_at_ms].into_iter().position(|at| at == now_ms);
                at.into_iter().for_each(|nth| moved[nth] = (before, moments.now()));
            }
        });
        let requests = requests.into_inner().expect("no panic");
        check(&requests, moved);
        let held = requests.iter().filter(|request| request.told == Told::Held).count();
        assert_eq!(engine.levels(SKU).map(|levels| levels.held), Some(held as i64));
    }
}

/// Every answer has a moment between its call and its return. These moments and those at which the clock moved are
/// in one order: not open, opened, held, closed, closed.
fn check(requests: &[Request], moved: [(u64, u64); 2]) {
    let of = |told| requests.iter().filter(move |request| request.told == told);
    let first_answered = |told| of(told).map(|request| request.answered).min();
    let last_called = |told| of(told).map(|request| request.called).max();
    let [opened, closed] = moved;
    for told in [Told::NotOpen, Told::Held, Told::Closed] {
        assert!(of(told).next().is_some(), "no answer was {told:?}");
    }
    assert!(first_answered(Told::Held) > Some(opened.0), "held before it opened");
    assert!(last_called(Told::NotOpen) < Some(opened.1), "refused after it opened");
    assert!(last_called(Told::NotOpen) < first_answered(Told::Held), "refused after one was held");
    assert!(first_answered(Told::Closed) > Some(closed.0), "refused before it closed");
    assert!(last_called(Told::Held) < Some(closed.1), "held after it closed");
    assert!(last_called(Told::Held) < first_answered(Told::Closed), "held after one was refused");
}

/// Long carts, since switches are read before the first line is taken. When the switch was returned, a cart that
/// had read the old one is held already, or will not be held.
#[test]
fn nothing_is_held_after_a_switch_was_returned() {
    const PLENTY: std::ops::Range<u64> = 700..1_000;
    let (engine, _clock) = open();
    for sku in PLENTY.chain([SKU.get()]) {
        let _ = engine.stock(sku, Adjust::add(100_000_000).key(0)).expect("accepted").wait();
    }
    let owned = SaleRules::new().merchant(MERCHANT);
    engine.rules(SKU, owned).expect("accepted").wait().expect("durable");
    let over = AtomicBool::new(false);
    let barrier = Barrier::new(THREADS as usize + 1);
    std::thread::scope(|scope| {
        for thread in 1..=THREADS {
            let (engine, over, barrier) = (&engine, &over, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for nth in 0.. {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let order = Order::new(thread << 32 | nth, RequestKey::new(1)).line(SKU, 1);
                    let cart = PLENTY.fold(order, |order, sku| order.line(sku, 1));
                    match engine.place(cart).map(|placed| placed.peek().cloned()) {
                        Ok(Some(Placed::Held(held))) => {
                            drop(engine.cancel(held.order));
                        }
                        Ok(Some(Placed::Refused(Refusal::Switched { .. })))
                        | Err(doorbuster::PlaceError::Unavailable(_)) => std::thread::yield_now(),
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
        barrier.wait();
        let set = |nth: u64, to| match nth % 3 {
            0 => engine.switch(to).expect("there is room"),
            1 => engine.merchant(MERCHANT, MerchantRules::new().switch(to)).expect("there is room"),
            _ => engine.rules(SKU, SaleRules::new().switch(to)).expect("there is room"),
        };
        let held = || engine.levels(SKU).expect("known").held;
        let mut late = Vec::new();
        for nth in 0..60 {
            let halted = set(nth, Switch::Halted);
            let at_return = held();
            (0..20).for_each(|_| std::thread::yield_now());
            if held() != at_return {
                late.push(nth);
            }
            drop(halted);
            set(nth, Switch::Open).wait().expect("durable");
            (0..20).for_each(|_| std::thread::yield_now());
        }
        over.store(true, Ordering::SeqCst);
        assert!(late.is_empty(), "held or ended under a halt: rounds {late:?}");
    });
}
