//! What a verb is made of, part by part, for benchmarks. None of it is needed to test a host.

use std::sync::Arc;

use crate::ids::{BuyerId, OrderId, Quantity, RequestKey, SkuId};
use crate::log::{Lane, Latch, LoggedLines, LoggedParts, PlaceRecord, Shard};
use crate::order::{Line, Policy};
use crate::partition::KeyIndexWriter;
use crate::stock::{Counter, Take};
use crate::sync::Parker;

/// A SKU's stock word by itself.
#[derive(Debug, Default)]
pub struct StockWord(Counter);

impl StockWord {
    /// A word with `units` units.
    #[must_use]
    pub fn holding(units: u32) -> Self {
        let counter = Counter::default();
        counter.restore(i64::from(units));
        Self(counter)
    }

    /// Takes units, as an order of one line does; whether there were as many.
    pub fn take(&self, units: u32) -> bool {
        self.0.take(units) == Take::Taken
    }
}

/// The index of one partition's request keys by itself.
#[derive(Debug)]
pub struct KeyTable(KeyIndexWriter);

impl KeyTable {
    /// A table with touched room for `keys` keys.
    #[must_use]
    pub fn with_room(keys: usize) -> Self {
        Self(KeyIndexWriter::many(1, keys).remove(0))
    }

    /// Adds a pair of a key's hash and its order's handle that is not in.
    pub fn insert(&mut self, hash: u64, handle: u32) {
        self.0.insert(hash, handle);
    }

    /// Asks for the memory that a key's insert or look needs.
    pub fn prefetch(&self, hash: u64) {
        self.0.shared().prefetch(hash);
    }

    /// Whether the key is not in, for sure: the look of a refusal.
    #[must_use]
    pub fn is_surely_absent(&self, hash: u64) -> bool {
        self.0.shared().surely_absent(hash)
    }
}

/// One lane of the log by itself, without a writer.
#[derive(Debug)]
pub struct LogLane {
    lane: Lane,
    taken: crate::log::LaneBuffer,
    _parker: Parker,
}

impl LogLane {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let parker = Parker::new();
        let shard = Shard::new(0, Arc::new(Latch::default()), parker.unparker().clone(), 1 << 20);
        let lane = Lane::new(0, Arc::new(shard), u64::MAX >> 1, 0);
        Self { lane, taken: crate::log::LaneBuffer::new(0), _parker: parker }
    }

    /// Appends the record of an order of one line.
    pub fn append(&self, order: u64) {
        let record = PlaceRecord {
            order: OrderId::from_u64(order),
            buyer: BuyerId::from_u64(order),
            key: RequestKey::new(u128::from(order)),
            time_low: 0,
            hold_ms: 1,
            default_hold: true,
            policy: Policy::AllOrNone,
            lines: LoggedLines::One(Line { sku: SkuId::new(1), quantity: Quantity::new(1) }),
            parts: LoggedParts::None,
            joins: None,
            payload: &[],
        };
        self.lane.append(|bytes| record.write(bytes), std::iter::empty());
    }

    /// Takes what was appended, as the writer does; how many bytes it was.
    pub fn take(&mut self) -> usize {
        self.taken.clear();
        match self.lane.take(&mut self.taken) {
            true => self.taken.bytes.len(),
            false => 0,
        }
    }
}

impl Default for LogLane {
    fn default() -> Self {
        Self::new()
    }
}
