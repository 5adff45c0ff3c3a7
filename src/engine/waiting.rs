//! The waiting list of a SKU: who joins it, who leaves it, who is served from it (rule R17).
//!
//! Stock that comes back while somebody waits goes to nobody else: a bit of the stock word keeps others
//! out, and whoever gives back asks the promoter to hand it on. The promoter serves whoever is first,
//! under the lock of that order's partition, by one record in its lane. Nothing of that can be lost: the
//! units are available until the moment in which they are taken for him.
//!
//! Whoever leaves the list (called off, patience at its end) is not served any more at once, but keeps his
//! place until his record is durable: were it lost, whoever was served behind him would have been served
//! out of turn.
//!
//! Locks, in this order: a partition's, the list's, a lane's.

use std::borrow::Cow;

use crate::engine::core::Core;
use crate::engine::endings;
use crate::engine::gate;
use crate::engine::hold::{Holding, Wanted, note_held};
use crate::engine::sale;
use crate::error::OrderError;
use crate::ids::OrderId;
use crate::log::{LEAVE_BYTES, PROMOTE_BYTES, PromoteRecord};
use crate::mutants::{self, Mutant};
use crate::order::{ListPlace, OrderState, Refusal, Request, Verb};
use crate::partition::{Partition, PartitionState};
use crate::stock::{Promotions, Sku, Waiter, WaitingList};

/// How many orders are served before others of the timekeeper's tasks have their turn.
const PROMOTIONS_A_ROUND: usize = 256;

/// Step 6 for an order that may wait: takes its units, or puts it in the SKU's list. The caller has the lock
/// of the order's partition, and keeps it until that is logged.
pub(super) fn take_or_join<'a>(
    core: &Core,
    sku: &Sku,
    bound: u32,
    request: &Request<'_>,
    wanted: Wanted<'a>,
    order: OrderId,
) -> Holding<'a> {
    let units = wanted.lines.first().map_or(0, |line| line.quantity.get());
    let mut list = sku.list_or_new().lock();
    let (waiting, bound) = (list.len(), u64::from(bound));
    // Only under this lock does the list become longer.
    if waiting >= bound + u64::from(mutants::is(Mutant::OverfillsList)) {
        return Holding::Short(Refusal::WaitingListFull { sku: sku.id, waiting, bound });
    }
    if sku.hot.available.take_or_wait(units) {
        note_held(sku, units);
        return Holding::Held(Cow::Borrowed(wanted.lines));
    }
    let class = if mutants::is(Mutant::IgnoresClass) { 0 } else { request.class };
    let place = list.join(class, order, units);
    // It may be first, and want less than who was.
    if sku.hot.available.available() >= i64::from(units) {
        core.promotions.ask(sku);
    }
    Holding::Waits(place)
}

/// An order is not to be served any more; gives the number of that. The caller has the lock of its
/// partition.
pub(super) fn note_leaving(sku: &Sku, place: ListPlace) -> u64 {
    let mut list = sku.list_or_new().lock();
    if mutants::is(Mutant::ServesBehindWhoLeaves) {
        remove(sku, &mut list, place);
    }
    list.note_leaving(place);
    list.next()
}

/// Whoever stood there has left for good, or was served. The caller has the lock of the list.
fn remove(sku: &Sku, list: &mut WaitingList, place: ListPlace) {
    list.remove(place);
    if list.len() == 0 {
        sku.hot.available.nobody_waits();
    }
}

/// Whether somebody waits for what an order has.
pub(super) fn is_waited_for(core: &Core, slot: &crate::partition::Slot) -> bool {
    slot.lines().any(|line| core.skus.get(line.sku).hot.available.somebody_waits())
}

/// That somebody left is durable: it is the turn of whoever is behind him.
pub(super) fn left(sku: &Sku, place: ListPlace, promotions: &Promotions) {
    remove(sku, &mut sku.list_or_new().lock(), place);
    promotions.ask(sku);
}

/// How many are before an order.
pub(super) fn position(core: &Core, order: OrderId) -> Result<Option<u64>, OrderError> {
    let partition = core.partition_of_order(order)?;
    let state = partition.state.lock();
    let handle = endings::find(&state, order)?;
    let slot = state.orders.get(handle).filter(|slot| slot.state() == OrderState::Waiting);
    Ok(slot.and_then(|slot| {
        let list = core.skus.get(slot.lines().next()?.sku).list()?.lock();
        list.position(slot.waited()?.place)
    }))
}

/// What became of a look at who is first.
enum Promoted {
    One,
    /// Nobody can be served until something is given back or changes, and that asks again.
    Nobody,
    /// Somebody could be, but not now: the disk has no room, or the sale is closed.
    Later,
}

/// The promoter: serves some of those who wait for what has come back; whether there may be more.
pub(super) fn promote_some(core: &Core) -> bool {
    sale::forget_ended(core);
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
    // Whoever left since asks for another look when that is durable.
    let Some(handle) = found.filter(|handle| waits(&state, *handle)) else {
        return Promoted::Nobody;
    };
    let now_ms = core.time.now_ms();
    let is_over = endings::is_over(core, &state, handle, now_ms);
    if is_over && !mutants::is(Mutant::ServesAfterPatience) {
        let may = partition.lane.room_for_ending(LEAVE_BYTES).is_ok();
        if may {
            endings::apply(core, partition, &mut state, handle, Verb::Expire, now_ms);
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
