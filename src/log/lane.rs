//! A lane: the records of one partition (or of a shard's SKUs), numbered without a gap.
//!
//! Appending takes the lane's own lock and nothing shared between partitions. The design's draft
//! appended to one buffer a shard; there, two callers met at its lock on every order.
//!
//! Invariants:
//! - An appender holds the lock of the lane's partition (or SKU), so records that depend on each other are in order.
//!   The lane's lock is the last one taken.
//! - The durable mark rises only after the block with that record is durable, its effects are applied, and the
//!   shard's mark says so.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::error::Unavailable;
use crate::log::durable_mark::DurableMark;
use crate::log::effect::{Effect, EffectKind};
use crate::log::record::PLACE_BYTES;
use crate::log::shard::Shard;
use crate::prefetch;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

/// What an appender writes comes first and close together, with the count of the [`Arc`] before it:
/// it moves from one caller's processor to the next with every order, and each line of it costs some
/// 100 ns then.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Lane {
    buffer: Mutex<LaneBuffer>,
    /// Bytes ever appended. Written under `buffer`; read without it to bound the backlog, where a
    /// few records more or less do not matter.
    appended_bytes: AtomicU64,
    /// Orders of the partition that can still end. Written under the partition's lock; the keeper
    /// reserves disk space by it.
    live_orders: AtomicU64,
    /// Whether `buffer` may hold records that the writer has not taken. Cleared by the writer
    /// before it takes the buffer, set by an appender after it let the buffer go; `SeqCst`
    /// against [`Shard::notify`].
    dirty: AtomicBool,
    index: u32,
    shard: Arc<Shard>,
    /// How many bytes may wait for the disk.
    backlog_bytes_max: u64,
    /// Away from what appenders write.
    durable: Arc<CachePadded<DurableMark>>,
}

/// Records that wait to be taken by the writer. A lane has two of these for good, one that fills and one
/// that is written; they grow only when more waits than they were made for, and stay as large.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct LaneBuffer {
    pub(crate) first_lsn: u64,
    pub(crate) records: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) effects: Vec<Effect>,
}

/// What a buffer has room for from the start: this part of the lane's bound, and not more than a thousand
/// orders of one line.
const BUFFER_DIVISOR: u64 = 16;
const BUFFER_BYTES_MAX: u64 = 64 << 10;
const BUFFER_EFFECTS: usize = 256;

impl LaneBuffer {
    /// Empties it and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.records = 0;
        self.bytes.clear();
        self.effects.clear();
    }

    /// One with memory that has been touched: no appender pays for it.
    pub(crate) fn new(backlog_bytes_max: u64) -> Self {
        let wanted = (backlog_bytes_max / BUFFER_DIVISOR).min(BUFFER_BYTES_MAX);
        let mut bytes = vec![1; wanted as usize];
        bytes.clear();
        Self { first_lsn: 0, records: 0, bytes, effects: Vec::with_capacity(BUFFER_EFFECTS) }
    }
}

/// Confirm, cancel and expire may use this much more backlog than new orders, in parts of the bound.
const ENDING_HEADROOM_DIVISOR: u64 = 4;

impl Lane {
    /// A lane whose records up to `durable_lsn` are in the log.
    pub(crate) fn new(
        index: u32,
        shard: Arc<Shard>,
        backlog_bytes_max: u64,
        durable_lsn: u64,
    ) -> Self {
        let buffer =
            LaneBuffer { first_lsn: durable_lsn + 1, ..LaneBuffer::new(backlog_bytes_max) };
        Self {
            buffer: Mutex::new(buffer),
            appended_bytes: AtomicU64::new(0),
            live_orders: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            index,
            shard,
            backlog_bytes_max,
            durable: Arc::new(CachePadded::new(DurableMark::new(durable_lsn))),
        }
    }

    /// Has the part loaded that an appender writes.
    pub(crate) fn prefetch(&self) {
        prefetch::lines_for_write(self, 2);
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    /// Checks that a new order's record of `bytes` bytes may be appended (rule: it never blocks).
    pub(crate) fn room_for_new(&self, bytes: usize) -> Result<(), Unavailable> {
        self.room(bytes, self.backlog_bytes_max)
    }

    /// Whether a record that ends an order may be appended.
    pub(crate) fn room_for_ending(&self, bytes: usize) -> Result<(), Unavailable> {
        self.room(bytes, self.backlog_bytes_max + self.backlog_bytes_max / ENDING_HEADROOM_DIVISOR)
    }

    fn room(&self, bytes: usize, max: u64) -> Result<(), Unavailable> {
        let waiting = self.backlog_bytes();
        if waiting + bytes as u64 > max {
            self.shard.note_backlogged();
            return Err(Unavailable::Backlogged { bytes: waiting, max });
        }
        Ok(())
    }

    /// The disk is behind, for a request that must wait for it whatever its size.
    pub(crate) fn backlogged(&self) -> Unavailable {
        self.shard.note_backlogged();
        Unavailable::Backlogged { bytes: self.backlog_bytes(), max: self.backlog_bytes_max }
    }

    /// LSN of the record that was appended last; 0: none. For a caller that holds the lock under which records are
    /// appended, or that may miss those on their way.
    pub(crate) fn last_lsn(&self) -> u64 {
        let buffer = self.buffer.lock();
        buffer.first_lsn + u64::from(buffer.records) - 1
    }

    /// Whether new orders may come again after a [`Unavailable::Backlogged`]: half is free.
    pub(crate) fn has_ample_room(&self) -> bool {
        self.backlog_bytes() * 2 <= self.backlog_bytes_max
    }

    /// Whether the disk has room for something new, rather than an order's ending.
    pub(crate) fn check_disk(&self) -> Result<(), Unavailable> {
        self.shard.space.check()
    }

    pub(crate) fn backlog_bytes(&self) -> u64 {
        // In this order: a thread that sees bytes durable sees that they were appended.
        let durable = self.durable.bytes();
        let appended = self.appended_bytes.load(Ordering::Relaxed);
        debug_assert!(durable <= appended, "{durable} durable of {appended}");
        appended.saturating_sub(durable)
    }

    /// Appends one record and notes its effects; returns its LSN. The caller holds the partition's (or SKU's) lock
    /// and has asked for room.
    pub(crate) fn append(
        &self,
        write: impl FnOnce(&mut Vec<u8>),
        gives_back: impl Iterator<Item = (u32, EffectKind)>,
    ) -> u64 {
        let lsn = {
            let mut buffer = self.buffer.lock();
            let before = buffer.bytes.len();
            write(&mut buffer.bytes);
            let lsn = buffer.first_lsn + u64::from(buffer.records);
            buffer.records += 1;
            buffer.effects.extend(gives_back.map(|(sku, kind)| Effect { lsn, sku, kind }));
            let grown = (buffer.bytes.len() - before) as u64;
            let appended = self.appended_bytes.load(Ordering::Relaxed);
            self.appended_bytes.store(appended + grown, Ordering::Relaxed);
            // The writer had the rest of the buffer last.
            if let Some(next) = buffer.bytes.spare_capacity_mut().first_chunk::<PLACE_BYTES>() {
                prefetch::lines_for_write(next, 2);
            }
            lsn
        };
        // An appender that sees `true` here came before the writer took the buffer that holds its
        // record, or another will have woken the writer since.
        if !self.dirty.load(Ordering::Relaxed) {
            self.dirty.store(true, Ordering::SeqCst);
            self.shard.notify();
        }
        lsn
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::SeqCst)
    }

    /// A second buffer, for the writer.
    pub(crate) fn spare_buffer(&self) -> LaneBuffer {
        LaneBuffer::new(self.backlog_bytes_max)
    }

    /// Writer: exchanges what waits against an empty buffer. `false` when nothing waits.
    pub(crate) fn take(&self, empty: &mut LaneBuffer) -> bool {
        if !self.dirty.load(Ordering::Relaxed) {
            return false;
        }
        self.dirty.store(false, Ordering::SeqCst);
        let mut buffer = self.buffer.lock();
        if buffer.records == 0 {
            return false;
        }
        empty.first_lsn = buffer.first_lsn + u64::from(buffer.records);
        std::mem::swap(&mut *buffer, empty);
        true
    }

    /// Writer: everything up to `lsn` is durable and its effects are applied; these are `bytes` more bytes.
    pub(crate) fn set_durable(&self, lsn: u64, bytes: u64) {
        self.durable.advance(lsn, bytes);
    }

    pub(crate) fn is_durable(&self, lsn: u64) -> bool {
        self.durable.is_durable(lsn)
    }

    /// Returns the mark, which outlives the lane, for a caller that waits for one of its records.
    pub(crate) fn durable_mark(&self) -> &Arc<CachePadded<DurableMark>> {
        &self.durable
    }

    /// The caller holds the partition's lock.
    pub(crate) fn set_live_orders(&self, orders: u64) {
        self.live_orders.store(orders, Ordering::Relaxed);
    }

    pub(crate) fn live_orders(&self) -> u64 {
        self.live_orders.load(Ordering::Relaxed)
    }
}
