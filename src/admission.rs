//! Step 2 of the request path: a refusal that is certain is told without a lock, without the log, and
//! without a write to shared memory.
//!
//! Rule R1: a key that has an order is answered with that order, always. So the look at the key comes
//! after the read of what the refusal rests on. Whoever took the last unit made his key visible
//! before he took it; a retry that reads his units as gone therefore finds his key.

use crate::engine::{Core, Skus, gate};
use crate::order::{Refusal, Request};
use crate::partition::Partition;
use crate::stock::Take;
use crate::wrong::{self, Wrong};

/// The refusal of a request whose key has no order, when the rules do not let it be held or it is sold
/// out for sure.
pub(crate) fn certain_refusal(
    core: &Core,
    partition: &Partition,
    key_hash: u64,
    request: &Request<'_>,
    skus: &Skus<'_>,
) -> Option<Refusal> {
    let refusal = gate::certain_refusal(core, request, skus)
        .or_else(|| sold_out(request, skus))
        .or_else(|| gate::certainly_rate_limited(core, skus))?;
    let is_free = partition.keys.surely_absent(key_hash) || wrong::is(Wrong::RefusesHeldKey);
    is_free.then_some(refusal)
}

fn sold_out(request: &Request<'_>, skus: &Skus<'_>) -> Option<Refusal> {
    // It takes its place under the lock.
    if request.may_wait() && skus.iter().any(|sku| sku.waiting_max() > 0) {
        return None;
    }
    skus.iter().zip(request.lines.as_slice()).find_map(|(sku, line)| {
        let units = line.quantity.get();
        if sku.has_plenty(units) {
            return None;
        }
        match sku.hot.available.short_of(units)? {
            Take::Short { available } => {
                Some(Refusal::SoldOut { sku: sku.id, wanted: line.quantity, available })
            }
            _ => Some(Refusal::OthersWaiting { sku: sku.id }),
        }
    })
}
