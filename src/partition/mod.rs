//! A partition: everything about a set of buyers (steps 3 to 5 of the request path): their orders,
//! request keys, limits and deadlines, under one lock.
//!
//! Two partitions are never locked at once. All that an order needs but stock is in its buyer's
//! partition, and all its records are in one lane: a prefix of the log is always consistent for it.

mod key_index;
mod limits;
mod orders;
mod timers;

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::ids::{BuyerId, RequestKey};
use crate::log::Lane;
use crate::order::{OrderState, mix};
use crate::prefetch;
use crate::sync::{AtomicU64, Mutex, Ordering};

pub(crate) use key_index::{KeyIndex, KeyIndexWriter};
pub(crate) use limits::BuyerCounts;
pub(crate) use orders::{Extra, NewOrder, OrderTable, SkuUnits, Slot};
pub(crate) use timers::Timers;

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) lane: Arc<Lane>,
    /// The keys that have orders, readable without the lock (rule R1).
    pub(crate) keys: Arc<KeyIndex>,
    /// A lower bound of the earliest deadline, so that the timekeeper passes by without locking.
    /// Written under the lock.
    next_due_ms: AtomicU64,
    /// On lines of its own: who only reads the fields above does not wait for who has the lock.
    pub(crate) state: CachePadded<Mutex<PartitionState>>,
}

/// What every order writes comes first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct PartitionState {
    /// Orders that ended.
    pub(crate) ended: u64,
    pub(crate) orders: OrderTable,
    pub(crate) keys: KeyIndexWriter,
    pub(crate) timers: Timers,
    pub(crate) limits: BuyerCounts,
    pub(crate) counts: Counts,
}

/// What happened in a partition since the open.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Orders that were there when the engine was opened.
    pub(crate) replayed_at_open: u64,
    pub(crate) replayed: u64,
    pub(crate) keys_reused: u64,
    pub(crate) sold_out: u64,
    pub(crate) over_limit: u64,
    pub(crate) confirmed: u64,
    pub(crate) fulfilled: u64,
    pub(crate) cancelled: u64,
    pub(crate) expired: u64,
}

impl Partition {
    pub(crate) fn new(lane: Arc<Lane>, state: PartitionState) -> Self {
        Self {
            lane,
            keys: state.keys.shared().clone(),
            next_due_ms: AtomicU64::new(state.timers.next_due_ms()),
            state: CachePadded::new(Mutex::new(state)),
        }
    }

    /// Has everything loaded that an order with this key will touch whatever becomes of it. Lines that
    /// another caller's processor had last take 100 ns each, one after the other; asked for together,
    /// they come together.
    pub(crate) fn prefetch(&self, key_hash: u64) {
        prefetch::lines_for_write(&self.state, 4);
        self.lane.prefetch();
        self.keys.prefetch(key_hash);
    }

    pub(crate) fn next_due_ms(&self) -> u64 {
        self.next_due_ms.load(Ordering::Acquire)
    }

    /// A hold was made; the caller has the lock.
    pub(crate) fn lower_next_due(&self, deadline_ms: u64) {
        if deadline_ms < self.next_due_ms.load(Ordering::Relaxed) {
            self.next_due_ms.store(deadline_ms, Ordering::Release);
        }
    }

    /// Deadlines were dealt with; the caller has the lock.
    pub(crate) fn set_next_due(&self, next_due_ms: u64) {
        self.next_due_ms.store(next_due_ms, Ordering::Release);
    }
}

impl PartitionState {
    /// An empty partition with memory for so many orders, touched; `keys` is empty, and as large.
    pub(crate) fn new(partition: usize, reserved: usize, keys: KeyIndexWriter) -> Self {
        let mut orders = OrderTable::new(partition, 0);
        orders.set_aside(reserved);
        Self {
            orders,
            keys,
            limits: BuyerCounts::default(),
            timers: Timers::new(0),
            counts: Counts::default(),
            ended: 0,
        }
    }

    /// Orders that can still end.
    pub(crate) fn live(&self) -> u64 {
        self.orders.len() - self.ended
    }

    /// Counts from now on what each buyer has of a SKU, the orders that are there included.
    pub(crate) fn count_buyers_of(&mut self, sku: u32) {
        if !self.limits.start(sku) {
            return;
        }
        for (_, slot) in self.orders.iter() {
            if matches!(slot.state(), OrderState::Cancelled | OrderState::Expired) {
                continue;
            }
            for line in slot.lines().filter(|line| line.sku == sku) {
                self.limits.add(slot.buyer(), sku, line.units);
            }
        }
    }

    /// After replay: every held order has a deadline ahead, or behind.
    pub(crate) fn start_timers(&mut self, now_ms: u64) {
        self.timers = Timers::new(now_ms);
        for (handle, slot) in self.orders.iter() {
            if slot.state() == OrderState::Held {
                self.timers.insert(slot.deadline_ms, handle);
            }
        }
    }
}

/// Hashes request keys for the index in memory; keyed anew in every process, since buyers choose
/// their keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyHasher(ahash::RandomState);

impl KeyHasher {
    pub(crate) fn hash(&self, buyer: BuyerId, key: RequestKey) -> u64 {
        let words = (
            u128::from_le_bytes(buyer.to_bytes()),
            u128::from_le_bytes(key.to_bytes()),
            key.kind() as u8,
        );
        self.0.hash_one(words)
    }
}

/// A partition's share of the orders: a quarter more than its part, since buyers spread unevenly.
pub(crate) fn share(orders_max: u64, partitions: u64) -> u64 {
    let part = orders_max.div_ceil(partitions);
    if partitions == 1 { part } else { part + part.div_ceil(4) }
}

/// The partition of a buyer, of `partitions`, a power of two. Fixed for ever: the log relies on it.
///
/// Both halves of the id, little-endian, through MurmurHash3's finaliser; the high bits count.
pub(crate) fn partition_of(buyer: BuyerId, partitions: usize) -> usize {
    let bytes = buyer.to_bytes();
    let half = |at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("half of 16 bytes is eight"))
    };
    let hash = mix(half(0) ^ mix(half(8)));
    ((u128::from(hash) * partitions as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_of_a_buyer_never_changes() {
        let of = |buyer| partition_of(buyer, 64);
        assert_eq!(of(BuyerId::from_u64(1)), 45);
        assert_eq!(of(BuyerId::from_u64(1_000_003)), 57);
        assert_eq!(of(BuyerId::from_text("alice")), 26);
    }

    #[test]
    fn consecutive_buyers_spread_evenly() {
        let mut buyers = [0_u32; 64];
        (0..64_000).for_each(|buyer| buyers[partition_of(BuyerId::from_u64(buyer), 64)] += 1);
        assert!(buyers.iter().all(|count| (800..1200).contains(count)), "{buyers:?}");
    }
}
