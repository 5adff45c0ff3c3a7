//! The waiting list of a SKU: how orders join it and leave it (rule R17).
//!
//! Units that come back while an order waits are for waiting orders only: a bit of the stock word keeps others out,
//! and every return asks the promoter to hand the units on. The promoter serves the first order, under the lock of
//! that order's partition, by one record in its lane. Nothing of that can be lost: the units stay available until the
//! promoter takes them for that order.
//!
//! An order that leaves the list (cancelled, or its patience over) can no longer be served at once, but keeps its
//! place until its record is durable. If a crash took that record, an order served after it would have been served
//! out of turn.
//!
//! Locks, in this order: a partition's, the list's, a lane's.

use std::borrow::Cow;

use crate::engine::core::Core;
use crate::engine::place::holding::{Holding, Wanted, note_held};
use crate::ids::OrderId;
use crate::mutants::{self, Mutant};
use crate::order::{ListPlace, Refusal, Request};
use crate::stock::{Promotions, Sku, WaitingList};

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
    // The order may be first now, and want fewer units than the one that was first before.
    if sku.hot.available.available() >= i64::from(units) {
        core.promotions.ask(sku);
    }
    Holding::Waits(place)
}

/// Marks an order as one that can no longer be served. Returns the number of that event. The caller holds the lock of
/// its partition.
pub(super) fn note_leaving(sku: &Sku, place: ListPlace) -> u64 {
    let mut list = sku.list_or_new().lock();
    list.note_leaving(place);
    list.next()
}

/// Removes an order that has left for good or was served. The caller holds the lock of the list.
pub(super) fn remove(sku: &Sku, list: &mut WaitingList, place: ListPlace) {
    list.remove(place);
    if list.len() == 0 {
        sku.hot.available.nobody_waits();
    }
}

/// The departure of an order is durable: the next one has its turn.
pub(super) fn left(sku: &Sku, place: ListPlace, promotions: &Promotions) {
    remove(sku, &mut sku.list_or_new().lock(), place);
    promotions.ask(sku);
}
