//! What a verb is made of, part by part, for benchmarks. None of it is needed to test a host.

use std::sync::Arc;

use crate::ids::{BuyerId, OrderId, Quantity, RequestKey, SkuId};
use crate::log::{Lane, Latch, LoggedLines, LoggedParts, PlaceRecord, Shard};
use crate::order::{Line, Policy};
use crate::partition::{KeyIndexWriter, NewOrder, OrderTable, SkuUnits, Slot, Timers};
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

/// The deadlines of one partition by themselves.
#[derive(Debug)]
pub struct TimerWheel(Timers);

impl TimerWheel {
    /// A wheel that stands at 0 ms, with touched memory for `entries` entries.
    #[must_use]
    pub fn with_room(entries: usize) -> Self {
        let mut timers = Timers::new(0);
        timers.set_aside(entries);
        Self(timers)
    }

    /// Adds an entry.
    pub fn insert(&mut self, deadline_ms: u64, handle: u32) {
        self.0.insert(deadline_ms, handle);
    }

    /// Turns to this time, and returns how many entries fired. `deadline_of` returns the deadline of a handle.
    pub fn advance(&mut self, now_ms: u64, deadline_of: impl Fn(u32) -> u64) -> usize {
        let mut fired = 0;
        let deadline_of = |handle| Some(deadline_of(handle));
        while self.0.advance_some(now_ms, usize::MAX, deadline_of, |_| fired += 1) {}
        fired
    }
}

/// The orders of one partition by themselves.
#[derive(Debug)]
pub struct OrderPages(OrderTable);

impl OrderPages {
    /// A table without orders, whose memory is not set aside.
    #[must_use]
    pub fn new() -> Self {
        Self(OrderTable::new(0, 0))
    }

    /// Adds the next order, of one line. Returns its handle.
    pub fn insert(&mut self, buyer: u64) -> Option<u32> {
        self.0.reserve()?;
        let new = NewOrder {
            buyer: BuyerId::from_u64(buyer),
            key: RequestKey::new(1),
            hold_ms: 1,
            default_hold: true,
            policy: Policy::AllOrNone,
            deadline_ms: 1,
            lines_digest: 0,
            first: SkuUnits { sku: 0, units: 1 },
            extra: None,
        };
        self.0.insert(new, 1)
    }

    /// The deadline of the order at a handle.
    #[must_use]
    pub fn deadline_ms(&self, handle: u32) -> Option<u64> {
        self.0.get(handle).map(Slot::deadline_ms)
    }
}

impl Default for OrderPages {
    fn default() -> Self {
        Self::new()
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
