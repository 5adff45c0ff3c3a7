//! What a verb is made of, part by part: the stock word by threads, the index of request keys, a lane of the
//! log. And what all of it is up against: an addition to one line of memory, by threads.
//!
//! `cargo bench --bench parts`; one group alone by its name, such as `-- stock`.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use doorbuster::testing::parts::{KeyTable, LogLane, StockWord};

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
    let (_, table) = filled(AHEAD);
    group.bench_function("a look for a key that is not there", |bencher| {
        bencher.iter(|| {
            let absent = (KEYS..2 * KEYS).filter(|nth| table.is_surely_absent(hash(*nth))).count();
            // Some are taken for another that is alike.
            assert!(absent as u64 > KEYS / 100 * 99, "{absent} of {KEYS}");
        });
    });
    group.finish();
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

criterion_group!(benches, stock, keys, log);
criterion_main!(benches);
