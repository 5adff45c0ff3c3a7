//! Expiry: holds and patience that are over end without a call.

use crate::engine::core::Core;
use crate::engine::place::gate;
use crate::engine::transition::{apply, is_due};
use crate::log::{LEAVE_BYTES, ORDER_BYTES};
use crate::order::{OrderState, Verb};
use crate::partition::{Partition, PartitionState, Slot};

/// How many deadlines are dealt with under one lock.
const EXPIRIES_A_LOCK: usize = 256;

/// Returns whether the hold or the patience of an order is over, and no halt keeps the order as it is.
pub(super) fn is_over(core: &Core, state: &PartitionState, handle: u32, now_ms: u64) -> bool {
    let is_halted = |slot: &Slot| gate::halt(core, slot).is_some();
    is_due(state, handle, now_ms) && !state.orders.get(handle).is_some_and(is_halted)
}

/// Bytes of the record by which an order's hold or patience ends.
pub(super) fn expiry_bytes(state: &PartitionState, handle: u32) -> usize {
    match state.orders.get(handle).map(Slot::state) {
        Some(OrderState::Waiting) => LEAVE_BYTES,
        _ => ORDER_BYTES,
    }
}

/// The timekeeper: logs the expiry of every hold that is due. Returns whether more are due already.
pub(super) fn expire_due(core: &Core) -> bool {
    let now_ms = core.time.now_ms();
    let mut more = false;
    for partition in &core.partitions {
        // In this order. A caller that finds a hold which is over and lets it sleep says so before it moves the due
        // time on ([`expire_some`]). So this thread either sees the earlier due time and waits for the lock, or sees
        // that a hold sleeps.
        if partition.next_due_ms() <= now_ms || partition.is_to_wake(core.switches.lifts()) {
            more |= expire_partition(core, partition, now_ms);
        }
    }
    more
}

fn expire_partition(core: &Core, partition: &Partition, now_ms: u64) -> bool {
    let mut state = partition.state.lock();
    if core.check_open().is_err() {
        return false;
    }
    let to_wake = partition.wake_some(&mut state, core.switches.lifts(), EXPIRIES_A_LOCK);
    let due = expire_some(core, partition, &mut state, now_ms);
    matches!(due, Due::Some { more: true }) || to_wake && !matches!(due, Due::Backlogged)
}

/// What was due when some of it was dealt with.
pub(super) enum Due {
    /// Nothing.
    None,
    /// Some holds, which expired, and perhaps more.
    Some { more: bool },
    /// The disk has fallen behind: holds that are over are not logged yet.
    Backlogged,
}

/// Logs the expiry of some holds of the partition that are due; the caller has its lock.
pub(super) fn expire_some(
    core: &Core,
    partition: &Partition,
    state: &mut PartitionState,
    now_ms: u64,
) -> Due {
    // Read before any switch: what is lifted after it was seen is seen by a later number.
    let lifts = core.switches.lifts();
    let PartitionState { timers, orders, .. } = &mut *state;
    let mut due = Vec::new();
    let deadline_of = |handle| orders.timer_deadline(handle);
    let more = timers.advance_some(now_ms, EXPIRIES_A_LOCK, deadline_of, |handle| due.push(handle));
    let (mut expired, mut backlogged) = (false, false);
    for handle in due {
        let slot = state.orders.get(handle).filter(|slot| slot.state().has_deadline());
        match slot.map(|slot| (slot.deadline_ms(), gate::halt(core, slot).is_some())) {
            None => state.orders.timer_gone(handle),
            // It waited, and is held for longer than it would have waited.
            Some((deadline_ms, _)) if deadline_ms > now_ms => {
                state.timers.insert(deadline_ms, handle);
            }
            Some((_, true)) => partition.let_sleep(state, handle, lifts),
            Some(_) if partition.lane.room_for_ending(expiry_bytes(state, handle)).is_ok() => {
                apply(core, partition, state, handle, Verb::Expire, now_ms);
                state.orders.timer_gone(handle);
                expired = true;
            }
            Some((deadline_ms, false)) => {
                // The disk has fallen behind; the hold is over all the same, and a later round logs it.
                state.timers.insert(deadline_ms, handle);
                backlogged = true;
            }
        }
    }
    partition.set_next_due(state);
    match (backlogged, expired || more) {
        (true, _) => Due::Backlogged,
        (false, true) => Due::Some { more },
        (false, false) => Due::None,
    }
}
