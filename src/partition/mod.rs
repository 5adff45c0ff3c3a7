//! A partition: everything about a set of buyers (steps 3 to 5 of the request path): their orders,
//! request keys, limits and deadlines, under one lock.
//!
//! Two partitions are never locked at once. All that an order needs but stock is in its buyer's
//! partition, and all its records are in one lane: a prefix of the log is always consistent for it.

pub(crate) mod costs;
mod finished;
mod key_index;
mod limits;
mod orders;
#[cfg(test)]
pub(crate) mod random;
mod refusals;
mod slot;
mod timers;
mod watchers;

use std::collections::HashSet;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::bounds::Keep;
use crate::ids::{BuyerId, RequestKey};
use crate::log::Lane;
use crate::mutants::{self, Mutant};
use crate::order::Refused;
use crate::prefetch;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

pub(crate) use finished::Finished;
pub(crate) use key_index::{KeyIndex, KeyIndexWriter};
pub(crate) use limits::{BuyerCounts, BuyerUnits, Ending, MAPS, SaleCounted, map_of};
pub(crate) use orders::{OrderTable, SPARSE_ORDERS, first_sequence, page_number};
pub(crate) use refusals::{Entry, Refusals};
pub(crate) use slot::{Extra, NewOrder, SkuUnits, Slot, Waited};
pub(crate) use timers::Timers;
pub(crate) use watchers::Watchers;

/// Timers that are looked at under one lock when many of them are of orders that ended.
const TIMERS_SWEPT: usize = 256;

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) lane: Arc<Lane>,
    /// The keys that have orders, readable without the lock (rule R1).
    pub(crate) keys: Arc<KeyIndex>,
    /// A lower bound of when something is due, a deadline or the end of a retention, so that the
    /// timekeeper passes by without locking. Written under the lock.
    next_due_ms: AtomicU64,
    /// As of which number of lifted halts the holds in `halted` were looked at; [`NOBODY_SLEEPS`] if there
    /// are none. Written under the lock.
    slept_at: AtomicU64,
    /// On lines of its own: a thread that only reads the fields above does not wait for the one that has the lock.
    pub(crate) state: CachePadded<Mutex<PartitionState>>,
}

const NOBODY_SLEEPS: u64 = u64::MAX;

/// Holds that are over and that a halt keeps; no timer has them. Some may be gone since.
#[derive(Debug, Default)]
pub(crate) struct Halted {
    asleep: Vec<u32>,
    /// To be looked at again: a halt was lifted, perhaps theirs.
    to_wake: Vec<u32>,
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
    pub(crate) finished: Finished,
    pub(crate) limits: BuyerCounts,
    /// When the last order finished that has left memory: a dated key that is no younger may be of
    /// such an order.
    pub(crate) retired_to_ms: u64,
    pub(crate) counts: Counts,
    pub(crate) halted: Halted,
    pub(crate) watchers: Watchers,
    /// If refusals are remembered.
    pub(crate) refusals: Option<Box<Refusals>>,
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
    pub(crate) promoted: u64,
    pub(crate) retired: u64,
    /// Verbs that found the partition locked.
    pub(crate) lock_waits: u64,
}

impl Partition {
    pub(crate) fn new(lane: Arc<Lane>, state: PartitionState) -> Self {
        Self {
            lane,
            keys: state.keys.shared().clone(),
            next_due_ms: AtomicU64::new(state.next_due_ms()),
            slept_at: AtomicU64::new(NOBODY_SLEEPS),
            state: CachePadded::new(Mutex::new(state)),
        }
    }

    /// Has everything loaded that an order will touch whatever becomes of it. Lines that another caller's
    /// processor had last take 100 ns each, one after the other; asked for together, they come together.
    pub(crate) fn prefetch(&self) {
        prefetch::lines_for_write(&self.state, 4);
        self.lane.prefetch();
    }

    /// Locks the partition for a verb; one that has to wait is counted once it has the lock.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, PartitionState> {
        self.state.try_lock().unwrap_or_else(|| self.wait_for_lock())
    }

    #[cold]
    #[inline(never)]
    fn wait_for_lock(&self) -> MutexGuard<'_, PartitionState> {
        let mut state = self.state.lock();
        state.counts.lock_waits += 1;
        state
    }

    pub(crate) fn next_due_ms(&self) -> u64 {
        self.next_due_ms.load(Ordering::Acquire)
    }

    /// Something will be due then; the caller has the lock.
    pub(crate) fn lower_next_due(&self, due_ms: u64) {
        if due_ms < self.next_due_ms.load(Ordering::Relaxed) {
            self.next_due_ms.store(due_ms, Ordering::Release);
        }
    }

    /// A hold is over and a halt keeps it, as of this number of lifts; the caller has the lock.
    pub(crate) fn let_sleep(&self, state: &mut PartitionState, handle: u32, lifts: u64) {
        state.halted.asleep.push(handle);
        if lifts < self.slept_at.load(Ordering::Relaxed) {
            self.slept_at.store(lifts, Ordering::Release);
        }
    }

    /// Whether a halt was lifted since holds were found to be kept by one.
    pub(crate) fn is_to_wake(&self, lifts: u64) -> bool {
        self.slept_at.load(Ordering::Acquire) < lifts
    }

    /// Sets the timers of some sleeping holds again, if a halt was lifted since; returns whether there are more. The
    /// caller holds the lock.
    pub(crate) fn wake_some(
        &self,
        state: &mut PartitionState,
        lifts: u64,
        holds_max: usize,
    ) -> bool {
        let halted = &mut state.halted;
        if halted.to_wake.is_empty() && self.is_to_wake(lifts) {
            self.slept_at.store(NOBODY_SLEEPS, Ordering::Release);
            halted.to_wake = std::mem::take(&mut halted.asleep);
        }
        let left = halted.to_wake.len().saturating_sub(holds_max);
        for handle in halted.to_wake.drain(left..) {
            // Otherwise it is gone, and its timer with it.
            if let Some(deadline_ms) = state.orders.timer_deadline(handle) {
                state.timers.insert(deadline_ms, handle);
            }
        }
        left > 0
    }

    /// What was due was dealt with; the caller has the lock.
    pub(crate) fn set_next_due(&self, state: &PartitionState) {
        self.next_due_ms.store(state.next_due_ms(), Ordering::Release);
    }
}

impl PartitionState {
    /// An empty partition with touched memory for `reserved` orders; `keys` is empty, and as large. It remembers no
    /// refusals.
    pub(crate) fn new(partition: usize, reserved: usize, keys: KeyIndexWriter, keep: Keep) -> Self {
        let mut orders = OrderTable::new(partition, 0);
        orders.set_aside(reserved);
        let mut timers = Timers::new(0);
        timers.set_aside(reserved);
        Self {
            orders,
            keys,
            limits: BuyerCounts::default(),
            timers,
            finished: Finished::new(keep),
            retired_to_ms: 0,
            counts: Counts::default(),
            halted: Halted::default(),
            watchers: Watchers::default(),
            refusals: None,
            ended: 0,
        }
    }

    /// Orders that can still end.
    pub(crate) fn live(&self) -> u64 {
        self.orders.len() - self.ended
    }

    fn next_due_ms(&self) -> u64 {
        let to_tidy = self.orders.has_sparse_page() || self.timers.is_sweeping();
        let to_wake = !self.halted.to_wake.is_empty();
        match self.limits.is_to_clear() || to_tidy || to_wake {
            true => 0,
            false => {
                let refusals = self.refusals.as_ref().map_or(u64::MAX, |it| it.next_due_ms());
                self.timers.next_due_ms().min(self.finished.next_due_ms()).min(refusals)
            }
        }
    }

    /// Notes that the order at a handle came into its state. Returns when the order leaves memory, if it is finished.
    pub(crate) fn note_change(&mut self, handle: u32) -> Option<u64> {
        let slot = self.orders.get(handle)?;
        self.finished.note(slot.state(), slot.changed_ms(), handle)
    }

    /// Takes an order out of memory, and its key; returns it.
    pub(crate) fn retire(&mut self, handle: u32, key_hash: u64) -> Option<Slot> {
        // The key first: its index leads only to orders that are there.
        self.keys.remove(key_hash, handle);
        let slot = self.orders.remove(handle)?;
        self.retired_to_ms = self.retired_to_ms.max(slot.changed_ms());
        Some(slot)
    }

    /// Moves at most `count_max` orders that outlive their page, and drops some timers of orders that ended. Returns
    /// whether there is more to do.
    pub(crate) fn tidy(&mut self, orders_max: usize, hasher: &KeyHasher) -> bool {
        let keep = self.finished.keep();
        let is_live = |slot: &Slot| keep.of(slot.state()).is_none();
        for from in self.orders.orders_to_move(orders_max, is_live) {
            if self.keep(from, hasher).is_none() {
                break;
            }
        }
        if self.orders.has_stale_timers(self.timers.len()) {
            self.timers.start_sweep();
        }
        let orders = &mut self.orders;
        self.timers.sweep_some(TIMERS_SWEPT, |handle| orders.timer_deadline(handle));
        self.orders.has_sparse_page() || self.timers.is_sweeping()
    }

    /// Moves an order to a place for orders that outlive their page, and to a timer of its own. Returns its new
    /// handle; `None` when there are no more handles.
    fn keep(&mut self, from: u32, hasher: &KeyHasher) -> Option<u32> {
        let to = self.move_out(from, hasher)?;
        let slot = self.orders.get(to)?;
        if slot.state().has_deadline() {
            self.timers.insert(slot.deadline_ms(), to);
            self.orders.set_timed(to);
        }
        Some(to)
    }

    /// Moves an order out of its page, and leads its key there. Returns its new handle, which no timer has.
    fn move_out(&mut self, from: u32, hasher: &KeyHasher) -> Option<u32> {
        let to = self.orders.keep(from)?;
        let slot = self.orders.get(to)?;
        // In one store: a look without the lock finds the key at every moment (rule R1).
        self.keys.replace(hasher.hash(slot.buyer(), slot.key()), from, to);
        Some(to)
    }

    /// Moves all orders that outlive their page, before any timer runs: [`PartitionState::start`] sets their timers.
    /// So a log of orders that have left memory is replayed in the memory of those that stay.
    pub(crate) fn tidy_replayed(&mut self, hasher: &KeyHasher) {
        let keep = self.finished.keep();
        while self.orders.has_sparse_page() {
            let is_live = |slot: &Slot| keep.of(slot.state()).is_none();
            for from in self.orders.orders_to_move(SPARSE_ORDERS, is_live) {
                if let Some(slot) = self.orders.get_mut(from) {
                    slot.clear_timed();
                }
                let Some(to) = self.move_out(from, hasher) else { return };
                if self.orders.get(to).is_some_and(|slot| slot.state().has_deadline()) {
                    self.orders.set_timed(to);
                }
            }
        }
    }

    /// Holds an order that waited, from `now_ms` on. Returns its deadline. The timer of its patience turns to that
    /// when it moves or fires, unless that may be too late: then the order moves to another handle, for which there
    /// must be a [place](OrderTable::can_keep).
    pub(crate) fn promote(
        &mut self,
        handle: u32,
        lsn: u64,
        now_ms: u64,
        hasher: &KeyHasher,
    ) -> Option<u64> {
        let slot = self.orders.get(handle)?;
        let timer_ms = slot.deadline_ms();
        let deadline_ms = match mutants::is(Mutant::KeepsDeadlineOfPatience) {
            true => timer_ms,
            false => now_ms.saturating_add(u64::from(slot.hold_ms())),
        };
        self.orders.hold(handle, deadline_ms, lsn);
        if deadline_ms < timer_ms {
            self.keep(handle, hasher);
        }
        Some(deadline_ms)
    }

    /// Takes what is gone from the front of the queue of finished orders.
    pub(crate) fn forget_gone(&mut self) {
        let orders = &self.orders;
        self.finished.forget_front(|handle| orders.get(handle).is_none());
    }

    /// Forgets sales that ended before any order that is in memory was placed.
    pub(crate) fn forget_ended_sales(&mut self) {
        if self.limits.has_ended() {
            let oldest_sequence = self.orders.oldest_sequence();
            self.limits.forget_ended(oldest_sequence);
        }
    }

    /// How many entries it takes at most to count the buyers of a SKU that is not counted yet.
    pub(crate) fn buyers_to_count(&self, sku: u32) -> u64 {
        if self.limits.counts(sku) {
            return 0;
        }
        let has_it =
            |slot: &&Slot| slot.state().counts() && slot.lines().any(|line| line.sku == sku);
        let buyers = self.orders.iter().map(|(_, slot)| slot).filter(has_it).map(Slot::buyer);
        buyers.collect::<HashSet<_, ahash::RandomState>>().len() as u64
    }

    /// Counts from now on what each buyer has of a SKU, the orders of its sale that are in memory
    /// included; `false` when that is so already.
    pub(crate) fn count_buyers_of(&mut self, sku: u32) -> bool {
        self.count_buyers_as_of(sku, u64::MAX)
    }

    /// As it was when the record with this LSN was logged. An order may be ahead of that, if it is from
    /// a checkpoint; one that does not count any more did until its last record.
    pub(crate) fn count_buyers_as_of(&mut self, sku: u32, lsn: u64) -> bool {
        let Some(first_sequence) = self.limits.start(sku) else { return false };
        for (handle, slot) in self.orders.iter() {
            let counted = slot.state().counts() || slot.last_lsn() > lsn;
            if !counted || self.orders.sequence(handle) < first_sequence {
                continue;
            }
            for line in slot.lines().filter(|line| line.sku == sku) {
                self.limits.add(slot.buyer(), sku, line.units);
            }
        }
        true
    }

    /// One that was logged. An engine that remembers none now forgets it.
    pub(crate) fn restore_refusal(&mut self, refused: Refused, lsn: u64, hasher: &KeyHasher) {
        if let Some(refusals) = &mut self.refusals {
            let key_hash = hasher.hash(refused.buyer, refused.key);
            refusals.add(refused, lsn, key_hash);
        }
    }

    /// After replay, in one pass over the orders: every held one has a deadline ahead, or behind.
    pub(crate) fn start(&mut self, now_ms: u64, has_timers: bool) {
        self.counts.replayed_at_open = self.orders.len();
        self.ended = 0;
        self.timers.restart(now_ms);
        if let Some(refusals) = &mut self.refusals {
            refusals.forget_due(now_ms, usize::MAX);
        }
        for (handle, slot) in self.orders.iter() {
            match slot.state() {
                state if state.has_deadline() && has_timers => {
                    self.timers.insert(slot.deadline_ms(), handle);
                }
                state => self.ended += u64::from(state.is_final()),
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

#[cfg(all(test, loom))]
mod loom_tests;
