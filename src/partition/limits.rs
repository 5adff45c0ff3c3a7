//! What each buyer has of the SKUs that have, or had, a buyer limit.
//!
//! A SKU is counted from its first limit on; its earlier orders are counted then, partition by
//! partition. Other SKUs cost nothing here.

use std::collections::{HashMap, HashSet};

use crate::ids::BuyerId;
use crate::order::mix;

/// The counts of a partition are spread over this many maps, so that none is large when it grows.
const MAPS: usize = 16;

type Counts = HashMap<(BuyerId, u32), u32, ahash::RandomState>;

/// Units held, confirmed and fulfilled, by buyer and SKU index.
#[derive(Debug, Default)]
pub(crate) struct BuyerCounts {
    counted: HashSet<u32, ahash::RandomState>,
    units: [Counts; MAPS],
}

impl BuyerCounts {
    /// Counts the SKU from now on; `false` when it is counted already.
    pub(crate) fn start(&mut self, sku: u32) -> bool {
        self.counted.insert(sku)
    }

    pub(crate) fn counts(&self, sku: u32) -> bool {
        self.counted.contains(&sku)
    }

    /// What the buyer has.
    pub(crate) fn units(&self, buyer: BuyerId, sku: u32) -> u32 {
        self.units[map_of(buyer)].get(&(buyer, sku)).copied().unwrap_or(0)
    }

    /// The buyer has more of a SKU that is counted. Sums saturate; no limit is that high.
    pub(crate) fn add(&mut self, buyer: BuyerId, sku: u32, units: u32) {
        let count = self.units[map_of(buyer)].entry((buyer, sku)).or_default();
        *count = count.saturating_add(units);
    }

    /// The buyer has less of a SKU that is counted.
    pub(crate) fn remove(&mut self, buyer: BuyerId, sku: u32, units: u32) {
        let map = &mut self.units[map_of(buyer)];
        if let Some(count) = map.get_mut(&(buyer, sku)) {
            *count = count.saturating_sub(units);
            if *count == 0 {
                map.remove(&(buyer, sku));
            }
        }
    }
}

fn map_of(buyer: BuyerId) -> usize {
    // The partition took the high bits of a similar hash; these are others.
    (mix(u128::from_le_bytes(buyer.to_bytes()) as u64) % MAPS as u64) as usize
}
