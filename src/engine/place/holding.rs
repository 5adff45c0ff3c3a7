//! What an order wants of the stock, and what it received.

use std::borrow::Cow;

use crate::ids::SkuId;
use crate::order::{Filling, Line, ListPlace, Refusal};
use crate::stock::Sku;
use crate::sync::Ordering;

/// The outcome of step 6.
pub(in crate::engine) enum Holding<'a> {
    /// These units are held. A partial order may hold fewer than it wants.
    Held(Cow<'a, [Line]>),
    /// The order joined its SKU's list, at this place.
    Waits(ListPlace),
    Short(Refusal),
    /// Carts in flight keep the answer about this SKU open.
    Open(SkuId),
}

/// What an order wants, its lines sorted by SKU.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Wanted<'a> {
    pub(in crate::engine) lines: &'a [Line],
    pub(in crate::engine) filling: &'a Filling,
    /// What the buyer's limits leave of each line of a partial order; empty: all of it.
    pub(in crate::engine) caps: &'a [u32],
}

impl Wanted<'_> {
    /// The most that a line may take.
    pub(in crate::engine) fn most(&self, nth: usize) -> u32 {
        let quantity = self.lines[nth].quantity.get();
        self.caps.get(nth).map_or(quantity, |cap| quantity.min(*cap))
    }
}

/// Notes that units were taken for good.
pub(in crate::engine) fn note_held(sku: &Sku, units: u32) {
    sku.hot.held.fetch_add(i64::from(units), Ordering::Relaxed);
    sku.note_change();
}
