//! Retirement: finished orders leave memory when their retention is over, and refusals when they are not
//! remembered any more.
//!
//! It is logged like every change (rule R16): a record names the orders and says what they sold, so that every replay
//! removes the same orders at the same place and no key comes back. The timekeeper does it in small steps under the
//! partition's lock, with rests between them, and only while there is room that nothing else needs: an order that
//! stays longer does no harm.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::core::Core;
use crate::ids::RequestKey;
use crate::log::{LoggedLines, LoggedOrders, RetireRecord, retire_bytes};
use crate::mutants::{self, Mutant};
use crate::order::{Line, Refusal};
use crate::partition::{Partition, PartitionState, Slot};
use crate::sync::Ordering;

/// How many orders leave under one lock.
const RETIRED_A_LOCK: usize = 64;
/// How many orders that outlive their page move under one lock.
const MOVED_A_LOCK: usize = 32;
/// How many lines they may have before no further one leaves.
const LINES_A_LOCK: usize = 1024;
/// How many entries of the queue are looked at under one lock.
const ENTRIES_A_LOCK: usize = 256;
/// How many refusals are forgotten under one lock.
const REFUSALS_A_LOCK: usize = 256;

/// How many partitions are gone through before a rest.
const PARTITIONS_A_STEP: usize = 8;
/// After a step the timekeeper rests for this many times its length, unless orders are long overdue.
const REST_FACTOR: u32 = 3;
/// Deadlines are looked at in between.
const REST_MAX: Duration = Duration::from_millis(5);

/// Retirement beside the verbs. After a checkpoint, during which no order leaves memory, hundreds of thousands may be
/// due at once. Removing them in one go would keep a processor and every partition's lock from the callers.
#[derive(Debug, Default)]
pub(super) struct PacedRetirement {
    rests_until_ns: u64,
    /// Where the round over the partitions goes on.
    next: usize,
    /// Of this round: whether a partition has more that is due, and for how long something has been due.
    more: bool,
    lag_ms: u64,
}

impl PacedRetirement {
    /// Removes what is due in a few partitions, unless it rests. Returns after what rest there may be more to do.
    pub(super) fn step(&mut self, core: &Core) -> Option<Duration> {
        let began_ns = core.time.boot_ns();
        if began_ns < self.rests_until_ns {
            return Some(Duration::from_nanos(self.rests_until_ns - began_ns));
        }
        let is_round_over = self.go_on(core);
        let worked_ns = core.time.boot_ns().saturating_sub(began_ns);
        let rest = Duration::from_nanos(worked_ns) * self.rest_factor(core);
        let rest = rest.min(REST_MAX);
        self.rests_until_ns = began_ns + worked_ns + rest.as_nanos() as u64;
        if !is_round_over {
            return Some(rest);
        }
        let round = Self { rests_until_ns: self.rests_until_ns, ..Self::default() };
        std::mem::replace(self, round).more.then_some(rest)
    }

    /// Whether all partitions were gone through.
    fn go_on(&mut self, core: &Core) -> bool {
        let now_ms = core.time.now_ms() + 5 * u64::from(mutants::is(Mutant::EvictsTooEarly));
        let mut gone_through = 0;
        while self.next < core.partitions.len() && gone_through < PARTITIONS_A_STEP {
            let partition = &core.partitions[self.next];
            let due_ms = partition.next_due_ms();
            if due_ms <= now_ms {
                self.lag_ms = self.lag_ms.max(now_ms - due_ms);
                self.more |= retire_some(core, partition, now_ms);
                gone_through += 1;
            }
            self.next += 1;
        }
        self.next == core.partitions.len()
    }

    /// Less only when orders stay far longer than their retention, which costs memory.
    fn rest_factor(&self, core: &Core) -> u32 {
        let kept_ms = core.bounds.keep.shortest_ms();
        match self.lag_ms {
            lag if lag <= kept_ms / 2 => REST_FACTOR,
            lag if lag <= kept_ms => 1,
            _ => 0,
        }
    }
}

fn retire_some(core: &Core, partition: &Partition, now_ms: u64) -> bool {
    // Declared before the lock, so that carts and payloads are freed after it.
    let mut slots = Vec::new();
    let mut state = partition.state.lock();
    // A checkpoint holds the orders that were there when it was begun, none of them halfway gone. Asked
    // under the lock under which it begins with a partition.
    if core.check_open().is_err() || core.retirement_paused.load(Ordering::Relaxed) {
        return false;
    }
    let to_clear = state.limits.clear_some();
    let refusals = state.refusals.as_mut();
    let to_forget = refusals.is_some_and(|it| it.forget_due(now_ms, REFUSALS_A_LOCK));
    let more = match partition.lane.check_disk() {
        Ok(()) => retire_batch(core, partition, &mut state, now_ms, &mut slots),
        Err(_) => false,
    };
    if !slots.is_empty() {
        log(core, partition, &mut state, now_ms, &slots);
    }
    let to_move = state.tidy(MOVED_A_LOCK, &core.hasher);
    partition.set_next_due(&state);
    to_clear | to_forget | more | to_move
}

/// Takes orders that are due out of memory, as many as one record holds and there is room for; whether
/// more are due and might go.
fn retire_batch(
    core: &Core,
    partition: &Partition,
    state: &mut PartitionState,
    now_ms: u64,
    slots: &mut Vec<(crate::ids::OrderId, Slot)>,
) -> bool {
    let mut lines = 0;
    for _ in 0..ENTRIES_A_LOCK {
        let Some(handle) = state.finished.first_due(now_ms) else { return false };
        let Some(slot) = state.orders.get(handle).filter(|slot| is_due(state, slot, now_ms)) else {
            // The order went on since, and has another entry.
            state.finished.pop_due(now_ms);
            continue;
        };
        let its_lines = slot.lines().count();
        let bytes = retire_bytes(slots.len() + 1, lines + its_lines);
        if bytes > core.bounds.retire_bytes_max && slots.is_empty() {
            // It was placed under larger bounds; as a record it might fit no block. It stays.
            state.finished.pop_due(now_ms);
            continue;
        }
        if bytes > core.bounds.retire_bytes_max {
            return true;
        }
        if partition.lane.room_for_new(bytes).is_err() {
            return false;
        }
        state.finished.pop_due(now_ms);
        lines += its_lines;
        let (order, key_hash) =
            (state.orders.id(handle), core.hasher.hash(slot.buyer(), slot.key()));
        slots.extend(state.retire(handle, key_hash).map(|slot| (order, slot)));
        if slots.len() == RETIRED_A_LOCK || lines >= LINES_A_LOCK {
            break;
        }
    }
    state.finished.first_due(now_ms).is_some()
}

fn is_due(state: &PartitionState, slot: &Slot, now_ms: u64) -> bool {
    let keep_ms = state.finished.keep().of(slot.state());
    keep_ms.is_some_and(|keep_ms| slot.changed_ms() + keep_ms <= now_ms)
}

/// Logs that these orders have left memory, and what they sold.
fn log(
    core: &Core,
    partition: &Partition,
    state: &mut PartitionState,
    now_ms: u64,
    slots: &[(crate::ids::OrderId, Slot)],
) {
    let mut sold = BTreeMap::<u32, u32>::new();
    for (_, slot) in slots.iter().filter(|(_, slot)| slot.state().is_sold()) {
        slot.lines().for_each(|line| *sold.entry(line.sku).or_default() += line.units);
    }
    for (sku, units) in &sold {
        let (sku, units) = (core.skus.get(*sku), i64::from(*units));
        sku.retired.fetch_add(units, Ordering::Relaxed);
        if mutants::is(Mutant::ForgetsWhatRetiredOrdersSold) {
            sku.sold.fetch_sub(units, Ordering::Relaxed);
        }
    }
    let sums: Vec<_> = sold
        .iter()
        .map(|(sku, units)| Line { sku: core.skus.get(*sku).id, quantity: (*units).into() })
        .collect();
    let orders: Vec<_> = slots.iter().map(|(order, _)| *order).collect();
    let record = RetireRecord {
        time_low: now_ms as u32,
        finished_ms: slots.iter().map(|(_, slot)| slot.changed_ms()).max().unwrap_or(0),
        orders: LoggedOrders::Memory(&orders),
        sums: LoggedLines::Memory(&sums),
    };
    partition.lane.append(|bytes| record.write(bytes), std::iter::empty());
    state.counts.retired += slots.len() as u64;
    state.ended -= slots.iter().filter(|(_, slot)| slot.state().is_final()).count() as u64;
    state.forget_ended_sales();
    partition.lane.set_live_orders(state.live());
}

/// The refusal of a dated key that has no order: it may have had one that has left memory, or the engine could not
/// tell for a long time that the key is too old.
pub(super) fn key_out_of_date(
    core: &Core,
    state: &PartitionState,
    key: RequestKey,
    now_ms: u64,
) -> Option<Refusal> {
    let key_ms = key.unix_ms()?;
    let kept_from_ms = (now_ms + 1).saturating_sub(state.finished.keep().retention_ms);
    // A retention that was shorter before let go orders that are younger than the one of now keeps.
    let oldest_ms = kept_from_ms.max(state.retired_to_ms + 1);
    if key_ms < oldest_ms {
        return Some(Refusal::KeyTooOld { key_ms, oldest_ms });
    }
    // Engine time may be slower than the wall clock, and the client that made the key may have read the wall clock.
    let newest_ms = now_ms.max(core.time.wall_ms()).saturating_add(core.bounds.key_ahead_max_ms);
    (key_ms > newest_ms).then_some(Refusal::KeyTooNew { key_ms, newest_ms })
}
