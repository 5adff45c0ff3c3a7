//! What a verb is made of, part by part: the stock word by threads, the index of request keys, the deadlines, the
//! orders, a lane of the log. Beside each hand-written structure stands a crate that could replace it, and beside the
//! stock word what all callers are up against: an addition to one line of memory.
//!
//! The crates do more than is needed here: DashMap, papaya and scc let several threads write, and slab frees any place.
//!
//! `cargo bench --bench parts`; one group alone by its name, such as `-- stock`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dashmap::DashMap;
use doorbuster::testing::parts::{KeyTable, LogLane, OrderPages, StockWord, TimerWheel};
use hierarchical_hash_wheel_timer::wheels::quad_wheel::{PruneDecision, QuadWheelWithOverflow};
use slab::Slab;

const THREADS: [u64; 4] = [1, 2, 4, 8];

/// Runs `work` `times` times on each of `threads` threads; returns how long all took.
fn on_threads(threads: u64, times: u64, work: impl Fn() + Sync) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..times).for_each(|_| work()));
        }
    });
    start.elapsed()
}

/// How much more two threads do than one where they share nothing. It is less than twice as much where two processors
/// are the two threads of one core; no program that keeps a core busy scales beyond it.
fn processors(criterion: &mut Criterion) {
    const ROUNDS: u64 = 10_000_000;
    let mut group = criterion.benchmark_group("processors");
    group.sample_size(10);
    for threads in [1, 2] {
        group.throughput(Throughput::Elements(threads * ROUNDS));
        group.bench_function(BenchmarkId::new("arithmetic alone, threads", threads), |bencher| {
            bencher.iter(|| on_threads(threads, 1, || drop(black_box(arithmetic(ROUNDS)))));
        });
    }
    group.finish();
}

/// Independent chains: enough of them to keep a core busy by one thread.
fn arithmetic(rounds: u64) -> Vec<u64> {
    let mut chains: [u64; 6] = black_box([1, 3, 5, 7, 9, 11]);
    for round in 0..rounds {
        for chain in &mut chains {
            *chain = chain.wrapping_add(round ^ (*chain << 1));
        }
    }
    chains.to_vec()
}

/// The cost that one more calling thread on a hot SKU has at least.
fn stock(criterion: &mut Criterion) {
    const TAKES: u64 = 1_000_000;
    let mut group = criterion.benchmark_group("stock");
    group.sample_size(10);
    for threads in THREADS {
        group.throughput(Throughput::Elements(threads * TAKES));
        group.bench_function(BenchmarkId::new("a unit of one SKU, threads", threads), |bencher| {
            bencher.iter_custom(|runs| {
                let run = |_| {
                    let word = StockWord::holding(u32::MAX);
                    on_threads(threads, TAKES, || assert!(word.take(1)))
                };
                (0..runs).map(run).sum()
            });
        });
        group.bench_function(
            BenchmarkId::new("beside: an addition, threads", threads),
            |bencher| {
                bencher.iter_custom(|runs| {
                    let run = |_| {
                        let number = AtomicU64::new(0);
                        let took = on_threads(threads, TAKES, || {
                            black_box(number.fetch_add(1, Ordering::Relaxed));
                        });
                        assert_eq!(number.into_inner(), threads * TAKES);
                        took
                    };
                    (0..runs).map(run).sum()
                });
            },
        );
    }
    group.finish();
}

/// A hash that is spread as the keys' are.
fn hash(nth: u64) -> u64 {
    nth.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

/// Two million keys in one index, far more than the caches hold.
fn keys(criterion: &mut Criterion) {
    const KEYS: u64 = 2_000_000;
    const AHEAD: u64 = 16;
    let mut group = criterion.benchmark_group("keys");
    group.throughput(Throughput::Elements(KEYS)).sample_size(10);
    let filled = |ahead: u64| {
        let mut table = KeyTable::with_room(KEYS as usize);
        let start = Instant::now();
        for nth in 0..KEYS {
            if ahead > 0 {
                table.prefetch(hash(nth + ahead));
            }
            table.insert(hash(nth), nth as u32);
        }
        (start.elapsed(), table)
    };
    for (name, ahead) in [("insert", 0), ("insert, asked for 16 keys ahead", AHEAD)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| filled(ahead).0).sum());
        });
    }
    let room = KEYS as usize;
    let hasher = ahash::RandomState::new;
    group.bench_function("insert, DashMap", |bencher| {
        bencher.iter_custom(|runs| {
            let map = || DashMap::<u64, u32, _>::with_capacity_and_hasher(room, hasher());
            let run = |_| {
                insert_all(KEYS, map(), |map, key, handle| {
                    map.insert(key, handle);
                })
            };
            (0..runs).map(run).sum()
        });
    });
    group.bench_function("insert, papaya", |bencher| {
        bencher.iter_custom(|runs| {
            let map = || papaya::HashMap::<u64, u32, _>::with_capacity_and_hasher(room, hasher());
            let insert = |map: &papaya::HashMap<_, _, _>, key, handle| {
                map.pin().insert(key, handle);
            };
            (0..runs).map(|_| insert_all(KEYS, map(), insert)).sum()
        });
    });
    group.bench_function("insert, scc", |bencher| {
        bencher.iter_custom(|runs| {
            let map = || scc::HashMap::<u64, u32, _>::with_capacity_and_hasher(room, hasher());
            let insert = |map: &scc::HashMap<_, _, _>, key, handle| {
                assert!(map.insert_sync(key, handle).is_ok());
            };
            (0..runs).map(|_| insert_all(KEYS, map(), insert)).sum()
        });
    });
    let (_, table) = filled(AHEAD);
    group.bench_function("a look for a key that is not there", |bencher| {
        bencher.iter(|| {
            let absent = (KEYS..2 * KEYS).filter(|nth| table.is_surely_absent(hash(*nth))).count();
            // Some are taken for another that is alike.
            assert!(absent as u64 > KEYS / 100 * 99, "{absent} of {KEYS}");
        });
    });
    let dash = DashMap::with_capacity_and_hasher(room, hasher());
    let papaya = papaya::HashMap::with_capacity_and_hasher(room, hasher());
    for nth in 0..KEYS {
        dash.insert(hash(nth), nth as u32);
        papaya.pin().insert(hash(nth), nth as u32);
    }
    group.bench_function("a look for a key that is not there, DashMap", |bencher| {
        bencher.iter(|| look_for_absent(KEYS, |key| dash.contains_key(&key)));
    });
    group.bench_function("a look for a key that is not there, papaya", |bencher| {
        bencher.iter(|| look_for_absent(KEYS, |key| papaya.pin().contains_key(&key)));
    });
    group.finish();
}

/// Returns how long it took to insert `keys` keys.
fn insert_all<M>(keys: u64, map: M, insert: impl Fn(&M, u64, u32)) -> Duration {
    let start = Instant::now();
    (0..keys).for_each(|nth| insert(&map, hash(nth), nth as u32));
    start.elapsed()
}

fn look_for_absent(keys: u64, contains: impl Fn(u64) -> bool) {
    let absent = (keys..2 * keys).filter(|nth| !contains(hash(*nth))).count();
    assert_eq!(absent as u64, keys);
}

/// A million holds of 15 minutes, begun over one second, all of which end by themselves.
fn timers(criterion: &mut Criterion) {
    const ENTRIES: u64 = 1_000_000;
    const HOLD_MS: u64 = 900_000;
    let deadline_of = |handle: u32| u64::from(handle) / 1_000 + HOLD_MS;
    let mut group = criterion.benchmark_group("timers");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(10);
    group.bench_function("insert and fire", |bencher| {
        bencher.iter_batched(
            || TimerWheel::with_room(ENTRIES as usize),
            |mut wheel| {
                (0..ENTRIES as u32).for_each(|nth| wheel.insert(deadline_of(nth), nth));
                let steps = (0..=HOLD_MS + 1_000).step_by(5);
                let fired: usize = steps.map(|now_ms| wheel.advance(now_ms, deadline_of)).sum();
                assert_eq!(fired as u64, ENTRIES);
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("insert and fire, hierarchical_hash_wheel_timer", |bencher| {
        bencher.iter_batched(
            || QuadWheelWithOverflow::<Entry>::new(|_| PruneDecision::Keep),
            |mut wheel| {
                for nth in 0..ENTRIES as u32 {
                    let delay = Duration::from_millis(deadline_of(nth));
                    assert!(wheel.insert_with_delay(Entry(nth), delay).is_ok());
                }
                let fired: usize = (0..HOLD_MS + 1_000).map(|_| wheel.tick().len()).sum();
                assert_eq!(fired as u64, ENTRIES);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// An entry of the other wheel.
#[derive(Debug)]
struct Entry(#[expect(dead_code, reason = "what fires is only counted")] u32);

/// Two million orders, into memory that is not set aside.
fn orders(criterion: &mut Criterion) {
    const ORDERS: u64 = 2_000_000;
    let mut group = criterion.benchmark_group("orders");
    group.throughput(Throughput::Elements(ORDERS)).sample_size(10);
    group.bench_function("insert", |bencher| {
        bencher.iter(|| {
            let mut pages = OrderPages::new();
            for nth in 0..ORDERS {
                black_box(pages.insert(nth));
            }
            pages
        });
    });
    group.bench_function("insert, slab", |bencher| {
        bencher.iter(|| {
            let mut slab = Slab::new();
            for nth in 0..ORDERS {
                black_box(slab.insert([nth; 10]));
            }
            slab
        });
    });
    // The slowest single insert: a growing vector is copied whole.
    let mut pages = OrderPages::new();
    let of_pages = slowest(ORDERS, |nth| {
        black_box(pages.insert(nth));
    });
    let mut slab = Slab::new();
    let of_slab = slowest(ORDERS, |nth| {
        black_box(slab.insert([nth; 10]));
    });
    println!("the slowest insert of {ORDERS}: {of_pages:?} into pages, {of_slab:?} into a slab");
    group.finish();
}

fn slowest(times: u64, mut work: impl FnMut(u64)) -> Duration {
    let timed = (0..times).map(|nth| {
        let start = Instant::now();
        work(nth);
        start.elapsed()
    });
    timed.max().unwrap_or_default()
}

/// Orders of one line into one lane, whose records are taken as by a writer.
fn log(criterion: &mut Criterion) {
    const RECORDS: u64 = 100_000;
    const BLOCK: u64 = 1000;
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(RECORDS));
    let mut lane = LogLane::new();
    group.bench_function("append", |bencher| {
        bencher.iter(|| {
            for nth in 1..=RECORDS {
                lane.append(nth);
                if nth % BLOCK == 0 {
                    assert_eq!(lane.take(), BLOCK as usize * 64);
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, processors, stock, keys, timers, orders, log);
criterion_main!(benches);
