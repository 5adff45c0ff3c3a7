//! Step 2 of the request path: a refusal that is certain is returned without a lock, without the log, and without a
//! write to shared memory.
//!
//! Rule R1: a key that has an order is answered with that order, always. So the request looks at the key after it has
//! read what the refusal rests on. An order makes its key visible before it takes the last unit, so a retry that
//! reads the unit as gone finds its key.

use crate::engine::core::Core;
use crate::engine::place::gate;
use crate::engine::place::skus::Skus;
use crate::ids::Quantity;
use crate::mutants::{self, Mutant};
use crate::order::{Filling, Line, Policy, Refusal, Request};
use crate::partition::Partition;
use crate::stock::{Sku, Take};

/// Returns the refusal of a request that surely cannot be held, by the rules or because it is sold out, if its key
/// has no order.
pub(super) fn certain_refusal(
    core: &Core,
    partition: &Partition,
    key_hash: u64,
    request: &Request<'_>,
    skus: &Skus<'_>,
) -> Option<Refusal> {
    let refusal = match gate::is_plain(core, skus.iter()) {
        true => sold_out(request, skus),
        false => ruled_out(core, request, skus),
    }?;
    is_free(partition, key_hash).then_some(refusal)
}

/// The same for an order of one line of a SKU without rules that takes all of it or nothing.
#[inline]
pub(super) fn certainly_short(
    partition: &Partition,
    key_hash: u64,
    sku: &Sku,
    line: &Line,
) -> Option<Refusal> {
    let refusal = short_of(sku, line.quantity.get())?;
    is_free(partition, key_hash).then_some(refusal)
}

/// The same for an order of one line of a SKU with rules: a switch of it, of its merchants or of the engine.
pub(super) fn certainly_switched(
    core: &Core,
    partition: &Partition,
    key_hash: u64,
    sku: &Sku,
) -> Option<Refusal> {
    let refusal = gate::switched(core, std::iter::once(sku))?;
    is_free(partition, key_hash).then_some(refusal)
}

#[inline]
fn is_free(partition: &Partition, key_hash: u64) -> bool {
    partition.keys.surely_absent(key_hash) || mutants::is(Mutant::RefusesHeldKey)
}

#[cold]
#[inline(never)]
fn ruled_out(core: &Core, request: &Request<'_>, skus: &Skus<'_>) -> Option<Refusal> {
    gate::certain_refusal(core, request, skus)
        .or_else(|| sold_out(request, skus))
        .or_else(|| gate::certainly_rate_limited(core, skus))
}

fn sold_out(request: &Request<'_>, skus: &Skus<'_>) -> Option<Refusal> {
    // The order may join the list, under the lock.
    if request.may_wait() && skus.iter().any(|sku| sku.waiting_max() > 0) {
        return None;
    }
    let mut lines = skus.iter().zip(request.lines.as_slice());
    let refusal = lines.find_map(|(sku, line)| short_of(sku, line.quantity.get()))?;
    match request.filling.policy {
        Policy::Partial => partial_refusal(skus, &request.filling),
        _ => Some(refusal),
    }
}

/// Refuses if there is less of a line than its minimum, or nothing of any line.
fn partial_refusal(skus: &Skus<'_>, filling: &Filling) -> Option<Refusal> {
    let (mut first, mut may_have_some) = (None, false);
    for (nth, sku) in skus.iter().enumerate() {
        let least = filling.minimum(nth);
        match short_of(sku, least.max(1)) {
            Some(refusal) if least > 0 => return Some(refusal),
            refusal => {
                may_have_some |= refusal.is_none();
                first = first.or(refusal);
            }
        }
    }
    first.filter(|_| !may_have_some)
}

#[inline]
fn short_of(sku: &Sku, units: u32) -> Option<Refusal> {
    if sku.has_plenty(units) {
        return None;
    }
    Some(match sku.hot.available.short_of(units)? {
        Take::Short { available } => {
            Refusal::SoldOut { sku: sku.id, wanted: Quantity::new(units), available }
        }
        _ => Refusal::OthersWaiting { sku: sku.id },
    })
}
