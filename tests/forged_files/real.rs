//! Real folders to damage, with records of every kind that a log can hold.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, Durability, Order, OrderView, Placed, SaleRules};
use fastrand::Rng;

use crate::folder::{NOW_MS, SKUS, options};
use crate::seeds::stream;

/// A folder, and the last state of every order in it.
pub(crate) struct Real {
    pub(crate) storage: MemoryStorage,
    pub(crate) orders: Vec<OrderView>,
    pub(crate) records: u64,
}

/// What a folder is made of.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) shards: usize,
    /// How often the folder was opened. The last life ended with a kill.
    pub(crate) lives: u64,
    pub(crate) durability: Durability,
    /// Whether a checkpoint was taken in the last life. Nothing is recycled before a second one.
    pub(crate) has_checkpoint: bool,
    /// Rounds of trade in a life.
    pub(crate) rounds: u64,
}

pub(crate) fn real(kind: Kind, seed: u64) -> Real {
    let Kind { shards, lives, durability, .. } = kind;
    let (mut storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::new(NOW_MS)));
    let (mut orders, mut random) = (Vec::new(), stream(seed, 0));
    for life in 0..lives {
        let options = options(&storage, &clock).durability(durability);
        let options = options.partitions(4).log_shards(shards);
        let mut engine = SteppedEngine::open(options).expect("a real folder");
        for nth in 0..kind.rounds {
            if kind.has_checkpoint && life + 1 == lives && nth == kind.rounds / 2 {
                drop(engine.checkpoint().expect("open"));
                engine.run_until_idle();
            }
            trade(&mut engine, &mut random, life << 8 | nth, &mut orders);
            for _ in 0..=random.u64(..3) {
                let shard = random.u64(..shards as u64) as usize;
                engine.step_writer(shard);
            }
            clock.advance(Duration::from_millis(random.u64(..9)));
        }
        engine.run_until_idle();
        let records = engine.recovery().records + engine.stats().records;
        if life + 1 == lives {
            let view = |order| engine.order(order).expect("known").view().clone();
            let orders = orders.into_iter().map(view).collect();
            drop(engine);
            return Real { storage: storage.kill(), orders, records };
        }
        match random.u64(..100) < 50 {
            true => engine.close().expect("a clean close"),
            false => drop(engine),
        }
        storage = storage.kill();
    }
    unreachable!("there is a last life")
}

fn trade(
    engine: &mut SteppedEngine,
    random: &mut Rng,
    round: u64,
    orders: &mut Vec<doorbuster::OrderId>,
) {
    let key = |nth: u64| u128::from(round << 16 | nth);
    for sku in 1..=SKUS {
        let adjust = match random.u64(..5) {
            _ if round == 0 => Adjust::add(500),
            0 => Adjust::take(1),
            1 => Adjust::take_up_to(2),
            _ => Adjust::add(3),
        };
        let reference = "x".repeat(random.u64(..40) as usize);
        drop(engine.stock(sku, adjust.key(key(sku)).reference(reference)).expect("there is room"));
        if round % 5 == 1 {
            drop(engine.rules(sku, SaleRules::new().buyer_limit(50)).expect("known"));
        }
    }
    if round == 0 {
        engine.run_until_idle();
    }
    for nth in 0..1 + random.u64(..5) {
        let lines = 1 + random.u64(..3);
        let mut order = Order::new(random.u64(..40), key(nth)).line(1 + random.u64(..SKUS), 1);
        for _ in 1..lines {
            order = order.line(1 + random.u64(..SKUS), 1 + random.u64(..3) as u32);
        }
        let payload = [0, 0, 0, 0, 20, 20, 20, 900, 900, 5_000][random.u64(..10) as usize];
        let hold = Duration::from_millis(1 + random.u64(..200));
        let order = order.hold_for(hold).payload(vec![round as u8; payload]);
        let placed = engine.place(&order).expect("there is room");
        if let Some(Placed::Held(held)) = placed.peek() {
            orders.push(held.order);
        }
    }
    for _ in 0..random.u64(..5) {
        let order = orders[random.u64(..orders.len() as u64) as usize];
        let ended = match random.u64(..3) {
            0 => engine.cancel(order),
            1 => engine.confirm(order),
            _ => engine.fulfil(order),
        };
        drop(ended.expect("known"));
    }
    engine.step_timekeeper();
    engine.step_segments();
}
