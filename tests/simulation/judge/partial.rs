//! What a partial order gets: of each line as much as there is and the buyer's limit leaves, at least its
//! minimum, and at least one unit in all.

use std::collections::BTreeMap;

use doorbuster::{Line, Refusal};

use super::orders::Asked;
use super::waiting::Found;
use super::{Checked, Judge, hold_to};

impl Asked {
    /// One of these words, the other for a partial order.
    pub(super) fn refused_as(&self, whole: &'static str, partial: &'static str) -> &'static str {
        if self.is_partial() { partial } else { whole }
    }
}

impl Judge {
    /// What an order may hold of its lines, given what it is said to miss; returns what it holds.
    pub(super) fn check_lines(
        &self,
        what: &str,
        asked: &Asked,
        missing: &[Line],
        now_ms: u64,
    ) -> Checked<BTreeMap<u64, u32>> {
        let (wanted, mut lines) = (asked.folded(), asked.folded());
        for Line { sku, quantity } in missing {
            let (left, units) = (lines.get_mut(&sku.get()), quantity.get());
            let left = left.filter(|left| units > 0 && **left >= units);
            hold_to!(left.is_some(), "{what}: misses {units} of {sku}, which it did not want");
            left.into_iter().for_each(|left| *left -= units);
        }
        let in_order = missing.is_sorted_by(|one, other| one.sku < other.sku);
        hold_to!(in_order && (asked.is_partial() || missing.is_empty()), "{what}: {missing:?}");
        for (sku, units) in &lines {
            // One that owes has nothing, too.
            let available = self.found(*sku).for_new().max(0);
            hold_to!(
                available >= i64::from(*units),
                "{what}: it holds {units} of SKU {sku}, of which {available} are available"
            );
            let left = self.left_by_limit(asked, *sku, now_ms);
            hold_to!(
                *units <= left.1,
                "{what}: it holds {units} of SKU {sku}; of {:?} the buyer may have {left:?} more",
                self.limits(*sku)
            );
            // A line that misses some has all that there is.
            let there_is = left.0.min(u32::try_from(available).unwrap_or(u32::MAX));
            hold_to!(
                *units >= there_is.min(wanted[sku]) && *units >= asked.minimum(*sku),
                "{what}: it holds {units} of SKU {sku}; {there_is} are to be had"
            );
        }
        hold_to!(lines.values().any(|units| *units > 0), "{what}: it holds nothing");
        Ok(lines)
    }

    /// How many units the buyer's limit leaves: at least, and at most.
    pub(super) fn left_by_limit(&self, asked: &Asked, sku: u64, now_ms: u64) -> (u32, u32) {
        let (least, most) = self.orders.of_buyer(asked.buyer, sku, self.counting(sku), now_ms);
        let left = |limit: u32, taken: u64| match limit {
            0 => u32::MAX,
            limit => u64::from(limit).saturating_sub(taken) as u32,
        };
        let limits = self.limits(sku);
        let at_least = limits.iter().map(|limit| left(*limit, most)).min();
        let at_most = limits.iter().map(|limit| left(*limit, least)).max();
        (at_least.unwrap_or(u32::MAX), at_most.unwrap_or(u32::MAX))
    }

    /// Whether a refusal as sold out, or since others wait, is right, with this found of each SKU: it names the
    /// first line of which there is too little; of a partial order too little for its minimum, or else the
    /// first line that is not at its limit, when there is nothing of any.
    pub(super) fn is_short(
        &self,
        asked: &Asked,
        refusal: &Refusal,
        now_ms: u64,
        found: impl Fn(u64) -> Found,
    ) -> bool {
        let lines = asked.folded();
        let available = |sku: u64| found(sku).for_new();
        let (sku, is_so) = match *refusal {
            Refusal::SoldOut { sku, wanted, available } => {
                let sku = sku.get();
                let least = lines.get(&sku).map(|units| asked.least(sku, *units));
                let is_short = least == Some(wanted.get()) && available < i64::from(wanted.get());
                (sku, is_short && found(sku) == Found { available, waiting: 0 })
            }
            Refusal::OthersWaiting { sku } => {
                (sku.get(), lines.contains_key(&sku.get()) && found(sku.get()).waiting > 0)
            }
            _ => return false,
        };
        if !is_so {
            return false;
        }
        if asked.is_partial() && asked.minimum(sku) == 0 {
            let at_limit = |sku: &u64| self.left_by_limit(asked, *sku, now_ms).0 == 0;
            let is_none = |sku: &u64| available(*sku) < 1 || at_limit(sku);
            let has_minimum = lines.keys().any(|sku| asked.minimum(*sku) > 0);
            let mut earlier = lines.range(..sku).map(|(sku, _)| sku);
            return !has_minimum && earlier.all(at_limit) && lines.keys().all(is_none);
        }
        let must_have = |sku: u64, units: u32| match asked.is_partial() {
            true => asked.minimum(sku),
            false => units,
        };
        let mut earlier = lines.range(..sku);
        earlier.all(|(sku, units)| match must_have(*sku, *units) {
            0 => true,
            units => available(*sku) >= i64::from(units),
        })
    }

    /// Whether a refusal for the buyer's limit may name this line: of a partial order one with a minimum,
    /// or any when all are at their limits.
    pub(super) fn may_name(&self, asked: &Asked, sku: u64, wanted: u32, now_ms: u64) -> bool {
        let lines = asked.folded();
        let names = lines.get(&sku).is_some_and(|units| asked.least(sku, *units) == wanted);
        let mut skus = lines.keys();
        let has_minimum = !asked.is_partial() || asked.minimum(sku) > 0;
        names && (has_minimum || skus.all(|sku| self.left_by_limit(asked, *sku, now_ms).0 == 0))
    }
}
