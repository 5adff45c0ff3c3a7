//! The part of a log shard that callers share with its writer: how to wake it, and which callers wait.
//!
//! Invariant: a caller registers before it looks at the durable mark, the latch and the writer's end a last time, and
//! the writer sets those before it looks for registered callers. So no caller sleeps through its answer.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::Waker;

use crossbeam_utils::CachePadded;

use crate::error::CommitError;
use crate::log::durable_mark::DurableMark;
use crate::log::format::{BlockMark, LogPosition};
use crate::log::latch::Latch;
use crate::log::space::Space;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, Unparker, fence};
use crate::wakes::wake_all;

#[derive(Debug)]
pub(crate) struct Shard {
    index: u16,
    latch: Arc<Latch>,
    /// Read by every order, and hardly ever written: on a line of its own.
    pub(crate) space: CachePadded<Space>,
    recycled: AtomicU64,
    recycled_early: AtomicU64,
    unneeded: AtomicU64,
    shortages: AtomicU64,
    /// Whether the segment that is written goes through the page cache.
    cached: AtomicBool,
    /// Something was refused because the disk is behind, and the writer has not caught up since. Only the status
    /// rests on it, so `Relaxed`.
    is_backlogged: AtomicBool,
    /// Whether the writer is about to sleep or sleeps. `SeqCst` against a lane's `dirty`: either the
    /// appender sees this set, or the writer sees the lane dirty.
    sleeping: AtomicBool,
    /// Whether the writer lets a block grow because no caller waits for it. `SeqCst` against `waiting`: either a
    /// caller that begins to wait sees this set, or the writer sees the caller wait.
    lingering: AtomicBool,
    unparker: Unparker,
    /// The writer has gone: what is not durable now never will be.
    gone: AtomicBool,
    /// How many callers wait; lets the writer skip the lock when none does.
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    last_ticket: u64,
    for_lsn: HashMap<Ticket, Waiter, TicketHasher>,
    for_room: HashMap<Ticket, Waker, TicketHasher>,
}

/// The number under which a caller waits at a shard.
pub(crate) type Ticket = NonZeroU64;

/// No stranger chooses tickets, so the hash needs no secret.
type TicketHasher = BuildHasherDefault<ahash::AHasher>;

impl Waiters {
    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket::new(self.last_ticket).expect("tickets count up from 1")
    }
}

#[derive(Debug)]
struct Waiter {
    mark: Arc<CachePadded<DurableMark>>,
    lsn: u64,
    waker: Waker,
}

impl Shard {
    pub(crate) fn new(
        index: u16,
        latch: Arc<Latch>,
        unparker: Unparker,
        segment_bytes: u64,
    ) -> Self {
        latch.add_writer(unparker.clone());
        Self {
            index,
            latch,
            space: CachePadded::new(Space::new(segment_bytes)),
            recycled: AtomicU64::new(0),
            recycled_early: AtomicU64::new(0),
            unneeded: AtomicU64::new(0),
            shortages: AtomicU64::new(0),
            cached: AtomicBool::new(false),
            is_backlogged: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            lingering: AtomicBool::new(false),
            unparker,
            gone: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::new(Waiters::default()),
        }
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn latch(&self) -> &Latch {
        &self.latch
    }

    /// A segment was recycled; `early`: though it was archived, for the disk was full.
    pub(crate) fn count_recycled(&self, early: bool) {
        self.recycled.fetch_add(1, Ordering::Relaxed);
        self.recycled_early.fetch_add(u64::from(early), Ordering::Relaxed);
    }

    /// A segment could not be had for now; it is tried again.
    pub(crate) fn count_shortage(&self) {
        self.shortages.fetch_add(1, Ordering::Relaxed);
    }

    /// Such attempts since the open.
    pub(crate) fn shortages(&self) -> u64 {
        self.shortages.load(Ordering::Relaxed)
    }

    pub(crate) fn set_cached(&self, cached: bool) {
        self.cached.store(cached, Ordering::Relaxed);
    }

    pub(crate) fn is_cached(&self) -> bool {
        self.cached.load(Ordering::Relaxed)
    }

    /// So many segments are there that no checkpoint needs.
    pub(crate) fn set_unneeded(&self, segments: u64) {
        self.unneeded.store(segments, Ordering::Relaxed);
    }

    /// Segments recycled since the open.
    pub(crate) fn recycled(&self) -> u64 {
        self.recycled.load(Ordering::Relaxed)
    }

    /// Those of them that were archived and gave way.
    pub(crate) fn recycled_early(&self) -> u64 {
        self.recycled_early.load(Ordering::Relaxed)
    }

    pub(crate) fn unneeded(&self) -> u64 {
        self.unneeded.load(Ordering::Relaxed)
    }

    /// Something was refused because the disk is behind.
    #[cold]
    pub(crate) fn note_backlogged(&self) {
        if !self.is_backlogged.swap(true, Ordering::Relaxed) {
            self.latch.bell().ring();
        }
    }

    pub(crate) fn is_backlogged(&self) -> bool {
        self.is_backlogged.load(Ordering::Relaxed)
    }

    /// Writer: every lane has ample room again.
    #[cold]
    pub(crate) fn note_caught_up(&self) {
        self.is_backlogged.store(false, Ordering::Relaxed);
        self.latch.bell().ring();
    }

    /// A lane became dirty: wakes the writer if it sleeps.
    pub(crate) fn notify(&self) {
        if self.sleeping.load(Ordering::SeqCst) {
            self.unparker.unpark();
        }
    }

    /// Wakes the writer whatever it does, so that it looks at its orders to stop.
    pub(crate) fn nudge(&self) {
        self.unparker.unpark();
    }

    /// Writer: parks unless `is_any_lane_dirty`, which is asked after the writer has said that it sleeps.
    pub(crate) fn sleep(&self, is_any_lane_dirty: impl FnOnce() -> bool, park: impl FnOnce()) {
        self.sleeping.store(true, Ordering::SeqCst);
        if !is_any_lane_dirty() {
            park();
        }
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Writer: parks while no caller is known to wait for the next block.
    pub(crate) fn linger(&self, park: impl FnOnce()) {
        self.lingering.store(true, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            park();
        }
        self.lingering.store(false, Ordering::Relaxed);
    }

    /// A caller waits: no more lingering.
    fn count_waiter(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.lingering.load(Ordering::SeqCst) && self.lingering.swap(false, Ordering::Relaxed) {
            self.unparker.unpark();
        }
    }

    /// The answer for a caller that waits for `lsn`, if there is one now.
    pub(crate) fn settled(&self, mark: &DurableMark, lsn: u64) -> Option<Result<(), CommitError>> {
        // Read first: a writer ends after its last block, and after it latched the log. (The latch alone
        // says nothing: the writer may still be inside its last write.)
        let gone = self.gone.load(Ordering::Acquire);
        if mark.is_durable(lsn) {
            return Some(Ok(()));
        }
        gone.then(|| Err(self.why_ended()))
    }

    /// The answer for callers that wait for a writer that has ended; asked after that was seen.
    pub(crate) fn why_ended(&self) -> CommitError {
        match self.latch.is_set() {
            true => CommitError::Unknown,
            false => CommitError::Closed,
        }
    }

    /// Registers or renews a waiter; returns its ticket, or the answer if there is one by now.
    ///
    /// A waker is a stranger's: it is cloned and dropped outside the lock, since it may own a commit
    /// that comes here when it dies.
    pub(crate) fn register(
        &self,
        ticket: Option<Ticket>,
        mark: &Arc<CachePadded<DurableMark>>,
        lsn: u64,
        waker: &Waker,
    ) -> Result<Ticket, Result<(), CommitError>> {
        if self.latch.is_in_forked_child() {
            return Err(Err(CommitError::Forked));
        }
        let waiter = Waiter { mark: mark.clone(), lsn, waker: waker.clone() };
        let mut waiters = self.waiters.lock();
        let ticket = ticket.unwrap_or_else(|| waiters.next_ticket());
        let replaced = waiters.for_lsn.insert(ticket, waiter);
        if replaced.is_none() {
            self.count_waiter();
        }
        let answer = self.settled(mark, lsn);
        let removed = answer.and_then(|_| waiters.for_lsn.remove(&ticket));
        if removed.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        drop(waiters);
        drop((replaced, removed));
        answer.map_or(Ok(ticket), Err)
    }

    /// The waiter went away.
    pub(crate) fn deregister(&self, ticket: Ticket) {
        let removed = self.waiters.lock().for_lsn.remove(&ticket);
        if removed.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Registers or renews a caller that waits for room in the backlog, and returns its ticket; the caller looks
    /// again afterwards.
    pub(crate) fn register_for_room(&self, ticket: Option<Ticket>, waker: &Waker) -> Ticket {
        let waker = waker.clone();
        let mut waiters = self.waiters.lock();
        let ticket = ticket.unwrap_or_else(|| waiters.next_ticket());
        let replaced = waiters.for_room.insert(ticket, waker);
        if replaced.is_none() {
            self.count_waiter();
        }
        drop(waiters);
        drop(replaced);
        ticket
    }

    /// A caller that waited for room went away.
    pub(crate) fn deregister_for_room(&self, ticket: Ticket) {
        let removed = self.waiters.lock().for_room.remove(&ticket);
        if removed.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Writer: moves the wakers of all callers that have their answer to `wakers`.
    pub(crate) fn collect_settled(&self, wakers: &mut Vec<Waker>) {
        // Against the fence in `count_waiter`: either this thread sees the waiter, or the waiter sees the marks that
        // were set before this call.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut waiters = self.waiters.lock();
        let before = wakers.len();
        wakers.extend(waiters.for_room.drain().map(|(_, waker)| waker));
        let settled = waiters
            .for_lsn
            .extract_if(|_, waiter| self.settled(&waiter.mark, waiter.lsn).is_some());
        wakers.extend(settled.map(|(_, waiter)| waiter.waker));
        self.waiting.fetch_sub(wakers.len() - before, Ordering::SeqCst);
    }

    #[cfg(all(test, loom))]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Writer: it ends; every caller that waits receives that.
    pub(crate) fn end(&self) {
        self.gone.store(true, Ordering::Release);
        let mut wakers = Vec::new();
        self.collect_settled(&mut wakers);
        self.latch.bell().ring();
        wake_all(&mut wakers);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// How far each shard is durable: what goes into the next block's vector. A shard's writer sets its entry before it
/// applies any effect of the block, and before it wakes any caller, so that a block that relies on this one names it
/// (rule R12).
#[derive(Debug)]
pub(crate) struct Marks {
    marks: Box<[Mutex<LogPosition>]>,
}

impl Marks {
    pub(crate) fn new(positions: impl IntoIterator<Item = LogPosition>) -> Self {
        Self { marks: positions.into_iter().map(Mutex::new).collect() }
    }

    pub(crate) fn set(&self, shard: u16, position: LogPosition) {
        *self.marks[usize::from(shard)].lock() = position;
    }

    /// Where each shard's log goes on, one after the other.
    pub(crate) fn positions(&self) -> Vec<LogPosition> {
        self.marks.iter().map(|mark| *mark.lock()).collect()
    }

    pub(crate) fn read_into(&self, vector: &mut Vec<BlockMark>) {
        vector.clear();
        vector.extend(self.marks.iter().map(|mark| mark.lock().mark));
    }
}
