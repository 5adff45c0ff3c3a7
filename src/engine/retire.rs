//! Retirement: finished orders leave memory when their retention is over.
//!
//! It is logged like all that happens (rule R16): a record names the orders and says what they sold,
//! so that a replay lets the same orders go at the same place and no key comes back. The timekeeper
//! does it in small steps under the partition's lock, and only as long as there is room that nothing
//! else needs: an order that stays longer harms nobody.

use std::collections::BTreeMap;

use crate::engine::core::Core;
use crate::ids::RequestKey;
use crate::log::{LoggedLines, LoggedOrders, RetireRecord, retire_bytes};
use crate::order::{Line, Refusal};
use crate::partition::{Partition, PartitionState, Slot};
use crate::sync::Ordering;
use crate::wrong::{self, Wrong};

/// How many orders leave under one lock.
const RETIRED_A_LOCK: usize = 64;
/// How many orders that outlive their page move under one lock.
const MOVED_A_LOCK: usize = 32;
/// How many lines they may have before no further one leaves.
const LINES_A_LOCK: usize = 1024;
/// How many entries of the queue are looked at under one lock.
const ENTRIES_A_LOCK: usize = 256;

/// The timekeeper: lets go what is due. Gives whether more is due already.
pub(super) fn retire_due(core: &Core) -> bool {
    let now_ms = core.time.now_ms() + wrong::early_ms();
    let mut more = false;
    for partition in &core.partitions {
        if partition.next_due_ms() <= now_ms {
            more |= retire_some(core, partition, now_ms);
        }
    }
    more
}

fn retire_some(core: &Core, partition: &Partition, now_ms: u64) -> bool {
    // Declared before the lock, so that carts and payloads are given back after it.
    let mut slots = Vec::new();
    let mut state = partition.state.lock();
    // A checkpoint holds the orders that were there when it was begun, none of them halfway gone. Asked
    // under the lock under which it begins with a partition.
    if core.check_open().is_err() || core.retirement_paused.load(Ordering::Relaxed) {
        return false;
    }
    let to_clear = state.limits.clear_some();
    let more = match partition.lane.check_disk() {
        Ok(()) => retire_batch(core, partition, &mut state, now_ms, &mut slots),
        Err(_) => false,
    };
    if !slots.is_empty() {
        log(core, partition, &mut state, now_ms, &slots);
    }
    let to_move = state.tidy(MOVED_A_LOCK, &core.hasher);
    partition.set_next_due(&state);
    to_clear | more | to_move
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
        if wrong::is(Wrong::ForgetsWhatRetiredOrdersSold) {
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

/// The refusal of a dated key that has no order, when it may have had one that has left memory; or when it
/// could not be told for long that it is too old.
pub(super) fn key_out_of_date(
    core: &Core,
    state: &PartitionState,
    key: RequestKey,
) -> Option<Refusal> {
    let key_ms = key.unix_ms()?;
    let now_ms = core.time.now_ms();
    let kept_from_ms = (now_ms + 1).saturating_sub(state.finished.keep().retention_ms);
    // A retention that was shorter before let go orders that are younger than the one of now keeps.
    let oldest_ms = kept_from_ms.max(state.retired_to_ms + 1);
    if key_ms < oldest_ms {
        return Some(Refusal::KeyTooOld { key_ms, oldest_ms });
    }
    // Engine time may be behind the wall clock, and whoever made the key may know that one.
    let newest_ms = now_ms.max(core.time.wall_ms()).saturating_add(core.bounds.key_ahead_max_ms);
    (key_ms > newest_ms).then_some(Refusal::KeyTooNew { key_ms, newest_ms })
}
