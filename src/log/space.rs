//! What is known about room on the disk, for admission to look at.
//!
//! A shard keeps [`kept_bytes`] of spare segments for the endings of its live orders, and one segment
//! more. When the writer takes one, the keeper of segments makes the next. Once the disk has no room for
//! it, new orders go on until only what is kept is left.

use crate::error::Unavailable;
use crate::sync::{AtomicBool, Ordering};

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
#[derive(Debug)]
pub(crate) struct Space {
    /// Less is there than is to be kept, and the disk has no room for another segment. Set by the
    /// keeper of segments, and by the writer when it takes one. Nothing else is read on the strength
    /// of it, so `Relaxed`.
    is_full: AtomicBool,
    segment_bytes: u64,
}

impl Space {
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self { is_full: AtomicBool::new(false), segment_bytes }
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Whether there is room for something new, rather than an order's ending.
    pub(crate) fn check(&self) -> Result<(), Unavailable> {
        match self.is_full() {
            false => Ok(()),
            true => Err(Unavailable::DiskFull { segment_bytes: self.segment_bytes }),
        }
    }
}
