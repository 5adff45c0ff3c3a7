//! Waiting lists: joining a long one, being served from it, asking for one's position.
//!
//! `cargo bench --bench waiting`; every run checks which orders were served.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use doorbuster::{
    Adjust, Commit, Engine, Fill, Options, Order, OrderId, PlaceError, Placed, RequestKey,
    SaleRules, SkuId, Unavailable,
};

const SKU: SkuId = SkuId::new(1);
const WAITING: u64 = 1_000_000;
const WINDOW: usize = 32 * 1024;
const PATIENCE: Duration = Duration::from_secs(3600);

/// A SKU without stock, whose list is long enough for all.
struct Line {
    engine: Engine,
    /// The waiting orders, in order.
    orders: Vec<OrderId>,
    _folder: tempfile::TempDir,
}

impl Line {
    fn open() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = Options::new(folder.path()).orders_reserved(WAITING);
        let engine = Engine::open(options).expect("an empty folder opens");
        let none = Adjust::set(0).expect(0).key(RequestKey::new(1));
        black_box(engine.stock(SKU, none).expect("valid").wait().expect("durable"));
        let rules = SaleRules::new().waiting_max(WAITING as u32);
        engine.rules(SKU, rules).expect("valid").wait().expect("durable");
        Self { engine, orders: Vec::with_capacity(WAITING as usize), _folder: folder }
    }

    fn with_all() -> Self {
        let mut line = Self::open();
        line.join_all();
        line
    }

    fn join_all(&mut self) {
        let mut window = VecDeque::with_capacity(WINDOW);
        for buyer in 0..WAITING {
            if window.len() == WINDOW {
                self.orders.extend(window.pop_front().map(waits));
            }
            window.push_back(self.join(buyer));
        }
        self.orders.extend(window.into_iter().map(waits));
        assert_eq!(self.engine.stats().waiting, WAITING);
    }

    fn join(&self, buyer: u64) -> Commit<Placed> {
        let order = Order::new(buyer, RequestKey::new(1)).line(SKU, 1);
        let order = order.fill(Fill::Wait { patience: PATIENCE });
        loop {
            match self.engine.place(&order) {
                Ok(commit) => return commit,
                Err(PlaceError::Unavailable(Unavailable::Backlogged { .. })) => {
                    self.engine.ready().wait().expect("the log goes on");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Enough for all comes; returns how long it took until the last order was durably served.
    fn serve_all(&self) -> Duration {
        let delivery = Adjust::add(WAITING as u32).key(RequestKey::new(2));
        let start = Instant::now();
        black_box(self.engine.stock(SKU, delivery).expect("valid").wait().expect("durable"));
        let last = self.orders.last().expect("somebody waits");
        self.engine.watch(*last).expect("known").wait().expect("served");
        let took = start.elapsed();
        let (levels, stats) = (self.engine.levels(SKU).expect("known"), self.engine.stats());
        assert_eq!((levels.held, levels.available), (WAITING as i64, 0));
        assert_eq!((stats.promoted, stats.waiting), (WAITING, 0));
        took
    }
}

fn waits(commit: Commit<Placed>) -> OrderId {
    match commit.wait().expect("durable") {
        Placed::Waiting(waiting) => waiting.order,
        other => panic!("it was to wait: {other:?}"),
    }
}

fn lists(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("waiting");
    group.throughput(Throughput::Elements(WAITING)).sample_size(10);
    group.bench_function("join, 1 million orders, 1 thread, durable", |bencher| {
        bencher.iter_custom(|runs| {
            let join_all = |_| {
                let mut line = Line::open();
                let start = Instant::now();
                line.join_all();
                start.elapsed()
            };
            (0..runs).map(join_all).sum()
        });
    });
    group.bench_function("served, 1 million orders, durable", |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| Line::with_all().serve_all()).sum());
    });
    group.finish();
    let line = Line::with_all();
    let last = *line.orders.last().expect("somebody waits");
    assert_eq!(line.engine.position(last), Ok(Some(WAITING - 1)));
    criterion.bench_function("waiting/position of the millionth", |bencher| {
        bencher.iter(|| line.engine.position(last));
    });
}

criterion_group!(benches, lists);
criterion_main!(benches);
