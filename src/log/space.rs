//! What is known about room on the disk, for admission to look at.
//!
//! A shard keeps [`kept_bytes`] of spare segments for the endings of its live orders, and one segment
//! more. When the writer takes one, the keeper of segments makes the next. Once the disk has no room for
//! it, new orders go on until only what is kept is left.

use crate::error::Unavailable;
use crate::sync::{AtomicU32, Ordering};

/// Log bytes that an order's way to its end may take: a confirm, then a fulfil or a cancel.
pub(crate) const ENDING_BYTES: u64 = 2 * super::record::ORDER_BYTES as u64;
/// A block that carries one ending alone.
const LONE_BLOCK_BYTES: u64 = crate::storage::ALIGN_BYTES as u64;
/// Of this many orders, each ending may come alone; beyond that they must share blocks.
const LONE_ORDERS: u64 = 8192;

/// The bytes that a shard keeps ahead of its active segment for the endings of `live_orders` orders.
pub(crate) fn kept_bytes(live_orders: u64, segment_bytes: u64) -> u64 {
    let lone = live_orders.min(LONE_ORDERS) * 2 * LONE_BLOCK_BYTES;
    segment_bytes.max(lone + LONE_BLOCK_BYTES) + live_orders * ENDING_BYTES
}

/// Whether another segment can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Room {
    Enough,
    /// The disk has no room for it.
    DiskFull,
    /// The system is short of descriptors or memory.
    Short,
}

/// Whether a shard may take new orders as far as the disk goes.
#[derive(Debug)]
pub(crate) struct Space {
    /// A [`Room`]. Not enough: less room is there than must be kept and another segment cannot be had, or the next
    /// spare cannot be opened. Set by the keeper of segments, and by the writer when it takes one. Nothing else is
    /// read on the strength of it, so `Relaxed`.
    room: AtomicU32,
    segment_bytes: u64,
}

impl Space {
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self { room: AtomicU32::new(Room::Enough as u32), segment_bytes }
    }

    /// Returns whether it was otherwise before.
    pub(crate) fn set(&self, room: Room) -> bool {
        let room = room as u32;
        // Most of the time nothing changes, and a store would take the line from every order.
        self.room.load(Ordering::Relaxed) != room && self.room.swap(room, Ordering::Relaxed) != room
    }

    /// Whether new orders are refused, whatever is lacking.
    pub(crate) fn is_full(&self) -> bool {
        self.room.load(Ordering::Relaxed) != Room::Enough as u32
    }

    pub(crate) fn room(&self) -> Room {
        match self.room.load(Ordering::Relaxed) {
            room if room == Room::Enough as u32 => Room::Enough,
            room if room == Room::Short as u32 => Room::Short,
            _ => Room::DiskFull,
        }
    }

    /// Whether there is room for something new, rather than an order's ending.
    pub(crate) fn check(&self) -> Result<(), Unavailable> {
        let room = self.room.load(Ordering::Relaxed);
        if room == Room::Enough as u32 {
            return Ok(());
        }
        Err(match room == Room::Short as u32 {
            true => Unavailable::SystemShort { segment_bytes: self.segment_bytes },
            false => Unavailable::DiskFull { segment_bytes: self.segment_bytes },
        })
    }
}
