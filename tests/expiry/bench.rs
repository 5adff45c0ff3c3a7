//! A stepped engine in memory under a clock set by hand.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, Commit, Held, Options, Order, OrderId, OrderState, RequestKey, SkuId, StockLevels,
    Transition,
};

pub(crate) const SKU: SkuId = SkuId::new(1);

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

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Bench {
    pub(crate) fn new(units: u32) -> Self {
        Self::at(ManualClock::default(), units)
    }

    pub(crate) fn at(clock: ManualClock, units: u32) -> Self {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(clock));
        let mut engine = SteppedEngine::open(options(&storage, &clock)).expect("opens");
        drop(engine.stock(SKU, Adjust::add(units).key(1)).expect("takes it"));
        engine.run_until_idle();
        Self { storage, clock, engine }
    }

    /// Holds one unit for a buyer; not durable yet.
    pub(crate) fn place(&self, buyer: u64, hold: Duration) -> Held {
        let order = Order::new(buyer, RequestKey::new(1)).line(SKU, 1).hold_for(hold);
        let placed = self.engine.place(order).expect("an answer");
        *placed.peek().and_then(|placed| placed.held()).expect("there is enough")
    }

    pub(crate) fn hold(&mut self, buyer: u64, hold: Duration) -> Held {
        let held = self.place(buyer, hold);
        self.engine.run_until_idle();
        held
    }

    /// Kills the process and opens the folder anew, at whatever the clock shows.
    pub(crate) fn restart(self) -> Self {
        self.restart_with(|options| options)
    }

    pub(crate) fn restart_with(self, adapt: impl Fn(Options) -> Options) -> Self {
        let storage = self.storage.kill();
        drop(self.engine);
        let engine = SteppedEngine::open(adapt(options(&storage, &self.clock))).expect("opens");
        Self { storage, clock: self.clock, engine }
    }

    pub(crate) fn levels(&self) -> StockLevels {
        self.engine.levels(SKU).expect("known")
    }

    /// Moves the clock, and nothing else, to this moment of engine time.
    pub(crate) fn advance_to(&self, engine_ms: u64) {
        self.clock.advance(ms(engine_ms - self.engine.now_ms()));
        assert_eq!(self.engine.now_ms(), engine_ms);
    }

    /// What a confirm says, made durable.
    pub(crate) fn confirm(&mut self, order: OrderId) -> Transition {
        let confirmed = self.engine.confirm(order).expect("known");
        self.engine.run_until_idle();
        settled(confirmed)
    }
}

pub(crate) fn settled<T: std::fmt::Debug>(commit: Commit<T>) -> T {
    assert!(commit.is_durable(), "{commit:?} should be durable");
    commit.wait().expect("durable")
}

pub(crate) const CONFIRMED: Transition = Transition::Done { state: OrderState::Confirmed };
pub(crate) const TOO_LATE: Transition = Transition::NotAllowed { state: OrderState::Expired };
