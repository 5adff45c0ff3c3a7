//! A stepped engine in memory that keeps finished orders for a hundred seconds.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, Commit, Options, Order, OrderError, OrderId, OrderState, Placed, RequestKey, SaleRules,
    SkuId, Stats, StockLevels,
};

pub(crate) const SKU: SkuId = SkuId::new(1);
pub(crate) const OTHER: SkuId = SkuId::new(2);
pub(crate) const RETENTION: Duration = Duration::from_secs(100);
pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) struct Bench {
    pub(crate) storage: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: SteppedEngine,
}

fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(4)
        .log_shards(2)
        .segment_bytes(1 << 20)
        .retention(RETENTION)
}

/// What the test changes of the options.
pub(crate) fn plain(options: Options) -> Options {
    options
}

impl Bench {
    /// With a million units of [`SKU`] and of [`OTHER`].
    pub(crate) fn new(adapt: impl Fn(Options) -> Options) -> Self {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let engine = SteppedEngine::open(adapt(options(&storage, &clock))).expect("opens");
        let mut bench = Self { storage, clock, engine };
        for sku in [SKU, OTHER] {
            bench.settle(|engine| engine.stock(sku, Adjust::add(1_000_000).key(1)).expect("room"));
        }
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

    pub(crate) fn place(&mut self, order: Order) -> Placed {
        self.settle(|engine| engine.place(order).expect("an answer"))
    }

    /// Places an order that must be held for the first time.
    pub(crate) fn hold(&mut self, order: Order) -> OrderId {
        let placed = self.place(order);
        let held = placed.held().unwrap_or_else(|| panic!("held, not {placed:?}"));
        assert!(!held.replayed, "its key was free");
        held.order
    }

    /// A new order of one unit, brought to a state.
    pub(crate) fn order_in(&mut self, buyer: u64, key: u128, state: OrderState) -> OrderId {
        let order = self.hold(one(buyer, key).hold_for(10 * MS));
        match state {
            OrderState::Expired => self.pass(10 * MS),
            OrderState::Cancelled => drop(self.settle(|it| it.cancel(order).expect("held"))),
            _ => drop(self.settle(|it| it.confirm(order).expect("held"))),
        }
        if state == OrderState::Fulfilled {
            self.settle(|it| it.fulfil(order).expect("confirmed"));
        }
        assert_eq!(self.state(order), Ok(state));
        order
    }

    pub(crate) fn state(&self, order: OrderId) -> Result<OrderState, OrderError> {
        self.engine.order(order).map(|viewed| viewed.state)
    }

    pub(crate) fn limit(&mut self, sku: SkuId, units: u32) {
        let rules = SaleRules::new().buyer_limit(units);
        self.settle(|engine| engine.rules(sku, rules).expect("known"));
    }

    pub(crate) fn end_sale(&mut self, sku: SkuId) {
        self.settle(|engine| engine.end_sale(sku).expect("known"));
    }

    /// Moves the clock and lets the engine do what is due then.
    pub(crate) fn pass(&mut self, by: Duration) {
        self.clock.advance(by);
        self.engine.run_until_idle();
    }

    pub(crate) fn checkpoint(&mut self) {
        let taken = self.engine.checkpoint().expect("open");
        self.engine.run_until_idle();
        let _ = taken.wait().expect("taken");
    }

    /// The same folder after the process was killed.
    pub(crate) fn restart(mut self, adapt: impl Fn(Options) -> Options) -> Self {
        self.kill(adapt);
        self
    }

    /// Kills the process and opens the folder anew.
    pub(crate) fn kill(&mut self, adapt: impl Fn(Options) -> Options) {
        self.reopen(self.storage.kill(), adapt);
    }

    /// Opens what is left of the folder.
    pub(crate) fn reopen(&mut self, left: MemoryStorage, adapt: impl Fn(Options) -> Options) {
        self.storage = left;
        let options = adapt(options(&self.storage, &self.clock));
        self.engine = SteppedEngine::open(options).expect("opens");
    }

    pub(crate) fn levels(&self, sku: SkuId) -> StockLevels {
        self.engine.levels(sku).expect("known")
    }

    /// What two replays of one log must agree on.
    pub(crate) fn figures(&self) -> (Vec<StockLevels>, [u64; 4]) {
        let Stats { orders, live_orders, buyers_tracked, order_table_bytes, .. } =
            self.engine.stats();
        let levels = [SKU, OTHER].map(|sku| self.levels(sku)).to_vec();
        (levels, [orders, live_orders, buyers_tracked, order_table_bytes])
    }
}

pub(crate) fn one(buyer: u64, key: u128) -> Order {
    Order::new(buyer, RequestKey::new(key)).line(SKU, 1)
}

pub(crate) fn retired<T>(order: OrderId) -> Result<T, OrderError> {
    Err(OrderError::Retired { order })
}
