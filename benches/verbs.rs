//! Whole verbs: requests are made, placed and awaited; every run checks what it sold.
//!
//! `cargo bench --bench verbs`; one group alone by its name, such as `-- durable`.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use doorbuster::{
    Adjust, Adjusted, Commit, Durability, Engine, Fill, MerchantId, MerchantRules, Options, Order,
    OrderId, PlaceError, Placed, Refusal, RequestKey, SaleRules, SkuId, Switch, Unavailable,
};

const HOT: SkuId = SkuId::new(1);
const MERCHANT: MerchantId = MerchantId::new(1);
/// How many commits a calling thread keeps in flight before it waits for the oldest.
const WINDOW: usize = 32 * 1024;

/// An engine on a temporary folder with `units` units of the hot SKU.
struct Sale {
    engine: Engine,
    _folder: tempfile::TempDir,
}

impl Sale {
    fn open(units: u32, durability: Durability, orders: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = Options::new(folder.path()).durability(durability).orders_reserved(orders);
        Self::stocked(options, units, folder)
    }

    /// An engine whose disk is memory: what is left is the verb.
    fn in_memory(units: u32, orders: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let storage = Arc::new(doorbuster::testing::MemoryStorage::new());
        let options =
            Options::on_storage(storage).durability(Durability::Written).orders_reserved(orders);
        Self::stocked(options, units, folder)
    }

    fn stocked(options: Options, units: u32, folder: tempfile::TempDir) -> Self {
        let engine = Engine::open(options).expect("an empty folder opens");
        let added = Adjust::add(units).key(RequestKey::new(1));
        let stocked = engine.stock(HOT, added).expect("valid").wait().expect("durable");
        black_box(stocked);
        Self { engine, _folder: folder }
    }
}

/// What is sold in the groups that say "spread": each order another of this many SKUs.
const SPREAD: u64 = 100_000;

fn order(buyer: u64) -> Order {
    Order::new(buyer, RequestKey::new(1)).line(HOT, 1)
}

/// Far more units of a SKU than are asked for.
fn stock(engine: &Engine, sku: u64) -> Commit<Adjusted> {
    loop {
        match engine.stock(sku, Adjust::add(1 << 20).key(RequestKey::new(1))) {
            Ok(commit) => return commit,
            Err(_) => engine.ready().wait().expect("the log goes on"),
        }
    }
}

/// Places and waits out a backlog, as a caller that must not lose requests does.
fn place(engine: &Engine, order: &Order) -> Commit<Placed> {
    loop {
        match engine.place(order) {
            Ok(commit) => return commit,
            Err(PlaceError::Unavailable(Unavailable::Backlogged { .. })) => {
                engine.ready().wait().expect("the log goes on");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn is_held(commit: Commit<Placed>) -> u64 {
    u64::from(commit.wait().expect("durable").held().is_some())
}

/// So many orders by each of `threads`, awaited in a window; all must be held.
fn sell(engine: &Engine, orders: u64, threads: u64, place_all: impl Fn(u64, u64) -> u64 + Sync) {
    let held = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (held, place_all) = (&held, &place_all);
            let share = orders / threads + u64::from(thread < orders % threads);
            scope.spawn(move || {
                held.fetch_add(place_all(thread << 40, share), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(held.into_inner(), orders, "every order was to be held");
    let levels = engine.levels(HOT).expect("known");
    assert!(levels.add_up() && levels.held == orders as i64, "{levels:?}");
}

fn one_by_one(engine: &Engine, first: u64, orders: u64) -> u64 {
    one_by_one_of(engine, first, orders, order)
}

fn one_by_one_of(engine: &Engine, first: u64, orders: u64, order: impl Fn(u64) -> Order) -> u64 {
    let mut window = VecDeque::with_capacity(WINDOW);
    let mut held = 0;
    for buyer in first..first + orders {
        if window.len() == WINDOW {
            held += window.pop_front().map_or(0, is_held);
        }
        window.push_back(place(engine, &order(buyer)));
    }
    held + window.into_iter().map(is_held).sum::<u64>()
}

fn in_batches(engine: &Engine, first: u64, orders: u64, size: u64) -> u64 {
    let mut window = VecDeque::new();
    let mut held = 0;
    let count = |commit: Commit<Vec<Result<Placed, PlaceError>>>| {
        let answers = commit.wait().expect("durable");
        answers.iter().filter(|answer| matches!(answer, Ok(Placed::Held(_)))).count() as u64
    };
    let mut buyer = first;
    while buyer < first + orders {
        let end = (buyer + size).min(first + orders);
        let batch: Vec<_> = (buyer..end).map(order).collect();
        if window.len() as u64 * size >= WINDOW as u64 {
            held += window.pop_front().map_or(0, count);
        }
        window.push_back(engine.place_batch(&batch).expect("open"));
        buyer = end;
    }
    held + window.into_iter().map(count).sum::<u64>()
}

fn timed(units: u64, durability: Durability, run: impl FnOnce(&Engine)) -> Duration {
    let sale = Sale::open(units as u32, durability, units);
    let start = Instant::now();
    run(&sale.engine);
    start.elapsed()
}

fn durable(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("durable");
    group.throughput(Throughput::Elements(ORDERS)).sample_size(10);
    const ORDERS: u64 = 2_000_000;
    for threads in [1, 2, 4] {
        group.bench_function(BenchmarkId::new("place, hot SKU, threads", threads), |bencher| {
            bencher.iter_custom(|runs| {
                (0..runs)
                    .map(|_| {
                        timed(ORDERS, Durability::Synced, |engine| {
                            sell(engine, ORDERS, threads, |first, orders| {
                                one_by_one(engine, first, orders)
                            });
                        })
                    })
                    .sum()
            });
        });
    }
    for threads in [1, 2] {
        let name = BenchmarkId::new("beside: DashMap in memory, not durable, threads", threads);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| naive::sell(ORDERS, threads)).sum());
        });
    }
    group.bench_function("place_batch of 64, hot SKU, 2 threads", |bencher| {
        bencher.iter_custom(|runs| {
            (0..runs)
                .map(|_| {
                    timed(ORDERS, Durability::Synced, |engine| {
                        sell(engine, ORDERS, 2, |first, orders| {
                            in_batches(engine, first, orders, 64)
                        });
                    })
                })
                .sum()
        });
    });
    group.finish();
}

/// The same in memory, hot and spread, and spread on the disk.
fn spread(criterion: &mut Criterion) {
    const ORDERS: u64 = 1_000_000;
    let mut group = criterion.benchmark_group("hot and spread");
    group.throughput(Throughput::Elements(ORDERS)).sample_size(10);
    let of_many = |buyer: u64| {
        let sku = HOT.get() + 1 + buyer.wrapping_mul(0x9e37_79b9_7f4a_7c15) % SPREAD;
        Order::new(buyer, RequestKey::new(1)).line(sku, 1)
    };
    let run = |in_memory: bool, is_spread: bool, threads: u64| {
        let sale = match in_memory {
            true => Sale::in_memory(ORDERS as u32, ORDERS),
            false => Sale::open(ORDERS as u32, Durability::Synced, ORDERS),
        };
        let skus = (HOT.get() + 1..=HOT.get() + SPREAD).filter(|_| is_spread);
        let added: Vec<_> = skus.map(|sku| stock(&sale.engine, sku)).collect();
        for commit in added {
            black_box(commit.wait().expect("durable"));
        }
        let start = Instant::now();
        let held = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (held, engine) = (&held, &sale.engine);
                scope.spawn(move || {
                    let (first, orders) = (thread << 40, ORDERS / threads);
                    let sold = match is_spread {
                        true => one_by_one_of(engine, first, orders, of_many),
                        false => one_by_one(engine, first, orders),
                    };
                    held.fetch_add(sold, Ordering::Relaxed);
                });
            }
        });
        let took = start.elapsed();
        assert_eq!(held.into_inner(), ORDERS, "every order was to be held");
        took
    };
    for (disk, in_memory) in [("in memory", true), ("durable", false)] {
        for (skus, is_spread) in [("hot", false), ("spread", true)] {
            for threads in [1, 2] {
                let name = BenchmarkId::new(format!("place, {disk}, {skus}, threads"), threads);
                group.bench_function(name, |bencher| {
                    bencher.iter_custom(|runs| {
                        (0..runs).map(|_| run(in_memory, is_spread, threads)).sum()
                    });
                });
            }
        }
    }
    group.finish();
}

/// What the same work costs by hand in memory, without a log: one concurrent map from (buyer, key) to
/// the order, one atomic for the stock. It scales the other figures to the machine of the day.
///
/// Unfair to the map: it is sized up front, but touches its memory for the first time here. Unfair to
/// the engine: this one is not durable, has no deadlines, no carts, and finds no order by its id.
mod naive {
    use super::*;
    use std::sync::atomic::AtomicI64;

    struct Held {
        _order: u64,
        _units: u32,
    }

    pub(crate) fn sell(orders: u64, threads: u64) -> Duration {
        let held =
            dashmap::DashMap::with_capacity_and_hasher(orders as usize, ahash::RandomState::new());
        let (stock, next_order) = (AtomicI64::new(orders as i64), AtomicU64::new(0));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (held, stock, next_order) = (&held, &stock, &next_order);
                let share = orders / threads + u64::from(thread < orders % threads);
                scope.spawn(move || {
                    for buyer in thread << 40..(thread << 40) + share {
                        let request = order(buyer);
                        let key = (request.buyer().to_bytes(), request.key().to_bytes());
                        held.entry(key).or_insert_with(|| {
                            let left = stock.fetch_sub(1, Ordering::AcqRel);
                            assert!(left > 0, "there was one for each");
                            let _order = next_order.fetch_add(1, Ordering::Relaxed);
                            Held { _order, _units: 1 }
                        });
                    }
                });
            }
        });
        let elapsed = start.elapsed();
        assert_eq!(held.len() as u64, orders);
        elapsed
    }
}

/// The whole life of orders: held, confirmed, fulfilled, each awaited in a window.
fn lifecycle(criterion: &mut Criterion) {
    const ORDERS: u64 = 500_000;
    let mut group = criterion.benchmark_group("lifecycle");
    group.throughput(Throughput::Elements(ORDERS)).sample_size(10);
    group.bench_function("place, confirm, fulfil, 1 thread", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| one_lifecycle(ORDERS)).sum());
    });
    group.finish();
}

fn one_lifecycle(orders: u64) -> Duration {
    let sale = Sale::open(orders as u32, Durability::Synced, orders);
    let engine = &sale.engine;
    let start = Instant::now();
    let placed: Vec<OrderId> = (0..orders)
        .map(|buyer| place(engine, &order(buyer)))
        .map(|commit| commit.peek().and_then(Placed::held).expect("there is enough").order)
        .collect();
    for verb in [Engine::confirm, Engine::fulfil] {
        let mut window = VecDeque::with_capacity(WINDOW);
        for id in &placed {
            let commit = loop {
                match verb(engine, *id) {
                    Ok(commit) => break commit,
                    Err(_) => engine.ready().wait().expect("the log goes on"),
                }
            };
            if window.len() == WINDOW {
                let oldest: Option<Commit<_>> = window.pop_front();
                oldest.map(|commit| commit.wait().expect("durable"));
            }
            window.push_back(commit);
        }
        window.into_iter().for_each(|commit| {
            commit.wait().expect("durable");
        });
    }
    let elapsed = start.elapsed();
    assert_eq!(engine.stats().fulfilled, orders);
    assert_eq!(engine.levels(HOT).expect("known").sold, orders as i64);
    elapsed
}

/// Carts of four lines by policy: a partial one takes the same pass over the same stock words.
fn carts(criterion: &mut Criterion) {
    const ORDERS: u64 = 300_000;
    const GONE: SkuId = SkuId::new(9);
    let mut group = criterion.benchmark_group("cart of 4 lines");
    group.throughput(Throughput::Elements(ORDERS)).sample_size(10);
    let lines = |buyer, last| {
        let order = order(buyer).line(SkuId::new(2), 1).line(SkuId::new(3), 2);
        order.line(last, 1)
    };
    type Cart = fn(Order, SkuId) -> Order;
    let policies: [(&str, SkuId, Cart); 4] = [
        ("all or none", SkuId::new(4), |cart, _| cart),
        ("partial, nothing missing", SkuId::new(4), |cart, _| cart.fill(Fill::Partial)),
        ("partial, with a minimum", SkuId::new(4), |cart, last| {
            cart.fill(Fill::Partial).min_quantity(last, 1)
        }),
        ("partial, a line missing", GONE, |cart, _| cart.fill(Fill::Partial)),
    ];
    for (name, last, cart) in policies {
        let run = || {
            let sale = Sale::open(ORDERS as u32, Durability::Synced, ORDERS);
            for sku in 2..=4 {
                let added = Adjust::add(2 * ORDERS as u32).key(RequestKey::new(1));
                let _ = sale.engine.stock(SkuId::new(sku), added).expect("valid").wait();
            }
            let gone = Adjust::set(0).expect(0).key(RequestKey::new(1));
            let _ = sale.engine.stock(GONE, gone).expect("valid").wait();
            let start = Instant::now();
            sell(&sale.engine, ORDERS, 1, |first, orders| {
                let mut window = VecDeque::with_capacity(WINDOW);
                let mut held = 0;
                for buyer in first..first + orders {
                    if window.len() == WINDOW {
                        held += window.pop_front().map_or(0, is_held);
                    }
                    window.push_back(place(&sale.engine, &cart(lines(buyer, last), last)));
                }
                held + window.into_iter().map(is_held).sum::<u64>()
            });
            start.elapsed()
        };
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| (0..runs).map(|_| run()).sum());
        });
    }
    group.finish();
}

/// A refusal that is certain: no lock, no log, no allocation.
fn sold_out(criterion: &mut Criterion) {
    const SOLD: u64 = 100_000;
    let sale = Sale::open(SOLD as u32, Durability::Synced, SOLD);
    sell(&sale.engine, SOLD, 1, |first, orders| one_by_one(&sale.engine, first, orders));
    let hot = sale.engine.sku(HOT).expect("it has stock");
    let mut group = criterion.benchmark_group("refusal");
    group.throughput(Throughput::Elements(1));
    let is_sold_out = |commit: Commit<Placed>| {
        matches!(commit.peek(), Some(Placed::Refused(Refusal::SoldOut { available: 0, .. })))
    };
    let mut buyer = 1 << 50;
    group.bench_function("sold out, 100,000 orders in memory", |bencher| {
        bencher.iter(|| {
            buyer += 1;
            assert!(is_sold_out(sale.engine.place(order(buyer)).expect("valid")));
        });
    });
    group.bench_function("sold out, by the SKU's handle", |bencher| {
        bencher.iter(|| {
            buyer += 1;
            assert!(is_sold_out(hot.place(order(buyer)).expect("valid")));
        });
    });
    group.bench_function("sold out, by the SKU's handle, one in five a retry", |bencher| {
        bencher.iter(|| {
            buyer += 1;
            if !buyer.is_multiple_of(5) {
                return assert!(is_sold_out(hot.place(order(buyer)).expect("valid")));
            }
            // Not one after the other: a retry finds its order where it lies.
            let earlier = buyer.wrapping_mul(0x9e37_79b9_7f4a_7c15) % SOLD;
            let retry = hot.place(order(earlier)).expect("valid");
            assert!(retry.peek().and_then(Placed::held).is_some_and(|held| held.replayed));
        });
    });
    group.finish();
}

/// Refusals by the rules, which are returned as sold out is: no lock, no log, no allocation.
fn ruled_out(criterion: &mut Criterion) {
    const ORDERS: u64 = 100_000;
    let sale = Sale::open(ORDERS as u32, Durability::Synced, ORDERS);
    sell(&sale.engine, ORDERS, 1, |first, orders| one_by_one(&sale.engine, first, orders));
    let mut group = criterion.benchmark_group("refusal by a rule");
    group.throughput(Throughput::Elements(1));
    let mut buyer = 1 << 50;
    let mut refused_as = |name: &str, is_right: fn(&Refusal) -> bool| {
        let may_be_held = name.starts_with("over its rate");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                buyer += 1;
                let commit = sale.engine.place(order(buyer)).expect("valid");
                match commit.peek() {
                    Some(Placed::Refused(it)) => assert!(is_right(it), "{it:?}"),
                    other => assert!(may_be_held, "{other:?}"),
                }
            });
        });
    };
    let sold_out = |refusal: &Refusal| matches!(refusal, Refusal::SoldOut { available: 0, .. });
    refused_as("beside: sold out, without rules", sold_out);
    let rule = |rules| sale.engine.rules(HOT, rules).expect("valid").wait().expect("durable");
    rule(SaleRules::new().merchant(MERCHANT));
    refused_as("sold out, of a merchant", sold_out);
    let ruled = |rules| {
        sale.engine.merchant(MERCHANT, rules).expect("valid").wait().expect("durable");
    };
    ruled(MerchantRules::new().switch(Switch::NoNewHolds));
    refused_as("merchant switched off", |it| matches!(it, Refusal::Switched { .. }));
    ruled(MerchantRules::new().switch(Switch::Open));
    rule(SaleRules::new().opens_at_ms(u64::MAX - 1));
    refused_as("not open", |it| matches!(it, Refusal::NotOpen { .. }));
    rule(SaleRules::new().opens_at_ms(0).closes_at_ms(1));
    refused_as("closed", |it| matches!(it, Refusal::Closed { .. }));
    rule(SaleRules::new().closes_at_ms(u64::MAX));
    // One order a second, of which the first takes what there is.
    let more = Adjust::add(1_000).key(RequestKey::new(2));
    let _ = sale.engine.stock(HOT, more).expect("valid").wait().expect("durable");
    ruled(MerchantRules::new().rate(1, 1));
    refused_as("over its rate, but for one a second", |it| {
        matches!(it, Refusal::RateLimited { .. })
    });
    group.finish();
}

/// One caller that waits for each order before the next, beside one 4 KiB durable write.
fn lone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lone order");
    let sale = Sale::open(u32::MAX, Durability::Synced, 1 << 20);
    let mut buyer = 0;
    group.bench_function("place and wait, idle engine", |bencher| {
        bencher.iter(|| {
            buyer += 1;
            assert_eq!(is_held(place(&sale.engine, &order(buyer))), 1);
        });
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let storage = doorbuster::storage::Disk::new(folder.path());
    let file = prewritten(&storage);
    let block = doorbuster::storage::AlignedBuffer::zeroed(4096);
    let mut at = 0;
    group.bench_function("4 KiB durable write beside it", |bencher| {
        bencher.iter(|| {
            at = (at + 4096) % PREWRITTEN_BYTES;
            file.write_durable(&block, at).expect("written");
        });
    });
    group.finish();
}

const PREWRITTEN_BYTES: u64 = 16 << 20;

fn prewritten(
    storage: &dyn doorbuster::storage::Storage,
) -> std::sync::Arc<dyn doorbuster::storage::StorageFile> {
    use doorbuster::storage::{Access, AlignedBuffer};
    storage.create_root().expect("created");
    let file = storage.create("file", Access::Direct).expect("created");
    file.write_at(&AlignedBuffer::zeroed(PREWRITTEN_BYTES as usize), 0).expect("written");
    file.sync().expect("synced");
    file
}

/// Opening a folder with `orders` placements in its log.
fn reopen(criterion: &mut Criterion) {
    const ORDERS: u64 = 2_000_000;
    let sale = Sale::open(ORDERS as u32, Durability::Synced, ORDERS);
    sell(&sale.engine, ORDERS, 2, |first, orders| one_by_one(&sale.engine, first, orders));
    sale.engine.close().expect("closed");
    let mut group = criterion.benchmark_group("recovery");
    group.throughput(Throughput::Elements(ORDERS)).sample_size(10);
    // The recovery itself reports what counts: its own time without that of touching memory.
    let report = |what: &str, engine: &Engine| {
        let report = engine.recovery();
        let per_s = |count: u64, us: u64| count as f64 / us.max(1) as f64;
        println!(
            "{what}: memory {} ms, checkpoint {} ms, log {} ms, the rest {} ms; {:.1} M records/s, {:.1} M \
             orders/s from the checkpoint",
            report.memory_us / 1000,
            report.checkpoint_us / 1000,
            report.log_us / 1000,
            report.finish_us / 1000,
            per_s(report.records, report.log_us),
            per_s(report.checkpoint_orders, report.checkpoint_us),
        );
    };
    group.bench_function("reopen a log of placements", |bencher| {
        bencher.iter(|| {
            let options = Options::new(sale._folder.path()).orders_reserved(ORDERS);
            let engine = Engine::open(options).expect("it was closed");
            assert_eq!(engine.stats().orders, ORDERS);
            report("log", &engine);
            engine.close().expect("closed");
        });
    });
    let options = Options::new(sale._folder.path()).orders_reserved(ORDERS);
    let engine = Engine::open(options).expect("it was closed");
    let taken = engine.checkpoint().expect("open").wait().expect("a disk with room");
    assert_eq!(taken.orders, ORDERS);
    engine.close().expect("closed");
    drop(engine);
    group.bench_function("reopen a checkpoint of these orders", |bencher| {
        bencher.iter(|| {
            let options = Options::new(sale._folder.path()).orders_reserved(ORDERS);
            let engine = Engine::open(options).expect("it was closed");
            assert_eq!(engine.stats().orders, ORDERS);
            report("checkpoint", &engine);
            engine.close().expect("closed");
        });
    });
    group.finish();
}

criterion_group!(benches, durable, spread, lifecycle, carts, sold_out, ruled_out, lone, reopen);
criterion_main!(benches);
