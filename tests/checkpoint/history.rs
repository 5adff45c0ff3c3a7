//! A random history on a stepped engine, with a copy of its whole log. Segments are copied before the engine
//! recycles them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorbuster::storage::{Access, Storage};
use doorbuster::testing::{
    CheckpointProgress, Fault, ManualClock, MemoryStorage, Operation, SteppedEngine,
};
use doorbuster::{
    Adjust, Durability, OpenError, Options, Order, OrderId, PlaceError, SaleRules, StockError,
};
use fastrand::Rng;

pub(crate) const SHARDS: usize = 2;
const SKUS: u64 = 5;
const SEGMENT_BYTES: u64 = 32_768;

/// Recycled segments as they were, by the name that they had.
type Archive = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

pub(crate) struct History {
    pub(crate) storage: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) durability: Durability,
    partitions: usize,
    pub(crate) engine: Option<SteppedEngine>,
    archive: Archive,
    random: Rng,
    orders: Vec<OrderId>,
    next_key: u64,
}

/// Decides the fault of a call.
pub(crate) type Hook = Box<dyn Fn(Operation, &str) -> Fault + Send + Sync>;

pub(crate) fn options(
    storage: &MemoryStorage,
    clock: &Arc<ManualClock>,
    durability: Durability,
) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .durability(durability)
        .partitions(4)
        .log_shards(SHARDS)
        .segment_bytes(SEGMENT_BYTES)
        .block_bytes_max(16_384)
        .lines_max(4)
        .payload_bytes_max(3_000)
        .skus_max(64)
        .retention(Duration::from_millis(150))
        .returns_window(Duration::from_millis(300))
        .finish_on_confirm(true)
}

impl History {
    pub(crate) fn new(seed: u64, durability: Durability) -> Self {
        Self::of_partitions(seed, durability, 4)
    }

    pub(crate) fn of_one_partition() -> Self {
        Self::of_partitions(0, Durability::Synced, 1)
    }

    fn of_partitions(seed: u64, durability: Durability, partitions: usize) -> Self {
        let mut history = Self {
            partitions,
            storage: MemoryStorage::new(),
            clock: Arc::new(ManualClock::default()),
            durability,
            engine: None,
            archive: Archive::default(),
            random: Rng::with_seed(seed),
            orders: Vec::new(),
            next_key: 0,
        };
        history.reopen().expect("a new folder");
        for sku in 1..=SKUS {
            let _ = history.engine().stock(sku, Adjust::add(200).key(0)).expect("there is room");
        }
        history.engine().run_until_idle();
        history
    }

    pub(crate) fn engine(&mut self) -> &mut SteppedEngine {
        self.engine.as_mut().expect("open")
    }

    pub(crate) fn open(&self, storage: &MemoryStorage) -> Result<SteppedEngine, OpenError> {
        let options = options(storage, &self.clock, self.durability)
            .partitions(self.partitions)
            .log_shards(SHARDS.min(self.partitions));
        // After an engine without syncs, a loss of power leaves what only this option opens.
        SteppedEngine::open(options.cut_after_power_loss(self.durability == Durability::Written))
    }

    /// Opens what is stored now, and continues from there.
    pub(crate) fn reopen(&mut self) -> Result<(), OpenError> {
        self.engine = None;
        self.engine = Some(self.open(&self.storage)?);
        self.hook(Box::new(|_, _| Fault::None));
        Ok(())
    }

    /// Sets the hook that decides what becomes of calls. Recycled segments are still copied.
    pub(crate) fn hook(&self, hook: Hook) {
        let (archive, storage) = (self.archive.clone(), self.storage.clone());
        self.storage.set_fault_hook(Some(Arc::new(move |call| {
            if call.operation == Operation::Rename && call.path.ends_with(".segment") {
                let bytes = storage.read_file(call.path).expect("what is renamed is there");
                archive.lock().expect("no panic").insert(call.path.into(), bytes);
            }
            hook(call.operation, call.path)
        })));
    }

    pub(crate) fn recycled(&self) -> usize {
        self.archive.lock().expect("no panic").len()
    }

    /// Returns the same folder with the whole log and no checkpoint.
    pub(crate) fn without_checkpoints(&self, storage: &MemoryStorage) -> MemoryStorage {
        let whole = storage.deep_copy();
        let names = whole.list_files();
        for path in names.iter().filter(|path| path.starts_with("checkpoints/")) {
            whole.remove_file(path).expect("listed");
        }
        for (path, bytes) in &*self.archive.lock().expect("no panic") {
            if !names.contains(path) {
                write_file(&whole, path, bytes).expect("room in memory");
            }
        }
        whole
    }

    /// Does something at random. After a loss of power without syncs, a SKU may be unknown. A sale may be ending
    /// already.
    pub(crate) fn act(&mut self) {
        let dice = self.random.u64(..100);
        match dice {
            0..=39 => self.place(),
            40..=64 => self.go_on_with_an_order(),
            65..=69 => self.adjust(),
            70 => {
                let sku = self.sku();
                match self.engine().end_sale(sku) {
                    Ok(_) | Err(StockError::UnknownSku { .. } | StockError::SaleEnding { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            71..=72 => {
                let (sku, limit) = (self.sku(), self.random.u64(..9) as u32);
                let rules = SaleRules::new().buyer_limit(limit);
                match self.engine().rules(sku, rules) {
                    Ok(_) | Err(StockError::UnknownSku { .. } | StockError::SaleEnding { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            73..=75 => {
                self.clock.advance(Duration::from_millis(20));
                self.engine().step_timekeeper();
            }
            76..=89 => {
                let shard = self.random.u64(..SHARDS as u64) as usize;
                self.engine().step_writer(shard);
                self.engine().step_segments();
            }
            _ => {
                self.engine().step_checkpointer();
            }
        }
    }

    /// Ids that were given out, and some that were not.
    pub(crate) fn ids(&self) -> impl Iterator<Item = OrderId> {
        let beside = |id: &OrderId| OrderId::from_u64(id.get() + 1);
        let ids = self.orders.iter().copied().chain(self.orders.iter().map(beside));
        ids.collect::<Vec<_>>().into_iter()
    }

    fn sku(&mut self) -> u64 {
        1 + self.random.u64(..SKUS)
    }

    fn place(&mut self) {
        self.next_key += 1;
        let (buyer, key) = (self.random.u64(..40), self.next_key);
        let mut order = Order::new(buyer, u128::from(key));
        for _ in 0..=self.random.u64(..3) / 2 {
            order = order.line(self.sku(), 1 + self.random.u64(..3) as u32);
        }
        if self.random.u64(..6) == 0 {
            let payload = vec![key as u8; self.random.u64(..1_500) as usize];
            order = order.payload(payload);
        }
        let hold = Duration::from_millis(10 + self.random.u64(..400));
        let placed = match self.engine().place(order.hold_for(hold)) {
            Err(PlaceError::UnknownSku { .. }) => return,
            placed => placed.expect("there is room"),
        };
        self.orders.extend(placed.peek().and_then(|placed| placed.held()).map(|held| held.order));
    }

    fn go_on_with_an_order(&mut self) {
        if self.orders.is_empty() {
            return;
        }
        let order = self.orders[self.random.u64(..self.orders.len() as u64) as usize];
        let verb = self.random.u64(..3);
        let engine = self.engine();
        // An order that a crash erased is unknown.
        let _ = match verb {
            0 => engine.confirm(order).map(drop),
            1 => engine.cancel(order).map(drop),
            _ => engine.fulfil(order).map(drop),
        };
    }

    fn adjust(&mut self) {
        self.next_key += 1;
        let (sku, key) = (self.sku(), u128::from(self.next_key));
        let units = 1 + self.random.u64(..20) as u32;
        let adjust = match self.random.u64(..3) {
            0 => Adjust::take_up_to(units),
            1 => Adjust::take(units),
            _ => Adjust::add(units),
        };
        let adjust = adjust.key(key).reference("r".repeat(self.random.u64(..60) as usize));
        match self.engine().stock(sku, adjust) {
            Ok(_) | Err(StockError::UnknownSku { .. } | StockError::SaleEnding { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Asks for a checkpoint, and acts until it is over.
    pub(crate) fn checkpoint_meanwhile(&mut self) {
        let asked = self.engine().checkpoint().expect("open");
        while asked.peek().is_none() {
            for _ in 0..self.random.u64(..12) {
                self.act();
            }
            if self.engine().step_checkpointer() == CheckpointProgress::Waiting {
                for shard in 0..SHARDS {
                    self.engine().step_writer(shard);
                }
            }
        }
        asked.wait().expect("a disk that works");
    }

    /// Asks for a checkpoint while nothing else happens.
    pub(crate) fn checkpoint_quietly(&mut self) {
        let asked = self.engine().checkpoint().expect("open");
        self.engine().run_until_idle();
        asked.wait().expect("a disk that works");
    }

    /// Acts until every shard has begun this number of further segments.
    pub(crate) fn act_for_segments(&mut self, segments: usize) {
        let count = |storage: &MemoryStorage| {
            let names = storage.list_files().into_iter();
            names.filter(|path| path.ends_with(".segment")).count()
        };
        let goal = count(&self.storage) + self.recycled() + segments * SHARDS;
        while count(&self.storage) + self.recycled() < goal {
            self.act();
        }
    }

    /// Adjusts stock until the log has this number of further bytes. No order needs room for its ending then.
    pub(crate) fn adjust_for_bytes(&mut self, bytes: u64) {
        let goal = self.engine().stats().block_bytes + bytes;
        while self.engine().stats().block_bytes < goal {
            self.adjust();
            self.engine().run_until_idle();
        }
    }
}

pub(crate) fn write_file(storage: &MemoryStorage, path: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let file = storage.create(path, Access::Cached)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    storage.sync_folder(folder)
}
