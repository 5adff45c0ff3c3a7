//! How many units a SKU has, and where they are: [`StockLevels`].

use crate::ids::SkuId;

/// A SKU's units, each term counted on its own.
///
/// `stocked = available + held + sold + returning + kept_back` whenever no verb on the SKU is in flight.
/// While one is, a unit may be seen in two terms or in none, since the terms are read one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StockLevels {
    /// The SKU.
    pub sku: SkuId,
    /// Units put in less units taken out by the host, as far as buyers can count on it.
    pub stocked: i64,
    /// Units that a buyer can have; negative when the SKU owes (see [`Adjust::set`](crate::Adjust::set)).
    pub available: i64,
    /// Units of orders that are held.
    pub held: i64,
    /// Units of orders that are confirmed or fulfilled.
    pub sold: i64,
    /// Units returned by a cancel or an expiry whose record is not durable yet.
    pub returning: i64,
    /// Units kept back by [`SaleRules::safety_stock`](crate::SaleRules::safety_stock).
    pub kept_back: i64,
    /// Units that those in the waiting list want; no term of the sum.
    pub waiting: u64,
}

impl StockLevels {
    /// Whether the terms add up.
    #[must_use]
    pub fn add_up(&self) -> bool {
        let had = self.held + self.sold + self.returning;
        self.stocked == self.available + had + self.kept_back
    }
}
