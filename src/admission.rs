//! Step 2 of the request path: a refusal that is certain is told without a lock, without the log, and
//! without a write to shared memory.
//!
//! Rule R1: a key that has an order is answered with that order, always. So the look at the key comes
//! after the read of what the refusal rests on. Whoever took the last unit made his key visible
//! before he took it; a retry that reads his units as gone therefore finds his key.

use crate::engine::Skus;
use crate::order::{Lines, Refusal};
use crate::partition::Partition;

/// The refusal of a request whose key has no order, when it is sold out for sure.
pub(crate) fn certain_refusal(
    partition: &Partition,
    key_hash: u64,
    skus: &Skus<'_>,
    lines: &Lines,
) -> Option<Refusal> {
    let refusal = skus.iter().zip(lines.as_slice()).find_map(|(sku, line)| {
        let units = line.quantity.get();
        if sku.has_plenty(units) {
            return None;
        }
        let available = sku.hot.available.short_of(units)?;
        Some(Refusal::SoldOut { sku: sku.id, wanted: line.quantity, available })
    })?;
    partition.keys.surely_absent(key_hash).then_some(refusal)
}
