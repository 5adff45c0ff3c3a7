//! The promoter: serves the orders that wait for units which have come back (rule R17).
//!
//! It serves the order that is first, under the lock of that order's partition, by one record in its lane. Nothing
//! of that can be lost: the units stay available until the promoter takes them for that order.

use crate::engine::core::Core;
use crate::engine::expiry;
use crate::engine::place::gate;
use crate::engine::place::holding::note_held;
use crate::engine::sku::buyer_counts;
use crate::engine::transition;
use crate::engine::waiting::remove;
use crate::log::{LEAVE_BYTES, PROMOTE_BYTES, PromoteRecord};
use crate::mutants::{self, Mutant};
use crate::order::{ListPlace, OrderState, Verb};
use crate::partition::{Partition, PartitionState};
use crate::stock::{Sku, Waiter};

/// How many orders are served before the timekeeper's other tasks have their turn.
const PROMOTIONS_A_ROUND: usize = 256;

/// The outcome of a look at the first order of a list.
enum Promoted {
    One,
    /// No order can be served until units return or something changes. Both ask again.
    Nobody,
    /// An order could be served, but not now: the disk has no room, or the sale is closed.
    Later,
}

/// The promoter: serves some of the orders that wait for units which have come back. Returns whether there may be
/// more to serve.
pub(super) fn promote_some(core: &Core) -> bool {
    buyer_counts::forget_ended(core);
    let mut more = false;
    for sku in core.promotions.take(&core.skus) {
        let mut promoted = Promoted::One;
        for _ in 0..PROMOTIONS_A_ROUND {
            promoted = promote_first(core, sku);
            if !matches!(promoted, Promoted::One) {
                break;
            }
        }
        more |= matches!(promoted, Promoted::One);
        if !matches!(promoted, Promoted::Nobody) {
            core.promotions.postpone(sku);
        }
    }
    more
}

fn first_of(sku: &Sku) -> Option<(ListPlace, Waiter)> {
    let list = sku.list()?.lock();
    list.first(sku.hot.available.available(), sku.waiting_passes())
}

fn promote_first(core: &Core, sku: &Sku) -> Promoted {
    let Some((place, waiter)) = first_of(sku) else { return Promoted::Nobody };
    let Ok(partition) = core.partition_of_order(waiter.order) else { return Promoted::Nobody };
    let mut state = partition.state.lock();
    if core.check_open().is_err() {
        return Promoted::Nobody;
    }
    let found = state.orders.find(waiter.order.sequence());
    // If the order has left since, the record of that asks for another look when it is durable.
    let Some(handle) = found.filter(|handle| waits(&state, *handle)) else {
        return Promoted::Nobody;
    };
    let now_ms = core.time.now_ms();
    let is_over = expiry::is_over(core, &state, handle, now_ms);
    if is_over && !mutants::is(Mutant::ServesAfterPatience) {
        let may = partition.lane.room_for_ending(LEAVE_BYTES).is_ok();
        if may {
            transition::apply(core, partition, &mut state, handle, Verb::Expire, now_ms);
        }
        return if may { Promoted::Nobody } else { Promoted::Later };
    }
    let has_room = partition.lane.room_for_new(PROMOTE_BYTES).is_ok();
    if !gate::lets_serve(core, sku, place.class, now_ms) {
        return Promoted::Later;
    }
    if !has_room || partition.lane.check_disk().is_err() || !state.orders.can_keep() {
        return Promoted::Later;
    }
    let sequence = {
        let mut list = sku.list_or_new().lock();
        // Since the first look another order may have come before this one, or the units may be gone.
        let first = list.first(sku.hot.available.available(), sku.waiting_passes());
        if first != Some((place, waiter)) || !sku.hot.available.take_for_waiter(waiter.units) {
            return Promoted::One;
        }
        remove(sku, &mut list, place);
        list.next()
    };
    promote(core, partition, &mut state, handle, sequence, now_ms);
    note_held(sku, waiter.units);
    Promoted::One
}

fn waits(state: &PartitionState, handle: u32) -> bool {
    state.orders.get(handle).is_some_and(|slot| slot.state() == OrderState::Waiting)
}

/// An order that waited is held from now on, and logged.
fn promote(
    core: &Core,
    partition: &Partition,
    state: &mut PartitionState,
    handle: u32,
    list_sequence: u64,
    now_ms: u64,
) {
    let order = state.orders.id(handle);
    let record = PromoteRecord { order, list_sequence, time_low: now_ms as u32 };
    let lsn = partition.lane.append(|bytes| record.write(bytes), std::iter::empty());
    if let Some(deadline_ms) = state.promote(handle, lsn, now_ms, &core.hasher) {
        partition.lower_next_due(deadline_ms);
    }
    state.counts.promoted += 1;
    if !mutants::is(Mutant::LeavesWatchersAsleep) {
        core.wakes.push(state.watchers.take(order.sequence()));
    }
}
