//! What is ordered: every order follows from its number.

use doorbuster::{BuyerId, Order, RequestKey, SkuId};

use crate::args::Args;
use crate::shared::random::Random;

/// One order in this many is sent again.
const RETRIED_ONE_IN: u64 = 256;

pub(crate) struct Plan {
    pub(crate) orders: u64,
    pub(crate) skus: u32,
    seed: u64,
}

impl Plan {
    pub(crate) fn new(args: &Args) -> Self {
        Self { orders: args.orders(), skus: args.skus, seed: args.seed }
    }

    /// SKUs with the units that are ordered of each.
    pub(crate) fn stock(&self) -> impl Iterator<Item = (SkuId, u32)> + '_ {
        (0..self.skus).map(|sku| (Self::sku(sku), self.units(sku) as u32))
    }

    /// Units of the nth SKU that all orders come to.
    pub(crate) fn units(&self, sku: u32) -> u64 {
        let skus = u64::from(self.skus);
        // No SKU without a unit: such a one would be unknown.
        (self.orders / skus + u64::from(u64::from(sku) < self.orders % skus)).max(1)
    }

    pub(crate) fn sku(nth: u32) -> SkuId {
        SkuId::new(u64::from(nth) + 1)
    }

    /// Which SKU an order wants.
    pub(crate) fn sku_of(&self, order: u64) -> u32 {
        (order % u64::from(self.skus)) as u32
    }

    /// One unit.
    pub(crate) fn order(&self, order: u64) -> Order {
        Order::new(self.buyer(order), Self::key(order)).line(Self::sku(self.sku_of(order)), 1)
    }

    pub(crate) fn buyer(&self, order: u64) -> BuyerId {
        BuyerId::from_u64(Random::new(self.seed ^ order).below(u64::MAX))
    }

    pub(crate) fn key(order: u64) -> RequestKey {
        RequestKey::new(order.into())
    }

    pub(crate) fn is_retried(&self, order: u64) -> bool {
        Random::new(self.seed ^ !order).below(RETRIED_ONE_IN) == 0
    }
}
