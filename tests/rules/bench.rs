//! A stepped engine in memory under a clock set by hand.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, Commit, Held, MerchantId, MerchantRules, Options, Order, Placed, Refusal, RequestKey,
    SaleRules, SkuId, StockLevels, Switch,
};

pub(crate) const SKU: SkuId = SkuId::new(1);
pub(crate) const OTHER: SkuId = SkuId::new(2);
/// Of the same merchant as [`SKU`] where a test says so.
pub(crate) const MERCHANT: MerchantId = MerchantId::new(70);

pub(crate) struct Bench {
    pub(crate) storage: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: SteppedEngine,
    last_key: u128,
}

pub(crate) fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(4)
        .log_shards(2)
        .segment_bytes(1 << 20)
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Bench {
    /// With 100 units of both SKUs.
    pub(crate) fn new() -> Self {
        Self::with(|options| options)
    }

    pub(crate) fn with(adapt: impl Fn(Options) -> Options) -> Self {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let engine = SteppedEngine::open(adapt(options(&storage, &clock))).expect("opens");
        let mut bench = Self { storage, clock, engine, last_key: 0 };
        for sku in [SKU, OTHER] {
            drop(bench.engine.stock(sku, Adjust::add(100).key(0)).expect("takes it"));
        }
        bench.engine.run_until_idle();
        bench
    }

    /// The same folder after the process was killed.
    pub(crate) fn restart(self) -> Self {
        let storage = self.storage.kill();
        drop(self.engine);
        let engine = SteppedEngine::open(options(&storage, &self.clock)).expect("opens");
        Self { storage, clock: self.clock, engine, last_key: self.last_key }
    }

    /// The same folder, with a checkpoint that holds all of it.
    pub(crate) fn restart_from_checkpoint(mut self) -> Self {
        let taken = self.engine.checkpoint().expect("open");
        self.engine.run_until_idle();
        taken.wait().expect("taken");
        let bench = self.restart();
        assert!(bench.engine.recovery().checkpoint.is_some());
        bench
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.engine.now_ms()
    }

    /// Moves the clock, and nothing else, to this moment of engine time.
    pub(crate) fn advance_to(&self, engine_ms: u64) {
        self.clock.advance(ms(engine_ms - self.now_ms()));
        assert_eq!(self.now_ms(), engine_ms);
    }

    /// Changes a SKU's rules; durable.
    pub(crate) fn rule(&mut self, sku: SkuId, rules: SaleRules) {
        let ruled = self.engine.rules(sku, rules).expect("takes it");
        self.engine.run_until_idle();
        settled(ruled);
    }

    /// Changes the merchant's rules; durable.
    pub(crate) fn rule_merchant(&mut self, rules: MerchantRules) {
        let ruled = self.engine.merchant(MERCHANT, rules).expect("takes it");
        self.engine.run_until_idle();
        settled(ruled);
    }

    /// Switches the engine; durable.
    pub(crate) fn switch(&mut self, to: Switch) {
        let switched = self.engine.switch(to).expect("takes it");
        self.engine.run_until_idle();
        settled(switched);
    }

    /// An order of a buyer of his own with a key of its own.
    pub(crate) fn order(&mut self, lines: &[(SkuId, u32)]) -> Order {
        self.last_key += 1;
        let order = Order::new(self.last_key as u64, RequestKey::new(self.last_key));
        lines.iter().fold(order, |order, (sku, units)| order.line(*sku, *units))
    }

    /// What a new order of these lines is told; alike one by one and in a batch.
    pub(crate) fn place(&mut self, lines: &[(SkuId, u32)]) -> Placed {
        let order = self.order(lines);
        self.tell(&order)
    }

    pub(crate) fn tell(&self, order: &Order) -> Placed {
        self.engine.place(order).expect("an answer").peek().expect("an answer").clone()
    }

    /// A unit, which must be held.
    pub(crate) fn hold(&mut self, sku: SkuId) -> Held {
        let placed = self.place(&[(sku, 1)]);
        *placed.held().unwrap_or_else(|| panic!("held, not {placed:?}"))
    }

    /// Why a unit is not held.
    pub(crate) fn refusal(&mut self, sku: SkuId) -> Refusal {
        match self.place(&[(sku, 1)]) {
            Placed::Refused(refusal) => refusal,
            other => panic!("refused, not {other:?}"),
        }
    }

    pub(crate) fn levels(&self, sku: SkuId) -> StockLevels {
        let levels = self.engine.levels(sku).expect("known");
        assert!(levels.add_up(), "{levels:?}");
        levels
    }
}

/// The answer of a commit that is durable.
pub(crate) fn settled<T: std::fmt::Debug>(commit: Commit<T>) -> T {
    assert!(commit.is_durable(), "{commit:?} should be durable");
    commit.wait().expect("durable")
}
