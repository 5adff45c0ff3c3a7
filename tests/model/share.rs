//! What an order receives of what there is.

use std::collections::BTreeMap;

use doorbuster::{Placed, Quantity, Refusal, SkuId};

use crate::oracle::{Oracle, Placing};

pub(crate) enum Share {
    /// By SKU.
    Held(BTreeMap<u64, u32>),
    Refused(Refusal),
}

impl Oracle {
    /// A partial order receives of each line what its limit and the stock leave; other orders receive all or
    /// nothing.
    pub(crate) fn share(&self, placing: &Placing) -> Share {
        let least_of = |sku: u64, units: u32| match placing.is_partial() {
            true => placing.minimum(sku),
            false => units,
        };
        let caps: BTreeMap<u64, u32> = (placing.lines.iter())
            .map(|(sku, units)| (*sku, self.cap(placing.buyer, *sku).min(*units)))
            .collect();
        let lines = || placing.lines.iter().map(|(sku, units)| (*sku, least_of(*sku, *units)));
        if let Some((sku, least)) = lines().find(|(sku, least)| caps[sku] < *least) {
            return Share::Refused(self.over_limit(placing.buyer, sku, least));
        }
        if let Some((sku, 0)) =
            caps.first_key_value().filter(|_| caps.values().all(|cap| *cap == 0))
        {
            return Share::Refused(self.over_limit(placing.buyer, *sku, 1));
        }
        let there = |sku: u64| self.levels(sku).available;
        if let Some((sku, least)) =
            lines().find(|(sku, least)| there(*sku).max(0) < (*least).into())
        {
            return Share::Refused(sold_out(sku, least, there(sku)));
        }
        let held: BTreeMap<u64, u32> = (caps.iter())
            .map(|(sku, cap)| (*sku, there(*sku).clamp(0, i64::from(*cap)) as u32))
            .collect();
        if held.values().any(|units| *units > 0) {
            return Share::Held(held);
        }
        let (sku, _) = caps.iter().find(|(_, cap)| **cap > 0).expect("not all are limited to 0");
        Share::Refused(sold_out(*sku, 1, there(*sku)))
    }

    /// Whether a limit leaves less of a line than is wanted.
    pub(crate) fn is_limited(&self, placing: &Placing) -> bool {
        placing.lines.iter().any(|(sku, units)| self.cap(placing.buyer, *sku) < *units)
    }

    /// The answer that does not depend on the buyer's limits.
    pub(crate) fn surely_sold_out(&self, placing: &Placing) -> Option<Placed> {
        let least_of = |sku: u64, units: u32| match placing.is_partial() {
            true => placing.minimum(sku),
            false => units,
        };
        let there = |sku: u64| self.levels(sku).available;
        let lines = || placing.lines.iter().map(|(sku, units)| (*sku, least_of(*sku, *units)));
        let short = |(sku, least): &(u64, u32)| *least > 0 && there(*sku) < i64::from(*least);
        let refused = lines().find(short).map(|(sku, least)| sold_out(sku, least, there(sku)));
        let none = || lines().all(|(sku, _)| there(sku) < 1);
        let first = lines().next().filter(|_| none());
        let refused = refused.or_else(|| first.map(|(sku, _)| sold_out(sku, 1, there(sku))));
        refused.map(Placed::Refused)
    }

    /// Returns how many more units the buyer may have.
    fn cap(&self, buyer: u64, sku: u64) -> u32 {
        let Some(limit) = self.limit(sku) else { return u32::MAX };
        u64::from(limit).saturating_sub(self.taken(buyer, sku)) as u32
    }

    fn over_limit(&self, buyer: u64, sku: u64, wanted: u32) -> Refusal {
        Refusal::BuyerLimit {
            sku: SkuId::new(sku),
            wanted: Quantity::new(wanted),
            taken: self.taken(buyer, sku),
            limit: Quantity::new(self.limit(sku).unwrap_or(0)),
        }
    }
}

fn sold_out(sku: u64, wanted: u32, available: i64) -> Refusal {
    Refusal::SoldOut { sku: SkuId::new(sku), wanted: Quantity::new(wanted), available }
}
