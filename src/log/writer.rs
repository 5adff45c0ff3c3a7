//! A shard's writer: gathers records into blocks, and makes them durable one at a time. Only then it moves the mark,
//! applies effects and wakes callers, in this order.
//!
//! A lone order is written at once, and records that arrive while a block is being synced share the next one. The
//! writer pauses for a moment only when the last block was a busy one and no caller waits for the next (callers that
//! keep many orders in flight look at the oldest late): small blocks would cost the callers' processors more than
//! they save. A caller that begins to wait ends the pause.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::clock::EngineTime;
use crate::log::activity::Activity;
use crate::log::effect::Effect;
use crate::log::format::{
    BlockMark, FLAG_WITNESS, Identity, LogPosition, SECTION_HEADER_BYTES, Seal, block_bytes,
    prefix_bytes, section_header,
};
use crate::log::lane::{Lane, LaneBuffer};
use crate::log::record::record_bytes;
use crate::log::segment::{Segment, SegmentError, Segments, is_full};
use crate::log::shard::{Marks, Shard};
use crate::mutants::{self, Mutant};
use crate::storage::{AlignedBuffer, StorageLock};
use crate::sync::{AtomicBool, AtomicU64, Ordering, Parker};
use crate::wakes::wake_all;

/// A shard that had nothing to append for so long writes a witness block (rule R13).
const WITNESS_AFTER: Duration = Duration::from_millis(5);
/// A block with this many records was a busy one.
const BUSY_RECORDS: u32 = 32;
/// How long a block may grow for which no caller waits.
const LINGER: Duration = Duration::from_micros(500);
/// How long a writer without room on the disk waits before it looks again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(50);

/// What a step of the writer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriterStep {
    /// A block is durable.
    Wrote,
    /// There is nothing to write.
    Idle,
    /// There is something to write, but no room on the disk.
    Full,
    /// The log is latched, and the writer has ended.
    Ended,
}

/// Applies the effect of a durable record. It never takes a partition's lock.
pub(crate) type GiveBack = Box<dyn FnMut(&Effect) + Send>;

/// Counts what a writer wrote.
#[derive(Debug, Default)]
pub(crate) struct WriterCounters {
    pub(crate) blocks: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) record_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
}

pub(crate) struct Writer {
    shard: Arc<Shard>,
    lanes: Vec<Arc<Lane>>,
    marks: Arc<Marks>,
    segments: Arc<Segments>,
    active: Option<(Segment, u64)>,
    identity: Identity,
    time: Arc<EngineTime>,
    give_back: GiveBack,
    counters: Arc<WriterCounters>,
    activity: Arc<Activity>,
    /// The block before the next one.
    previous: BlockMark,
    /// Taken from the lanes and not yet in a block; one of a lane at most.
    queue: VecDeque<Batch>,
    /// By lane; `None`: it is in the queue.
    spare_buffers: Vec<Option<LaneBuffer>>,
    block: AlignedBuffer,
    /// What `block` holds and is not durable yet.
    filled: Filled,
    /// The last block has records and nothing after it that witnesses it, since then.
    unwitnessed_since_ns: Option<u64>,
    /// How many records the last block had.
    last_records: u32,
    vector: Vec<BlockMark>,
    wakers: Vec<Waker>,
    block_bytes_max: usize,
    synced: bool,
    /// Why the last block could not be written yet.
    waits_for: Option<String>,
    /// Keeps other engines out of the folder for as long as this may write to it.
    _lock: Option<Arc<dyn StorageLock>>,
}

/// What was taken from a lane.
struct Batch {
    lane: usize,
    buffer: LaneBuffer,
    bytes_done: usize,
    effects_done: usize,
}

/// The content of the block that is being put together.
#[derive(Default)]
struct Filled {
    payload_bytes: usize,
    records: u32,
    parts: Vec<Part>,
    effects: Vec<Effect>,
}

/// One section.
struct Part {
    lane: usize,
    last_lsn: u64,
    bytes: u64,
}

/// What a writer starts from.
pub(crate) struct WriterStart {
    pub(crate) shard: Arc<Shard>,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) marks: Arc<Marks>,
    pub(crate) segments: Arc<Segments>,
    /// The segment and offset after the last block, where there is one.
    pub(crate) active: Option<(Segment, u64)>,
    pub(crate) identity: Identity,
    pub(crate) time: Arc<EngineTime>,
    pub(crate) give_back: GiveBack,
    pub(crate) counters: Arc<WriterCounters>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) previous: BlockMark,
    pub(crate) block_bytes_max: usize,
    pub(crate) lock: Option<Arc<dyn StorageLock>>,
}

impl Writer {
    pub(crate) fn new(start: WriterStart) -> Self {
        Self {
            block: AlignedBuffer::zeroed(start.block_bytes_max),
            synced: start.identity.synced,
            queue: VecDeque::with_capacity(start.lanes.len()),
            spare_buffers: start.lanes.iter().map(|lane| Some(lane.spare_buffer())).collect(),
            shard: start.shard,
            lanes: start.lanes,
            marks: start.marks,
            segments: start.segments,
            active: start.active,
            identity: start.identity,
            time: start.time,
            give_back: start.give_back,
            counters: start.counters,
            activity: start.activity,
            previous: start.previous,
            block_bytes_max: start.block_bytes_max,
            waits_for: None,
            _lock: start.lock,
            filled: Filled::default(),
            unwitnessed_since_ns: None,
            last_records: 0,
            vector: Vec::new(),
            wakers: Vec::new(),
        }
    }

    /// Runs until the log is latched, or until `stop` is set and all that was appended is durable.
    pub(crate) fn run(&mut self, parker: &Parker, stop: &AtomicBool) {
        loop {
            let stopping = stop.load(Ordering::Acquire);
            match self.step(stopping) {
                WriterStep::Wrote => self.linger(parker, stopping),
                WriterStep::Ended => return,
                WriterStep::Idle | WriterStep::Full if stopping => {
                    self.finish();
                    return;
                }
                WriterStep::Idle => self.sleep(parker),
                WriterStep::Full => {
                    // The keeper of segments looks for room.
                    self.activity.note();
                    parker.park_timeout(FULL_DISK_PAUSE);
                }
            }
        }
    }

    fn linger(&self, parker: &Parker, stopping: bool) {
        if self.last_records < BUSY_RECORDS || stopping || !self.queue.is_empty() {
            return;
        }
        self.shard.linger(|| parker.park_timeout(LINGER));
    }

    fn sleep(&self, parker: &Parker) {
        let is_dirty = || self.lanes.iter().any(|lane| lane.is_dirty());
        self.shard.sleep(is_dirty, || match self.unwitnessed_since_ns {
            Some(_) => parker.park_timeout(WITNESS_AFTER),
            None => parker.park(),
        });
    }

    /// The last step of a close: syncs what was only written, so that the manifest may name it. Records for which
    /// there was no room cannot be made durable; the callers that wait for them receive that.
    pub(crate) fn finish(&mut self) {
        if !self.filled.parts.is_empty() || !self.queue.is_empty() {
            let why = self.waits_for.take().unwrap_or_else(|| "no room on the disk".into());
            self.shard.latch().set_detail("write", format!("{why}, at close"));
        }
        if !self.synced && !self.shard.latch().is_set() {
            let last = self.active.as_ref().map_or(Ok(()), |(segment, _)| segment.file.sync());
            if let Err(error) = last {
                self.latch("sync at close", &error);
            } else if let Err(error) = self.segments.sync_left() {
                self.latch_segment(&error);
            }
        }
        self.shard.end();
    }

    /// Takes what waits into the next block, unless one is begun already. What is appended later is not in it.
    pub(crate) fn begin_block(&mut self) {
        if self.filled.parts.is_empty() && !self.shard.latch().is_set() {
            self.gather();
            self.fill();
        }
    }

    /// Writes one block if there is something to write. With `closing`, the last block is witnessed
    /// without delay.
    pub(crate) fn step(&mut self, closing: bool) -> WriterStep {
        if self.shard.latch().is_set() {
            self.shard.end();
            return WriterStep::Ended;
        }
        self.begin_block();
        let flags = if !self.filled.parts.is_empty() {
            0
        } else if self.wants_witness(closing) {
            FLAG_WITNESS
        } else {
            return WriterStep::Idle;
        };
        match self.write_block(flags) {
            WriterStep::Full if flags == FLAG_WITNESS => WriterStep::Idle,
            step => step,
        }
    }

    fn wants_witness(&self, closing: bool) -> bool {
        // What room is left is for endings.
        if self.shard.space.is_full() {
            return false;
        }
        self.unwitnessed_since_ns.is_some_and(|since_ns| {
            let waited_ns = self.time.boot_ns().saturating_sub(since_ns);
            closing || waited_ns >= WITNESS_AFTER.as_nanos() as u64
        })
    }

    /// Takes what waits in the lanes.
    fn gather(&mut self) {
        let lanes = self.lanes.iter().zip(&mut self.spare_buffers).enumerate();
        for (index, (lane, spare)) in lanes {
            // Of a lane whose last batch did not fit into the block the next one waits.
            let Some(mut buffer) = spare.take() else { continue };
            if lane.take(&mut buffer) {
                self.queue.push_back(Batch { lane: index, buffer, bytes_done: 0, effects_done: 0 });
            } else {
                *spare = Some(buffer);
            }
        }
    }

    /// Puts as much of the queue into the block as fits, cut between records.
    fn fill(&mut self) {
        let start = prefix_bytes(self.identity.shards);
        let payload_max = self.block_bytes_max - start;
        let mut used = 0;
        while let Some(batch) = self.queue.front_mut() {
            let rest = &batch.buffer.bytes[batch.bytes_done..];
            let room = payload_max.saturating_sub(used + SECTION_HEADER_BYTES);
            let (bytes, records) = whole_records(rest, batch.buffer.records, room);
            if records == 0 {
                break;
            }
            let first_lsn = batch.buffer.first_lsn;
            let last_lsn = first_lsn + u64::from(records) - 1;
            let at = start + used;
            let header = section_header(self.lanes[batch.lane].index(), first_lsn, records, bytes);
            self.block[at..at + SECTION_HEADER_BYTES].copy_from_slice(&header);
            let at = at + SECTION_HEADER_BYTES;
            self.block[at..at + bytes].copy_from_slice(&rest[..bytes]);
            used += SECTION_HEADER_BYTES + bytes;

            batch.bytes_done += bytes;
            batch.buffer.first_lsn += u64::from(records);
            batch.buffer.records -= records;
            let effects = &batch.buffer.effects[batch.effects_done..];
            let given_back = effects.partition_point(|effect| effect.lsn <= last_lsn);
            self.filled.effects.extend_from_slice(&effects[..given_back]);
            batch.effects_done += given_back;
            self.filled.records += records;
            self.filled.parts.push(Part { lane: batch.lane, last_lsn, bytes: bytes as u64 });
            if batch.buffer.records == 0
                && let Some(Batch { lane, mut buffer, .. }) = self.queue.pop_front()
            {
                buffer.clear();
                self.spare_buffers[lane] = Some(buffer);
            }
        }
        self.filled.payload_bytes = used;
    }

    fn write_block(&mut self, flags: u8) -> WriterStep {
        let needed = block_bytes(self.identity.shards, self.filled.payload_bytes) as u64;
        if self.active.as_ref().is_none_or(|(segment, at)| at + needed > segment.bytes)
            && let Err(step) = self.turn()
        {
            return step;
        }
        // From here on the block is closed to appends: now the vector may be read.
        self.marks.read_into(&mut self.vector);
        let seal = Seal {
            identity: &self.identity,
            shard: self.shard.index(),
            previous: &self.previous,
            time: self.time.mark(),
            flags,
            sections: self.filled.parts.len() as u32,
            records: self.filled.records,
            vector: &self.vector,
        };
        let (bytes, mark) = seal.close(&mut self.block, self.filled.payload_bytes);
        let mut written = self.write_at_end(bytes);
        // Nothing of this block is acknowledged, and all of it is written anew: a file system that writes
        // copies needs room for that, which the last spare has.
        if written.as_ref().is_err_and(is_full) && flags != FLAG_WITNESS {
            match self.segments.make_room(|| self.write_at_end(bytes)) {
                Ok(again) => written = again,
                Err(error) => return self.latch_segment(&error),
            }
        }
        match written {
            Ok(()) => {}
            Err(error) if is_full(&error) => return self.wait_for(&error),
            Err(error) => {
                return self.latch(if self.synced { "write or sync" } else { "write" }, &error);
            }
        }
        self.waits_for = None;
        self.note_access();
        let Some((segment, at)) = &mut self.active else { return WriterStep::Full };
        *at += bytes as u64;
        self.previous = mark;
        let position = LogPosition { mark, ordinal: segment.ordinal, offset: *at };
        self.publish(position, bytes);
        WriterStep::Wrote
    }

    fn write_at_end(&self, bytes: usize) -> std::io::Result<()> {
        let Some((segment, at)) = &self.active else {
            return Err(std::io::ErrorKind::StorageFull.into());
        };
        match self.synced && !mutants::is(Mutant::AcknowledgesBeforeSync) {
            true => segment.file.write_durable(&self.block[..bytes], *at),
            false => segment.file.write_at(&self.block[..bytes], *at),
        }
    }

    /// A file system may refuse direct access at the first write.
    fn note_access(&self) {
        let cached = self.active.as_ref().is_some_and(|(segment, _)| !segment.file.is_direct());
        if cached != self.shard.is_cached() {
            self.shard.set_cached(cached);
        }
    }

    /// Goes on in the next segment. Where there is none for now, nothing is lost: what waits is written
    /// later.
    fn turn(&mut self) -> Result<(), WriterStep> {
        let segment = match self.segments.take() {
            Ok(segment) => segment,
            Err(error) if error.is_full() || error.is_passing() => {
                return Err(self.wait_for(&error));
            }
            Err(error) => return Err(self.latch_segment(&error)),
        };
        let left = self.active.take().map(|(left, _)| left);
        self.segments.turn_to(&segment, left.filter(|_| !self.synced));
        self.active = Some((segment, 0));
        if self.segments.has_many_unsynced()
            && let Err(error) = self.segments.sync_left()
        {
            return Err(self.latch_segment(&error));
        }
        Ok(())
    }

    fn wait_for(&mut self, why: &dyn std::fmt::Display) -> WriterStep {
        self.waits_for = Some(why.to_string());
        WriterStep::Full
    }

    /// The block is durable. The mark comes first: an order that uses what the block permits must name this block in
    /// its own (rule R12). Waking comes last: a woken caller finds all of it done.
    fn publish(&mut self, position: LogPosition, bytes: usize) {
        self.marks.set(self.shard.index(), position);
        self.filled.effects.drain(..).for_each(|effect| (self.give_back)(&effect));
        let counters = &self.counters;
        counters.blocks.fetch_add(1, Ordering::Relaxed);
        counters.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        counters.records.fetch_add(u64::from(self.filled.records), Ordering::Relaxed);
        let has_records = self.filled.records > 0;
        for part in self.filled.parts.drain(..) {
            counters.record_bytes.fetch_add(part.bytes, Ordering::Relaxed);
            self.lanes[part.lane].set_durable(part.last_lsn, part.bytes);
        }
        self.last_records = std::mem::take(&mut self.filled.records);
        self.filled.payload_bytes = 0;
        self.unwitnessed_since_ns = has_records.then(|| self.time.boot_ns());
        if self.shard.is_backlogged() && self.lanes.iter().all(|lane| lane.has_ample_room()) {
            self.shard.note_caught_up();
        }
        if has_records {
            self.activity.note();
        }
        self.shard.collect_settled(&mut self.wakers);
        wake_all(&mut self.wakers);
    }

    fn latch_segment(&mut self, error: &SegmentError) -> WriterStep {
        self.shard.latch().set(error.operation, &error.path, &error.source);
        self.shard.end();
        WriterStep::Ended
    }

    fn latch(&mut self, operation: &'static str, error: &std::io::Error) -> WriterStep {
        let path = match &self.active {
            Some((segment, at)) => {
                format!("{} at byte {at}", self.segments.path(segment.ordinal))
            }
            None => self.segments.path(0),
        };
        self.shard.latch().set(operation, &path, error);
        self.shard.end();
        WriterStep::Ended
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("shard", &self.shard.index())
            .field("blocks", &self.previous.blocks)
            .finish_non_exhaustive()
    }
}

impl Drop for Writer {
    /// However the writer ends, no caller waits for it any more.
    fn drop(&mut self) {
        if !self.shard.has_ended() {
            if std::thread::panicking() {
                self.shard.latch().set_detail("writer", "its thread panicked".into());
            }
            self.shard.end();
        }
    }
}

/// How many bytes and records of `bytes` fit into `room`, whole records only.
fn whole_records(bytes: &[u8], records: u32, room: usize) -> (usize, u32) {
    if bytes.len() <= room {
        return (bytes.len(), records);
    }
    let (mut end, mut count) = (0, 0);
    loop {
        let next = record_bytes(&bytes[end..]);
        if next == 0 || end + next > room {
            return (end, count);
        }
        end += next;
        count += 1;
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
