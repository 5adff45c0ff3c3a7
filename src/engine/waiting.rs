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
    list.note_leaving(place);
    list.next()
}

/// Whoever stood there has left for good, or was served. The caller has the lock of the list.
pub(super) fn remove(sku: &Sku, list: &mut WaitingList, place: ListPlace) {
    list.remove(place);
    if list.len() == 0 {
        sku.hot.available.nobody_waits();
    }
}

/// That somebody left is durable: it is the turn of whoever is behind him.
pub(super) fn left(sku: &Sku, place: ListPlace, promotions: &Promotions) {
    remove(sku, &mut sku.list_or_new().lock(), place);
    promotions.ask(sku);
}
