//! What an order costs in memory, from the sizes of the tables that it is in.

use crate::partition::{finished, key_index, orders, refusals, slot, timers};

/// What an order takes in tables that were [set aside](crate::Options::orders_reserved): its slot, its key,
/// its timer.
pub(crate) const RESERVED_BYTES: u64 =
    (size_of::<slot::Slot>() + key_index::RESERVED_BYTES + timers::ENTRY_BYTES) as u64;

/// The same in tables that grow as orders come, at worst: just after the parts of the key index split.
pub(crate) const GROWN_BYTES: u64 =
    (size_of::<slot::Slot>() + key_index::GROWN_BYTES_MAX + timers::ENTRY_BYTES) as u64;

/// What a finished order takes besides, until it leaves.
pub(crate) const FINISHED_BYTES: u64 = finished::ENTRY_BYTES as u64;

/// What an order has besides that has several lines or a payload, without either.
pub(crate) const EXTRA_BYTES: usize = size_of::<slot::Extra>();

/// A line of those.
pub(crate) const LINE_BYTES: usize = size_of::<slot::SkuUnits>();

/// What a refusal takes that is remembered, at worst.
pub(crate) const REFUSAL_BYTES: u64 = refusals::ENTRY_BYTES as u64;

/// What a partition takes that remembers refusals, however many there are.
pub(crate) const REFUSALS_BYTES: u64 = refusals::FIXED_BYTES as u64;

/// What a partition takes however many orders it has: the page that fills, those kept for reuse, a timer
/// wheel whose slots may each have a chunk that is partly full, a segment of the key index.
pub(crate) const PARTITION_BYTES: u64 =
    (orders::FIXED_BYTES + timers::FIXED_BYTES + key_index::FIXED_BYTES) as u64;
