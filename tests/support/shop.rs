//! A shop for tests of one thread: a stepped engine in memory, under a clock that the test sets.
//!
//! Each target adds the methods that its tests need in an `impl Shop` of its own.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{Adjust, Commit, Options, SkuId, StockLevels};

pub(crate) const SKU: SkuId = SkuId::new(1);

/// Keys after this one are the helpers'. A test that names keys itself takes small numbers.
const KEYS_AFTER: u128 = 1 << 100;

pub(crate) struct Shop {
    pub(crate) storage: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: SteppedEngine,
    /// What the test changes of [`options`]; a reopened engine receives the same options.
    pub(crate) adapt: Box<dyn Fn(Options) -> Options>,
    last_key: u128,
}

pub(crate) fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(4)
        .log_shards(2)
        .segment_bytes(1 << 20)
}

impl Shop {
    /// Opens an engine in an empty folder. `adapt` changes its options.
    pub(crate) fn open(clock: ManualClock, adapt: impl Fn(Options) -> Options + 'static) -> Self {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(clock));
        let engine = SteppedEngine::open(adapt(options(&storage, &clock))).expect("opens");
        Self { storage, clock, engine, adapt: Box::new(adapt), last_key: KEYS_AFTER }
    }

    /// Kills the process and opens the folder again. Nothing that was written is lost.
    pub(crate) fn kill(&mut self) {
        self.reopen(self.storage.kill());
    }

    /// Opens what a crash left of the folder.
    pub(crate) fn reopen(&mut self, left: MemoryStorage) {
        self.storage = left;
        let options = (self.adapt)(options(&self.storage, &self.clock));
        self.engine = SteppedEngine::open(options).expect("opens");
    }

    /// Calls a verb, and returns its answer when it is durable.
    pub(crate) fn settle<T: Debug>(&mut self, verb: impl FnOnce(&SteppedEngine) -> Commit<T>) -> T {
        let commit = verb(&self.engine);
        self.engine.run_until_idle();
        settled(commit)
    }

    /// Takes a checkpoint.
    pub(crate) fn checkpoint(&mut self) {
        let asked = self.engine.checkpoint().expect("open");
        self.engine.run_until_idle();
        let _ = asked.wait().expect("the checkpoint is taken");
    }

    /// Returns a request key that no helper and no test has used.
    pub(crate) fn next_key(&mut self) -> u128 {
        self.last_key += 1;
        self.last_key
    }

    /// Adds units to the stock of a SKU.
    pub(crate) fn restock(&mut self, sku: SkuId, units: u32) {
        let add = Adjust::add(units).key(self.next_key());
        self.settle(|engine| engine.stock(sku, add).expect("there is room"));
    }

    /// Moves the clock, and lets the engine do what is due then.
    pub(crate) fn pass(&mut self, by: Duration) {
        self.clock.advance(by);
        self.engine.run_until_idle();
    }

    pub(crate) fn levels(&self, sku: SkuId) -> StockLevels {
        let levels = self.engine.levels(sku).expect("the SKU is known");
        assert!(levels.add_up(), "{levels:?}");
        levels
    }
}

/// Returns the answer of a commit that must be durable.
pub(crate) fn settled<T: Debug>(commit: Commit<T>) -> T {
    assert!(commit.is_durable(), "{commit:?} should be durable");
    commit.wait().expect("durable")
}
