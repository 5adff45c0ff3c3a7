//! Threads that send the same keys while stock comes and goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::MemoryStorage;
use doorbuster::{Adjust, Engine, Options, Order, Placed, RequestKey};
use fastrand::Rng;

use crate::seeds::{Rerun, seeds, stream};
use crate::shop::SKU;

const THREADS: u64 = 4;
const KEYS: u64 = 4_000;

/// The outcome of a key, whichever thread received it first.
fn outcome(placed: &Placed) -> String {
    match (placed.held(), placed.refusal()) {
        (Some(held), None) => format!("{}", held.order),
        (None, Some(refusal)) => format!("{refusal:?}"),
        _ => panic!("{placed:?}"),
    }
}

fn is_first(placed: &Placed) -> bool {
    matches!(placed, Placed::Refused(_)) || placed.held().is_some_and(|held| !held.replayed)
}

/// Sends every key, in an order of this thread's own, one by one or in a batch.
fn send_all(engine: &Engine, mut draw: Rng) -> Vec<(u64, Placed)> {
    let order = |key: u64| Order::new(key % 64, RequestKey::new(key.into())).line(SKU, 1);
    let mut left: Vec<u64> = (0..KEYS).rev().collect();
    let mut told = Vec::new();
    while !left.is_empty() {
        // A key among the next few, so that threads meet.
        let mut keys = Vec::new();
        for _ in 0..(1 + draw.u64(..3)).min(left.len() as u64) {
            let nth = left.len() - 1 - draw.u64(..left.len().min(8) as u64) as usize;
            keys.push(left.swap_remove(nth));
        }
        let orders: Vec<_> = keys.iter().copied().map(order).collect();
        let answers = match &orders[..] {
            [order] => {
                vec![engine.place(order).expect("there is room").wait().map(Ok).expect("durable")]
            }
            orders => engine.place_batch(orders).expect("open").wait().expect("durable"),
        };
        told.extend(keys.into_iter().zip(answers.into_iter().map(|it| it.expect("there is room"))));
    }
    told
}

#[test]
fn requests_in_flight_with_one_key_come_to_one_outcome() {
    for seed in seeds("REMEMBERED_SEED", 3) {
        let _rerun = Rerun::new("REMEMBERED_SEED", seed, "--test refusals requests_in_flight");
        let options = Options::on_storage(Arc::new(MemoryStorage::new()))
            .partitions(4)
            .segment_bytes(1 << 20)
            .remember_refusals(Duration::from_secs(3600), 4 * KEYS);
        let engine = Engine::open(options).expect("opens");
        // Whichever thread runs when, there is at least one unit, and always fewer units than keys.
        engine.stock(SKU, Adjust::add(1).key(0)).expect("there is room").wait().expect("durable");
        let told: Vec<(u64, Placed)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|nth| {
                    scope.spawn({
                        let (engine, draw) = (&engine, stream(seed, nth));
                        move || send_all(engine, draw)
                    })
                })
                .collect();
            // Some units at a time, so that many keys are refused, and many are not.
            let mut adds = (1..=u128::from(KEYS / 4)).map(|key| Adjust::add(2).key(key));
            while threads.iter().any(|thread| !thread.is_finished())
                && let Some(add) = adds.next()
            {
                engine.stock(SKU, add).expect("there is room").wait().expect("durable");
            }
            threads.into_iter().flat_map(|it| it.join().expect("no panic")).collect()
        });
        let mut kinds = BTreeSet::new();
        for key in 0..KEYS {
            let of_key = told.iter().filter(|(other, _)| *other == key).map(|(_, placed)| placed);
            let outcomes: BTreeSet<_> = of_key.clone().map(outcome).collect();
            assert_eq!(outcomes.len(), 1, "key {key}");
            assert_eq!(of_key.clone().filter(|placed| is_first(placed)).count(), 1, "key {key}");
            kinds.extend(of_key.map(|placed| placed.held().is_some()));
        }
        assert_eq!(kinds.len(), 2, "some are held, and some refused");
        engine.close().expect("closes");
    }
}
