//! What is known about room on the disk, for admission to look at.

use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Log bytes that an order's way to its end may take: a confirm, then a fulfil or a cancel.
pub(crate) const ENDING_BYTES: u64 = 2 * super::record::ORDER_BYTES as u64;
/// A block that carries one ending alone.
const LONE_BLOCK_BYTES: u64 = crate::storage::ALIGN_BYTES as u64;
/// Of so many orders, each ending may come alone; beyond that they must share blocks.
const LONE_ORDERS: u64 = 8192;

/// What a shard keeps ahead of its active segment for the endings of so many live orders.
pub(crate) fn kept_bytes(live_orders: u64, segment_bytes: u64) -> u64 {
    let lone = live_orders.min(LONE_ORDERS) * 2 * LONE_BLOCK_BYTES;
    segment_bytes.max(lone + LONE_BLOCK_BYTES) + live_orders * ENDING_BYTES
}

/// Whether a shard may take new orders as far as the disk goes.
///
/// A shard keeps spare segments of [`kept_bytes`] ahead of its active one. When it cannot get another, new orders are refused and what
/// is left is for endings.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// Set and cleared by whoever prepares segments.
    scarce: AtomicBool,
    /// What could not be had.
    segment_bytes: AtomicU64,
}

impl Space {
    pub(crate) fn set_scarce(&self, scarce: bool, segment_bytes: u64) {
        self.segment_bytes.store(segment_bytes, Ordering::Relaxed);
        self.scarce.store(scarce, Ordering::Relaxed);
    }

    /// The size of the segment that the disk has no room for.
    pub(crate) fn scarce(&self) -> Option<u64> {
        self.scarce.load(Ordering::Relaxed).then(|| self.segment_bytes.load(Ordering::Relaxed))
    }
}
