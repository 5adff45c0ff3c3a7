//! A stepped engine in memory that keeps finished orders for a hundred seconds.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, Commit, Options, Order, OrderId, OrderView, Placed, RequestKey, SkuId};

pub(crate) const SKU: SkuId = SkuId::new(1);
pub(crate) const RETENTION: Duration = Duration::from_secs(100);
pub(crate) const S: Duration = Duration::from_secs(1);

pub(crate) struct Bench {
    pub(crate) storage: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: SteppedEngine,
    partitions: usize,
}

impl Bench {
    /// With a million units of [`SKU`].
    pub(crate) fn new(partitions: usize) -> Self {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let engine = open(&storage, &clock, partitions);
        let mut bench = Self { storage, clock, engine, partitions };
        bench.settle(|engine| engine.stock(SKU, Adjust::add(1_000_000).key(1)).expect("room"));
        bench
    }

    /// The answer of a verb, once it is durable.
    pub(crate) fn settle<T: std::fmt::Debug>(
        &mut self,
        verb: impl FnOnce(&SteppedEngine) -> Commit<T>,
    ) -> T {
        let commit = verb(&self.engine);
        self.engine.run_until_idle();
        assert!(commit.is_durable(), "{commit:?} should be durable");
        commit.wait().expect("durable")
    }

    /// Holds an order that need not be durable.
    pub(crate) fn hold(&self, order: &Order) -> OrderId {
        let placed = self.engine.place(order).expect("room");
        placed.peek().and_then(Placed::held).expect("held").order
    }

    /// Moves the clock and lets the engine do what is due then.
    pub(crate) fn pass(&mut self, by: Duration) {
        self.clock.advance(by);
        self.engine.run_until_idle();
    }

    /// Opens the folder anew, as the process left it that was killed.
    pub(crate) fn kill(&mut self) {
        self.storage = self.storage.kill();
        self.engine = open(&self.storage, &self.clock, self.partitions);
    }

    pub(crate) fn scan(&self) -> Vec<OrderView> {
        self.engine.orders(None).collect()
    }
}

fn open(storage: &MemoryStorage, clock: &Arc<ManualClock>, partitions: usize) -> SteppedEngine {
    let options = Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(partitions)
        .log_shards(partitions.min(2))
        .segment_bytes(1 << 20)
        .retention(RETENTION);
    SteppedEngine::open(options).expect("opens")
}

pub(crate) fn one(buyer: u64, key: u128) -> Order {
    Order::new(buyer, RequestKey::new(key)).line(SKU, 1)
}

pub(crate) fn ids(orders: &[OrderView]) -> Vec<OrderId> {
    orders.iter().map(|view| view.order).collect()
}
