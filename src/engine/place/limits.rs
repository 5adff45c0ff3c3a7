//! Step 5 of the request path: the buyer's limits.

use crate::engine::core::Core;
use crate::engine::expiry::{self, Due};
use crate::engine::place::skus::Skus;
use crate::error::{Capacity, PlaceError, Unavailable, at_capacity};
use crate::ids::Quantity;
use crate::order::{Policy, Refusal, Request};
use crate::partition::{Partition, PartitionState};
use crate::stock::Sku;

/// What the limits make of an order.
pub(super) enum Limited {
    /// It may have at most these units of each line; empty: all of it. Only a partial order has less.
    To(Vec<u32>),
    Refused(Refusal),
    /// Some holds that were over were in the way, and there may be more.
    Expired,
}

pub(super) fn check(
    core: &Core,
    partition: &Partition,
    state: &mut PartitionState,
    request: &Request<'_>,
    skus: &Skus<'_>,
    now_ms: u64,
) -> Result<Limited, PlaceError> {
    let left = left(core, state, request, skus);
    if !matches!(left, Left::All) {
        // Holds that are over do not count, whether or not the timekeeper has come by.
        match expiry::expire_some(core, partition, state, now_ms) {
            Due::Backlogged => Err(partition.lane.backlogged())?,
            Due::Some { .. } => return Ok(Limited::Expired),
            Due::None => {}
        }
    }
    let caps = match left {
        Left::All => Vec::new(),
        Left::Some(caps) => caps,
        Left::Nothing(refusal) => {
            state.counts.over_limit += 1;
            return Ok(Limited::Refused(refusal));
        }
    };
    check_buyers(core, state, request, skus)?;
    Ok(Limited::To(caps))
}

/// What the limits leave of an order.
enum Left {
    All,
    /// Of a partial order at most these units of each line.
    Some(Vec<u32>),
    Nothing(Refusal),
}

fn left(core: &Core, state: &mut PartitionState, request: &Request<'_>, skus: &Skus<'_>) -> Left {
    if skus.iter().all(|sku| sku.buyer_limit().is_none()) {
        return Left::All;
    }
    core.settle_ends(state);
    match request.filling.policy {
        Policy::Partial => left_of_lines(state, request, skus),
        _ => over_limit(state, request, skus).map_or(Left::All, Left::Nothing),
    }
}

/// The first line, by SKU, that the buyer's limit does not allow.
fn over_limit(state: &PartitionState, request: &Request<'_>, skus: &Skus<'_>) -> Option<Refusal> {
    skus.iter().zip(request.lines.as_slice()).find_map(|(sku, line)| {
        let limit = sku.buyer_limit()?;
        let taken = u64::from(state.limits.units(request.buyer, sku.index));
        let wanted = line.quantity;
        (taken + u64::from(wanted.get()) > u64::from(limit))
            .then(|| refusal(sku, wanted.get(), taken, limit))
    })
}

/// A limit acts on a line of a partial order as the stock does. If less is left, the line receives less. Less than
/// the minimum is a refusal, and so is nothing of any line.
fn left_of_lines(state: &PartitionState, request: &Request<'_>, skus: &Skus<'_>) -> Left {
    let lines = request.lines.as_slice();
    let (mut caps, mut first) = (Vec::with_capacity(lines.len()), None);
    for (nth, (sku, line)) in skus.iter().zip(lines).enumerate() {
        let (least, quantity) = (request.filling.minimum(nth), line.quantity.get());
        let Some(limit) = sku.buyer_limit() else {
            caps.push(quantity);
            continue;
        };
        let taken = state.limits.units(request.buyer, sku.index);
        let cap = limit.saturating_sub(taken).min(quantity);
        caps.push(cap);
        if cap < least {
            return Left::Nothing(refusal(sku, least, taken.into(), limit));
        }
        if cap == 0 {
            first.get_or_insert_with(|| refusal(sku, 1, taken.into(), limit));
        }
    }
    match first.filter(|_| caps.iter().all(|cap| *cap == 0)) {
        Some(refusal) => Left::Nothing(refusal),
        None if caps.iter().zip(lines).all(|(cap, line)| *cap == line.quantity.get()) => Left::All,
        None => Left::Some(caps),
    }
}

fn refusal(sku: &Sku, wanted: u32, taken: u64, limit: u32) -> Refusal {
    let (wanted, limit) = (Quantity::new(wanted), Quantity::new(limit));
    Refusal::BuyerLimit { sku: sku.id, wanted, taken, limit }
}

/// Whether what the buyer will have can be counted.
fn check_buyers(
    core: &Core,
    state: &PartitionState,
    request: &Request<'_>,
    skus: &Skus<'_>,
) -> Result<(), Unavailable> {
    if skus.iter().all(|sku| !sku.counts_buyers()) {
        return Ok(());
    }
    let is_new = |sku: &&Sku| !state.limits.has_entry(request.buyer, sku.index);
    let new = skus.iter().filter(is_new).count() as u64;
    if new > 0 && state.limits.len() as u64 + new > core.buyers_tracked_max {
        return Err(at_capacity(Capacity::BuyersTracked, core.buyers_tracked_max));
    }
    Ok(())
}
