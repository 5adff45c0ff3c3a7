//! A log whose every block is known: what it holds, where it lies, and which other blocks it names. From this the
//! tests know what any part of the log must replay to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorbuster::testing::{Fault, ManualClock, MemoryStorage, Operation, Step, SteppedEngine};
use doorbuster::{Adjust, Commit, OpenError, Options, Order, OrderId, OrderState};

pub(crate) const SHARDS: usize = 3;
const PARTITIONS: usize = 4;
const SKUS: u64 = 3;
pub(crate) const SEGMENT_BYTES: u64 = 32_768;
/// Bytes of a block in front of its sections, by the format.
const PREFIX_BYTES: usize = 128 + 24 * SHARDS;
/// Where a block's header says how many bytes its sections have.
const PAYLOAD_BYTES_AT: usize = 48;

/// What one record did.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fact {
    Stocked { sku: u64, delta: i64 },
    Placed { order: OrderId, sku: u64, units: u32 },
    Moved { order: OrderId, to: OrderState },
}

#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) path: String,
    /// The whole block, padding included.
    pub(crate) range: Range<usize>,
    /// Header, durable vector and sections: the part that must be whole.
    pub(crate) content_end: usize,
    pub(crate) facts: Vec<Fact>,
    /// How many blocks each shard had when this segment was closed to appends.
    pub(crate) names: Vec<usize>,
}

/// An engine that is written to step by step, and everything that is known about its log.
pub(crate) struct Books {
    pub(crate) storage: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: Option<SteppedEngine>,
    pub(crate) blocks: Vec<Vec<Block>>,
    /// How many blocks of each shard the manifest names.
    pub(crate) manifest_names: Vec<usize>,
    waiting: Vec<(Fact, Box<dyn Awaited>)>,
    writes: Arc<Mutex<Vec<(String, usize, usize)>>>,
    next_key: u64,
    orders: Vec<OrderId>,
}

trait Awaited {
    fn is_durable(&self) -> bool;
}

impl<T> Awaited for Commit<T> {
    fn is_durable(&self) -> bool {
        self.is_durable()
    }
}

pub(crate) fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(PARTITIONS)
        .log_shards(SHARDS)
        .segment_bytes(SEGMENT_BYTES)
        .block_bytes_max(16_384)
        .lines_max(4)
        .payload_bytes_max(6_000)
        .skus_max(64)
}

pub(crate) fn open(
    storage: &MemoryStorage,
    clock: &Arc<ManualClock>,
) -> Result<SteppedEngine, OpenError> {
    SteppedEngine::open(options(storage, clock))
}

impl Books {
    pub(crate) fn new() -> Self {
        let mut books = Self {
            storage: MemoryStorage::new(),
            clock: Arc::new(ManualClock::default()),
            engine: None,
            blocks: vec![Vec::new(); SHARDS],
            manifest_names: vec![0; SHARDS],
            waiting: Vec::new(),
            writes: Arc::default(),
            next_key: 0,
            orders: Vec::new(),
        };
        books.open();
        books
    }

    /// Two lives. The second still runs, and the last blocks of each shard are named by some blocks and not by
    /// others.
    pub(crate) fn of_two_lives() -> Self {
        let mut books = Self::new();
        books.stock_up();
        books.trade(0);
        books.close();
        books.open();
        for round in 1..8 {
            books.trade(round);
            // Each time in another order, and not always all shards.
            books.write((round as usize * 2) % SHARDS);
            books.write((round as usize * 2 + 1) % SHARDS);
            if round % 3 == 0 {
                books.clock.advance(Duration::from_millis(7));
                books.write((round as usize * 2 + 2) % SHARDS);
            }
        }
        (0..SHARDS).for_each(|shard| books.write(shard));
        books
    }

    pub(crate) fn engine(&mut self) -> &mut SteppedEngine {
        self.engine.as_mut().expect("open")
    }

    /// Opens the folder. After that its manifest names every block.
    pub(crate) fn open(&mut self) {
        self.engine = Some(open(&self.storage, &self.clock).expect("nothing is damaged"));
        self.manifest_names = self.blocks.iter().map(Vec::len).collect();
        let writes = self.writes.clone();
        self.storage.set_fault_hook(Some(Arc::new(move |call| {
            if call.operation == Operation::WriteDurable && call.path.starts_with("log/") {
                let path = segment_path(call.path);
                writes.lock().expect("unpoisoned").push((path, call.offset as usize, call.len));
            }
            Fault::None
        })));
    }

    /// Kills the process. What was not written is lost, and here nothing is left unwritten.
    pub(crate) fn kill(&mut self) {
        assert!(self.waiting.is_empty(), "written to the end");
        self.engine = None;
        self.storage = self.storage.kill();
    }

    pub(crate) fn close(&mut self) {
        (0..SHARDS).for_each(|shard| self.write(shard));
        self.clock.advance(Duration::from_millis(6));
        // Writes the witnesses, so that a close has nothing to write but the manifest.
        (0..SHARDS).for_each(|shard| self.write(shard));
        self.engine.take().expect("open").close().expect("a clean close");
        self.storage.set_fault_hook(None);
        self.manifest_names = self.blocks.iter().map(Vec::len).collect();
    }

    /// Writes everything that waits for this shard's writer, and notes the blocks.
    pub(crate) fn write(&mut self, shard: usize) {
        loop {
            let names = self.blocks.iter().map(Vec::len).collect();
            self.writes.lock().expect("unpoisoned").clear();
            if self.engine().step_writer(shard) != Step::Wrote {
                return;
            }
            let writes = self.writes.lock().expect("unpoisoned").clone();
            let [(path, offset, len)] = &writes[..] else {
                panic!("one write a block: {writes:?}")
            };
            let file = self.storage.read_file(path).expect("a segment");
            let payload_at = offset + PAYLOAD_BYTES_AT;
            let payload =
                u32::from_le_bytes(file[payload_at..payload_at + 4].try_into().expect("4"));
            let (durable, waiting) = std::mem::take(&mut self.waiting)
                .into_iter()
                .partition(|(_, commit)| commit.is_durable());
            let durable: Vec<(Fact, Box<dyn Awaited>)> = durable;
            self.waiting = waiting;
            self.blocks[shard].push(Block {
                path: path.clone(),
                range: *offset..offset + len,
                content_end: offset + PREFIX_BYTES + payload as usize,
                facts: durable.into_iter().map(|(fact, _)| fact).collect(),
                names,
            });
        }
    }

    fn key(&mut self) -> u128 {
        self.next_key += 1;
        u128::from(self.next_key)
    }

    pub(crate) fn stock_up(&mut self) {
        for sku in 1..=SKUS {
            let adjust = Adjust::add(40).key(self.key()).reference("delivery");
            let commit = self.engine().stock(sku, adjust).expect("there is room");
            self.waiting.push((Fact::Stocked { sku, delta: 40 }, Box::new(commit)));
        }
        (0..SHARDS).for_each(|shard| self.write(shard));
    }

    pub(crate) fn place(&mut self, buyer: u64, sku: u64, units: u32, payload: usize) -> OrderId {
        let order = Order::new(buyer, self.key()).line(sku, units).payload(vec![7; payload]);
        let commit = self.engine().place(&order).expect("there is room");
        let held = commit.peek().and_then(|placed| placed.held()).copied().expect("enough");
        let order = held.order;
        self.waiting.push((Fact::Placed { order, sku, units }, Box::new(commit)));
        self.orders.push(order);
        order
    }

    fn moved(&mut self, order: OrderId, to: OrderState) {
        let commit = match to {
            OrderState::Confirmed => self.engine().confirm(order),
            OrderState::Fulfilled => self.engine().fulfil(order),
            _ => self.engine().cancel(order),
        };
        let commit = commit.expect("there is room");
        assert_eq!(commit.peek().expect("an answer").state(), to);
        self.waiting.push((Fact::Moved { order, to }, Box::new(commit)));
    }

    /// Calls a few verbs of every kind.
    fn trade(&mut self, round: u64) {
        for buyer in 0..4 {
            // One in nine blocks is larger than a page.
            let payload = if (round + buyer) % 9 == 8 { 4_500 } else { buyer as usize * 9 };
            self.place(round * 4 + buyer, 1 + (round + buyer) % SKUS, 1, payload);
        }
        let (first, second) =
            (self.orders[round as usize * 4], self.orders[round as usize * 4 + 1]);
        self.moved(first, OrderState::Confirmed);
        self.moved(second, OrderState::Cancelled);
        if round % 2 == 1 {
            self.moved(first, OrderState::Fulfilled);
        }
        let take = Adjust::take(1).key(self.key());
        let commit = self.engine().stock(1 + round % SKUS, take).expect("there is room");
        self.waiting.push((Fact::Stocked { sku: 1 + round % SKUS, delta: -1 }, Box::new(commit)));
    }

    /// Returns what the first blocks of each shard replay to; `kept` says how many.
    pub(crate) fn replay(&self, kept: &[usize]) -> Replayed {
        let mut replayed = Replayed::default();
        for order in &self.orders {
            replayed.orders.insert(*order, None);
        }
        for (blocks, kept) in self.blocks.iter().zip(kept) {
            for fact in blocks[..*kept].iter().flat_map(|block| &block.facts) {
                replayed.records += 1;
                match *fact {
                    Fact::Stocked { sku, delta } => {
                        replayed.levels.entry(sku).or_default().stocked += delta;
                    }
                    Fact::Placed { order, sku, units } => {
                        replayed.orders.insert(order, Some((OrderState::Held, sku, units)));
                    }
                    Fact::Moved { order, to } => {
                        if let Some(Some(placed)) = replayed.orders.get_mut(&order) {
                            placed.0 = to;
                        }
                    }
                }
            }
        }
        for (state, sku, units) in replayed.orders.values().flatten() {
            let levels = replayed.levels.entry(*sku).or_default();
            match state {
                OrderState::Held => levels.held += i64::from(*units),
                OrderState::Confirmed | OrderState::Fulfilled => levels.sold += i64::from(*units),
                _ => {}
            }
        }
        replayed
    }

    pub(crate) fn all(&self) -> Vec<usize> {
        self.blocks.iter().map(Vec::len).collect()
    }

    /// Returns how many blocks of a shard are named by a block or a manifest that is still there.
    pub(crate) fn named(&self, shard: usize) -> usize {
        let others = (0..SHARDS).filter(|other| *other != shard);
        let by_others = others.filter_map(|other| self.blocks[other].last());
        by_others
            .map(|block| block.names[shard])
            .chain([self.manifest_names[shard]])
            .max()
            .unwrap_or(0)
    }
}

/// The name of a segment that was prepared under another name.
fn segment_path(path: &str) -> String {
    match path.split_once("prepare-") {
        Some((folder, ordinal)) => format!("{folder}{ordinal}.segment"),
        None => path.to_owned(),
    }
}

/// The figures that an engine must show.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    pub(crate) records: u64,
    /// `None` if the SKU was never made known.
    pub(crate) orders: BTreeMap<OrderId, Option<(OrderState, u64, u32)>>,
    pub(crate) levels: BTreeMap<u64, Sums>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) stocked: i64,
    pub(crate) held: i64,
    pub(crate) sold: i64,
}

impl Replayed {
    /// Whether an engine shows exactly these figures.
    pub(crate) fn check(&self, engine: &SteppedEngine) -> Result<(), String> {
        if engine.recovery().records != self.records {
            return Err(format!("{} records, not {}", engine.recovery().records, self.records));
        }
        for (order, expected) in &self.orders {
            let found = engine.order(*order).ok().map(|viewed| {
                let line = viewed.lines[0];
                assert!(viewed.durable, "what was replayed is durable");
                (viewed.state, line.sku.get(), line.quantity.get())
            });
            if found != *expected {
                return Err(format!("{order} is {found:?}, not {expected:?}"));
            }
        }
        for (sku, sums) in &self.levels {
            let levels = engine.levels(*sku).ok_or(format!("SKU {sku} is not known"))?;
            let found = Sums { stocked: levels.stocked, held: levels.held, sold: levels.sold };
            if found != *sums || !levels.add_up() || levels.returning != 0 {
                return Err(format!("SKU {sku}: {levels:?}, not {sums:?}"));
            }
        }
        Ok(())
    }
}
