//! A stepped engine in memory with one SKU that has a waiting list.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, Commit, Fill, Options, Order, OrderId, OrderState, Placed, RequestKey, SaleRules,
    SkuId, StockLevels,
};

pub(crate) const SKU: SkuId = SkuId::new(1);
pub(crate) const S: Duration = Duration::from_secs(1);
pub(crate) const PATIENCE: Duration = Duration::from_secs(1_000);

pub(crate) struct Bench {
    pub(crate) storage: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: SteppedEngine,
    next_key: u128,
}

fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(4)
        .log_shards(2)
        .segment_bytes(1 << 20)
}

impl Bench {
    /// With so many units, and a list for so many orders.
    pub(crate) fn new(units: u32, waiting_max: u32) -> Self {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let engine = SteppedEngine::open(options(&storage, &clock)).expect("opens");
        let mut bench = Self { storage, clock, engine, next_key: 1 };
        let first = Adjust::set(units).expect(0).key(1);
        bench.settle(|engine| engine.stock(SKU, first).expect("room"));
        bench.rules(SaleRules::new().waiting_max(waiting_max));
        bench
    }

    /// The answer of a verb, once it is durable and all that follows from it.
    pub(crate) fn settle<T: std::fmt::Debug>(
        &mut self,
        verb: impl FnOnce(&SteppedEngine) -> Commit<T>,
    ) -> T {
        let commit = verb(&self.engine);
        self.engine.run_until_idle();
        commit.wait().expect("durable")
    }

    pub(crate) fn restock(&mut self, units: u32) {
        self.next_key += 1;
        let add = Adjust::add(units).key(self.next_key);
        self.settle(|engine| engine.stock(SKU, add).expect("room"));
    }

    pub(crate) fn rules(&mut self, rules: SaleRules) {
        self.settle(|engine| engine.rules(SKU, rules).expect("known"));
    }

    pub(crate) fn place(&mut self, order: Order) -> Placed {
        self.settle(|engine| engine.place(order).expect("an answer"))
    }

    /// Places an order that must be held.
    pub(crate) fn hold(&mut self, order: Order) -> OrderId {
        let placed = self.place(order);
        placed.held().unwrap_or_else(|| panic!("held, not {placed:?}")).order
    }

    /// Places an order that must wait.
    pub(crate) fn wait(&mut self, order: Order) -> OrderId {
        match self.place(order) {
            Placed::Waiting(waiting) => waiting.order,
            other => panic!("waiting, not {other:?}"),
        }
    }

    pub(crate) fn cancel(&mut self, order: OrderId) {
        self.settle(|engine| engine.cancel(order).expect("known"));
    }

    pub(crate) fn state(&self, order: OrderId) -> OrderState {
        self.engine.order(order).expect("known").state
    }

    pub(crate) fn states<const N: usize>(&self, orders: [OrderId; N]) -> [OrderState; N] {
        orders.map(|order| self.state(order))
    }

    pub(crate) fn position(&self, order: OrderId) -> Option<u64> {
        self.engine.position(order).expect("known")
    }

    /// Lets every writer write a block, and nobody else do anything.
    pub(crate) fn step_writers(&mut self) {
        for shard in 0..self.engine.shards() {
            self.engine.step_writer(shard);
        }
    }

    /// Moves the clock and lets the engine do what is due then.
    pub(crate) fn pass(&mut self, by: Duration) {
        self.clock.advance(by);
        self.engine.run_until_idle();
    }

    pub(crate) fn levels(&self) -> StockLevels {
        let levels = self.engine.levels(SKU).expect("known");
        assert!(levels.add_up(), "{levels:?}");
        levels
    }

    /// Opens what is left of the folder.
    pub(crate) fn reopen(&mut self, left: MemoryStorage) {
        self.storage = left;
        self.engine = SteppedEngine::open(options(&self.storage, &self.clock)).expect("opens");
    }

    /// The process was killed; nothing that was written is lost.
    pub(crate) fn kill(&mut self) {
        self.reopen(self.storage.kill());
    }
}

/// An order that takes `units` or nothing, at once.
pub(crate) fn buy(buyer: u64, units: u32) -> Order {
    Order::new(buyer, RequestKey::new(buyer.into())).line(SKU, units)
}

/// An order that waits for `units`.
pub(crate) fn queue(buyer: u64, units: u32) -> Order {
    buy(buyer, units).fill(Fill::Wait { patience: PATIENCE })
}
