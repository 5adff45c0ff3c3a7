//! Partial carts from many threads: a line that falls short was really short.

use std::collections::BTreeMap;
use std::sync::Barrier;

use doorbuster::{Adjust, Durability, Engine, Fill, Options, Order, Placed, Refusal, RequestKey};
use fastrand::Rng;

use crate::seeds::{Rerun, seeds, stream};

const THREADS: u64 = 4;
const ORDERS: u64 = 60;
const SKUS: u64 = 5;

/// The answers that a thread received.
struct Told {
    /// By SKU.
    held: BTreeMap<u64, u64>,
    /// SKUs of which some buyer received less than was wanted.
    short: Vec<u64>,
}

/// The story: carts with and without minimums compete for the same few units, and many fail at a later line and
/// return what they had taken. Nothing else is ever returned. So an answer that a SKU was short must still be true
/// at the end: then there must be none left.
#[test]
fn a_line_is_short_only_when_there_was_no_more() {
    for seed in seeds("FILL_SEED", 1) {
        let rerun = Rerun::new("FILL_SEED", seed, "--test refusals a_line_is_short");
        for round in 0..40 {
            run_round(seed, round, &rerun);
        }
    }
}

fn run_round(seed: u64, round: u64, rerun: &Rerun) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options::new(folder.path())
        .partitions(4)
        .log_shards(1)
        .segment_bytes(1 << 20)
        .durability(Durability::Written);
    let engine = Engine::open(options).expect("opens");
    let stock = |sku: u64| 20 * sku as u32;
    for sku in 1..=SKUS {
        let added = engine.stock(sku, Adjust::add(stock(sku)).key(0)).expect("accepted");
        added.wait().expect("durable");
    }
    let barrier = Barrier::new(THREADS as usize);
    let told: Vec<Told> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (engine, barrier) = (&engine, &barrier);
                let random = stream(seed, round << 8 | thread);
                scope.spawn(move || {
                    barrier.wait();
                    buy(engine, random, thread)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    for sku in 1..=SKUS {
        let levels = engine.levels(sku).expect("known");
        let held: u64 = told.iter().filter_map(|told| told.held.get(&sku)).sum();
        assert!(levels.add_up(), "{levels:?}, {rerun}");
        assert_eq!(
            levels.held, held as i64,
            "SKU {sku}: the answers add up to what is held, {rerun}"
        );
        assert!(levels.available >= 0, "oversold: {levels:?}, {rerun}");
        let was_short = told.iter().any(|told| told.short.contains(&sku));
        assert!(!was_short || levels.available == 0, "SKU {sku}: there was more, {rerun}");
    }
}

fn buy(engine: &Engine, mut random: Rng, thread: u64) -> Told {
    let mut told = Told { held: BTreeMap::new(), short: Vec::new() };
    for nth in 0..ORDERS {
        let mut order = Order::new(thread, RequestKey::new(u128::from(nth)));
        let is_partial = random.u64(..100) < 80;
        if is_partial {
            order = order.fill(Fill::Partial);
        }
        let (mut wanted, mut minimums) = (BTreeMap::new(), BTreeMap::new());
        for sku in 1..=SKUS {
            if random.u64(..100) < 50 {
                let units = 1 + random.u64(..6) as u32;
                wanted.insert(sku, units);
                order = order.line(sku, units);
                if is_partial && random.u64(..100) < 30 {
                    let minimum = 1 + random.u64(..u64::from(units)) as u32;
                    minimums.insert(sku, minimum);
                    order = order.min_quantity(sku, minimum);
                }
            }
        }
        if wanted.is_empty() {
            continue;
        }
        // `Contended`, after many tries, is an answer too.
        let Ok(commit) = engine.place(&order) else { continue };
        let placed = commit.wait().expect("durable");
        if let Placed::Refused(Refusal::SoldOut { sku, wanted: least, available }) = &placed {
            assert!(*available < i64::from(least.get()), "{placed:?}");
            let minimum = minimums.get(&sku.get()).copied();
            let least_of = if is_partial { minimum.unwrap_or(1) } else { wanted[&sku.get()] };
            assert_eq!(least.get(), least_of, "{placed:?} of {order:?}");
            continue;
        }
        let mut missing = BTreeMap::new();
        if let Placed::Partial(partly) = &placed {
            assert!(is_partial && !partly.missing.is_empty(), "{placed:?} of {order:?}");
            for line in &partly.missing {
                missing.insert(line.sku.get(), line.quantity.get());
                told.short.push(line.sku.get());
            }
        }
        let view = engine.order(placed.held().expect("held").order).expect("there");
        for line in &view.lines {
            let (sku, held) = (line.sku.get(), line.quantity.get());
            let lacks = missing.get(&sku).copied().unwrap_or(0);
            assert_eq!(held + lacks, wanted[&sku], "{placed:?} of {order:?}");
            assert!(held >= minimums.get(&sku).copied().unwrap_or(0), "{placed:?} of {order:?}");
            *told.held.entry(sku).or_default() += u64::from(held);
        }
    }
    told
}
