//! A stepped engine in memory, and what can be seen of it.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, Adjusted, Commit, Held, Options, Order, OrderId, Placed, RequestKey, SkuId, Stats,
    StockLevels,
};

pub(crate) const SKU: SkuId = SkuId::new(1);
pub(crate) const OTHER: SkuId = SkuId::new(2);
/// Known, and always sold out.
pub(crate) const EMPTY: SkuId = SkuId::new(3);
/// Never made known.
pub(crate) const UNKNOWN: SkuId = SkuId::new(99);

/// An engine that is stepped until idle after every verb of a test that does not care.
pub(crate) struct Bench {
    pub(crate) storage: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: SteppedEngine,
}

pub(crate) fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(4)
        .log_shards(2)
        .segment_bytes(1 << 20)
}

/// The smallest blocks and segments there are: orders of one line, without payload.
pub(crate) fn small(options: Options) -> Options {
    options.lines_max(1).payload_bytes_max(0).block_bytes_max(16 << 10).segment_bytes(32 << 10)
}

impl Bench {
    /// With 100 units of [`SKU`] and of [`OTHER`], and none of [`EMPTY`].
    pub(crate) fn new(adapt: impl Fn(Options) -> Options) -> Self {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let engine = SteppedEngine::open(adapt(options(&storage, &clock))).expect("opens");
        let mut bench = Self { storage, clock, engine };
        for sku in [SKU, OTHER] {
            bench.add(sku, 100, 0);
        }
        drop(bench.engine.stock(EMPTY, Adjust::set(0).expect(0).key(0)).expect("takes it"));
        bench.engine.run_until_idle();
        bench
    }

    pub(crate) fn add(&mut self, sku: SkuId, units: u32, key: u128) {
        let added = self.engine.stock(sku, Adjust::add(units).key(key)).expect("takes it");
        self.engine.run_until_idle();
        assert!(matches!(settled(added), Adjusted::Done { replayed: false, .. }));
    }

    /// Places an order that must be held for the first time; durable.
    pub(crate) fn hold(&mut self, order: &Order) -> Held {
        let placed = self.engine.place(order).expect("an answer");
        self.engine.run_until_idle();
        let placed = settled(placed);
        let held = *placed.held().unwrap_or_else(|| panic!("held, not {placed:?}"));
        assert!(!held.replayed, "its key was free");
        held
    }

    /// The same folder after the process was killed.
    pub(crate) fn restart(self, adapt: impl Fn(Options) -> Options) -> Self {
        let storage = self.storage.kill();
        drop(self.engine);
        let engine = SteppedEngine::open(adapt(options(&storage, &self.clock))).expect("opens");
        Self { storage, clock: self.clock, engine }
    }

    /// All that a refusal must leave as it is.
    pub(crate) fn seen(&self) -> (Vec<Option<StockLevels>>, Stats) {
        let skus = [SKU, OTHER, EMPTY, UNKNOWN];
        (skus.iter().map(|sku| self.engine.levels(*sku)).collect(), self.engine.stats())
    }

    pub(crate) fn available(&self, sku: SkuId) -> i64 {
        self.engine.levels(sku).expect("known").available
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        self.engine.run_until_idle();
    }
}

/// The answer of a commit that is durable.
pub(crate) fn settled<T: std::fmt::Debug>(commit: Commit<T>) -> T {
    assert!(commit.is_durable(), "{commit:?} should be durable");
    commit.wait().expect("durable")
}

pub(crate) fn order(buyer: u64, key: u128) -> Order {
    Order::new(buyer, RequestKey::new(key)).line(SKU, 1)
}

pub(crate) fn replayed(placed: &Placed) -> Option<OrderId> {
    placed.held().filter(|held| held.replayed).map(|held| held.order)
}
