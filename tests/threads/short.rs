//! Very many short histories: every "held" and every "sold out" has a moment at which it was true, with carts that
//! fail, cancels and restocks among the requests.

use std::collections::BTreeMap;
use std::sync::{Barrier, Mutex};

use doorbuster::error::{PlaceError, StockError};
use doorbuster::{
    Adjust, Adjusted, Durability, Engine, Order, OrderId, Placed, Refusal, RequestKey,
};
use fastrand::Rng;

use crate::history::{Effect, Event, makes_sense};
use crate::seeds::{Rerun, seeds, stream};
use crate::{Moments, THREADS, abort, options};

/// SKUs that no history runs out of, between the scarce ones and those that make a cart fail.
const PLENTY: std::ops::Range<u64> = 3_000_000..3_001_000;

/// A thread's own SKU of one unit. A batch takes the unit before its long cart asks for it.
fn own(thread: u64) -> u64 {
    4_000_000 + thread
}

/// The two scarce SKUs of a history.
fn scarce(history: u64) -> [u64; 2] {
    [1_000_000 + history, 2_000_000 + history]
}

struct Stage<'a> {
    engine: &'a Engine,
    moments: Moments,
    events: Mutex<Vec<Event>>,
}

impl Stage<'_> {
    fn note(&self, called: u64, effect: Effect) {
        let answered = self.moments.now();
        self.events.lock().expect("no panic").push(Event { called, answered, effect });
    }
}

#[test]
fn every_answer_of_a_short_history_has_its_moment() {
    let histories: u64 =
        std::env::var("HISTORIES").map_or(800, |count| count.parse().expect("a number"));
    for seed in seeds("HISTORY_SEED", 1) {
        let rerun = Rerun::new("HISTORY_SEED", seed, "--test threads every_answer_of_a_short");
        let folder = tempfile::tempdir().expect("a folder");
        let engine = Engine::open(options(folder.path(), Durability::Written)).expect("opens");
        for sku in PLENTY {
            drop(engine.stock(sku, Adjust::add(u32::MAX).key(0)).expect("accepted"));
        }
        for thread in 0..THREADS {
            let _ = engine.stock(own(thread), Adjust::add(1).key(0)).expect("accepted").wait();
        }
        let stage =
            Stage { engine: &engine, moments: Moments::default(), events: Mutex::default() };
        let barrier = Barrier::new(THREADS as usize + 1);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (stage, barrier) = (&stage, &barrier);
                scope.spawn(move || {
                    for history in 0..histories {
                        let mut actor = Actor::new(seed, history, thread);
                        barrier.wait();
                        actor.act(stage);
                        barrier.wait();
                    }
                });
            }
            for history in 0..histories {
                let mut random = stream(seed, history << 8 | 0xff);
                let mut stock = BTreeMap::new();
                for sku in scarce(history) {
                    let units = 1 + random.u64(..3) as u32;
                    let added = stage.engine.stock(sku, Adjust::add(units).key(0));
                    let _ = added.expect("accepted").wait();
                    stock.insert(sku, i64::from(units));
                }
                barrier.wait();
                barrier.wait();
                let events = std::mem::take(&mut *stage.events.lock().expect("no panic"));
                if !makes_sense(&events, &stock) {
                    let mut events = events;
                    events.sort_by_key(|event| event.called);
                    let words = "makes no sense";
                    abort(
                        &format!("history {history} from {stock:?} {words}: {events:#?}"),
                        &rerun,
                    );
                }
            }
        });
        for sku in PLENTY.chain((0..histories).flat_map(scarce)) {
            let levels = engine.levels(sku).expect("known");
            assert!(levels.add_up() && levels.available >= 0, "{levels:?}");
        }
    }
}

/// Runs one thread's part of a history.
struct Actor {
    random: Rng,
    history: u64,
    thread: u64,
    key: u128,
    held: Vec<(OrderId, Vec<(u64, i64)>)>,
}

impl Actor {
    fn new(seed: u64, history: u64, thread: u64) -> Self {
        let random = stream(seed, history << 8 | thread);
        Self { random, history, thread, key: 0, held: Vec::new() }
    }

    fn act(&mut self, stage: &Stage<'_>) {
        for _ in 0..1 + self.random.u64(..4) {
            for _ in 0..self.random.u64(..3) {
                std::thread::yield_now();
            }
            match self.random.u64(..12) {
                0..=3 => self.place(stage, false),
                4..=6 => self.fail(stage),
                7 => self.place(stage, true),
                8 | 9 => self.cancel(stage),
                10 => self.adjust(stage),
                _ => self.batch(stage),
            }
        }
    }

    fn next_key(&mut self) -> u128 {
        self.key += 1;
        u128::from(self.history) << 32 | u128::from(self.thread) << 16 | self.key
    }

    /// An order of a scarce SKU, or of both.
    fn order(&mut self, both: bool) -> (Order, Vec<(u64, i64)>) {
        let [first, second] = scarce(self.history);
        let units = 1 + self.random.u64(..2) as i64;
        let lines = match (both, self.random.u64(..100) < 70) {
            (true, true) => vec![(first, units), (second, 1)],
            (true, false) => vec![(second, 1), (first, units)],
            (false, true) => vec![(first, units)],
            (false, false) => vec![(second, units)],
        };
        let buyer = self.random.u64(..32);
        let mut order = Order::new(buyer, RequestKey::new(self.next_key()));
        for (sku, units) in &lines {
            order = order.line(*sku, *units as u32);
        }
        (order, lines)
    }

    fn place(&mut self, stage: &Stage<'_>, both: bool) {
        let (order, lines) = self.order(both);
        let called = stage.moments.now();
        let placed = match stage.engine.place(&order) {
            Err(PlaceError::Contended { .. }) => return,
            placed => placed.expect("accepted"),
        };
        let placed = placed.peek().expect("an answer").clone();
        self.note(stage, called, &placed, lines);
    }

    /// A long cart that has the scarce SKU for a while and then falls short. A cart that is certainly short takes
    /// nothing. So it comes in a batch after the order that makes it short.
    fn fail(&mut self, stage: &Stage<'_>) {
        let both = self.random.u64(..100) < 50;
        let (cart, _) = self.order(both);
        let own = own(self.thread);
        let taker = Order::new(cart.buyer(), RequestKey::new(self.next_key())).line(own, 1);
        let cart = PLENTY.fold(cart.line(own, 1), |cart, sku| cart.line(sku, 1));
        let called = stage.moments.now();
        let batch = stage.engine.place_batch(&[taker, cart]).expect("accepted");
        let answers = batch.peek().expect("an answer");
        match &answers[1] {
            Ok(Placed::Refused(Refusal::SoldOut { sku, .. })) if sku.get() == own => {}
            Err(PlaceError::Contended { .. }) => {}
            placed => {
                let placed = placed.as_ref().expect("an answer").clone();
                self.note(stage, called, &placed, Vec::new());
            }
        }
        let taken = answers[0].as_ref().expect("an answer").held().expect("its own").order;
        let _ = stage.engine.cancel(taken).expect("known").wait().expect("durable");
    }

    fn note(&mut self, stage: &Stage<'_>, called: u64, placed: &Placed, lines: Vec<(u64, i64)>) {
        match placed {
            Placed::Held(held) => {
                stage.note(called, Effect::Take(lines.clone()));
                assert!(!held.replayed);
                self.held.push((held.order, lines));
            }
            Placed::Refused(Refusal::SoldOut { sku, wanted, available }) => {
                let wanted = i64::from(wanted.get());
                let effect = Effect::Short { sku: sku.get(), wanted, told: *available };
                stage.note(called, effect);
            }
            other => panic!("{other:?}"),
        }
    }

    fn batch(&mut self, stage: &Stage<'_>) {
        let (orders, lines): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let both = self.random.u64(..100) < 30;
                self.order(both)
            })
            .unzip();
        let called = stage.moments.now();
        let batch = stage.engine.place_batch(&orders).expect("accepted");
        for (placed, lines) in batch.peek().expect("an answer").iter().zip(lines) {
            match placed {
                Err(PlaceError::Contended { .. }) => {}
                placed => self.note(stage, called, placed.as_ref().expect("an answer"), lines),
            }
        }
    }

    fn cancel(&mut self, stage: &Stage<'_>) {
        let Some((order, lines)) = self.held.pop() else { return };
        let called = stage.moments.now();
        stage.engine.cancel(order).expect("known").wait().expect("durable");
        for (sku, units) in lines {
            stage.note(called, Effect::Give { sku, units });
        }
    }

    fn adjust(&mut self, stage: &Stage<'_>) {
        let sku = scarce(self.history)[self.random.u64(..2) as usize];
        let (key, wanted) = (self.next_key(), 1 + self.random.u64(..2) as u32);
        let adjust = match self.random.u64(..3) {
            0 => Adjust::add(wanted),
            1 => Adjust::take(wanted),
            _ => Adjust::take_up_to(wanted),
        };
        let called = stage.moments.now();
        let adjusted = match stage.engine.stock(sku, adjust.key(key)) {
            Err(StockError::Contended { .. }) => return,
            adjusted => adjusted.expect("accepted"),
        };
        let units = i64::from(wanted);
        let effect = match adjusted.peek().expect("an answer") {
            Adjusted::Done { delta: 1.., .. } => {
                // Others can have the unit when it is durable.
                let _ = adjusted.wait().expect("durable");
                Effect::Give { sku, units }
            }
            Adjusted::Done { delta, .. } if -delta < units => Effect::Drain { sku, units: -delta },
            Adjusted::Done { .. } => Effect::Take(vec![(sku, units)]),
            Adjusted::TooFew { available, .. } => {
                Effect::Short { sku, wanted: units, told: *available }
            }
            other => panic!("{other:?}"),
        };
        stage.note(called, effect);
    }
}
