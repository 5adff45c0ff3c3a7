//! What each buyer has of the SKUs that have, or had, a buyer limit.
//!
//! A SKU is counted from its first limit on, until its sale ends; its orders that are in memory are
//! counted when that begins. Both moments are records of the partition's own lane, so that a replay
//! counts the same orders, those included that have left memory since. Other SKUs cost nothing here.
//!
//! That a limit is lifted at the end of a sale is a record of the SKU's home lane. Until it is durable the
//! limit acts, and a crash may bring it back, so all counts are kept until then: see [`Ending`].

use std::collections::{HashMap, HashSet};

use crate::ids::BuyerId;
use crate::routing::mix;

/// The counts of a partition are spread over this many maps, so that none is large when it grows.
pub(crate) const MAPS: usize = 16;

type Counts = HashMap<(BuyerId, u32), u32, ahash::RandomState>;

/// Units held, confirmed and fulfilled, by buyer and counting.
#[derive(Debug, Default)]
pub(crate) struct BuyerCounts {
    /// SKUs that are counted, by index.
    counted: HashMap<u32, Counting, ahash::RandomState>,
    /// SKUs that are not counted any more, and the sequence before which orders are of their last
    /// sale. Forgotten once no such order is in memory.
    ended: HashMap<u32, u64, ahash::RandomState>,
    /// SKUs whose sale has ended by a record that a crash may take. Counted or not, they are as before.
    ending: HashMap<u32, Ending, ahash::RandomState>,
    units: [Counts; MAPS],
    /// Entries in `units`.
    len: usize,
    /// The number of the next counting. A SKU that is counted again gets another one, so that what
    /// is left of its last sale can be cleared away later.
    next_number: u32,
    /// Numbers of countings that ended, and how many maps may hold entries of them.
    to_clear: HashSet<u32, ahash::RandomState>,
    maps_to_clear: usize,
    /// How often a sale began to be counted or ended.
    changes: u64,
}

/// A SKU whose buyers are or were counted, as a checkpoint holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaleCounted {
    pub(crate) sku: u32,
    /// Orders with lower sequences belong to a sale that ended.
    pub(crate) first_sequence: u64,
    /// By which its units are found; `None`: it is not counted any more.
    pub(crate) number: Option<u32>,
}

/// What a buyer has, by the number of the sale's counting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuyerUnits {
    pub(crate) buyer: BuyerId,
    pub(crate) number: u32,
    pub(crate) units: u32,
}

/// An end of a sale that rests on a record of the SKU's home lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// Orders with lower sequences are of the sale that ends.
    pub(crate) next_sequence: u64,
    /// LSN of the record in the home lane.
    pub(crate) home_lsn: u64,
}

#[derive(Clone, Copy, Debug)]
struct Counting {
    number: u32,
    /// Orders with lower sequences belong to a sale that ended.
    first_sequence: u64,
    /// Of the record that says since when it is counted, if this life has logged it; else 0.
    logged_lsn: u64,
}

impl BuyerCounts {
    /// Counts the SKU from now on. Returns the sequence from which orders belong to its sale; `None` when it is
    /// counted already.
    pub(crate) fn start(&mut self, sku: u32) -> Option<u64> {
        if self.counts(sku) {
            return None;
        }
        let first_sequence = self.ended.remove(&sku).unwrap_or(0);
        self.changes += 1;
        let counting = Counting { number: self.next_number, first_sequence, logged_lsn: 0 };
        self.counted.insert(sku, counting);
        self.next_number = self.next_number.wrapping_add(1);
        Some(first_sequence)
    }

    /// The SKU's sale has ended: none of the orders before `next_sequence` counts any more.
    pub(crate) fn end(&mut self, sku: u32, next_sequence: u64) {
        self.ended.insert(sku, next_sequence);
        self.changes += 1;
        if let Some(counting) = self.counted.remove(&sku)
            && self.len > 0
        {
            self.to_clear.insert(counting.number);
            self.maps_to_clear = MAPS;
        }
    }

    /// The SKU's sale has ended, if the record in the home lane survives. None is pending for this SKU.
    pub(crate) fn begin_end(&mut self, sku: u32, ending: Ending) {
        self.ending.insert(sku, ending);
        self.changes += 1;
    }

    /// Whether the end of a sale is pending.
    pub(crate) fn has_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    pub(crate) fn is_ending(&self, sku: u32) -> bool {
        self.ending.contains_key(&sku)
    }

    /// Ends the sales whose records in the home lanes are durable.
    pub(crate) fn settle_ends(&mut self, is_durable: impl Fn(u32, &Ending) -> bool) {
        let ending = self.ending.iter().filter(|(sku, ending)| is_durable(**sku, ending));
        let durable: Vec<u32> = ending.map(|(sku, _)| *sku).collect();
        durable.into_iter().for_each(|sku| self.settle_end(sku));
    }

    /// A pending end of this SKU's sale is durable.
    pub(crate) fn settle_end(&mut self, sku: u32) {
        if let Some(ending) = self.ending.remove(&sku) {
            self.end(sku, ending.next_sequence);
        }
    }

    /// A crash took the record in the home lane: the sale goes on.
    pub(crate) fn void_end(&mut self, sku: u32) {
        self.changes += u64::from(self.ending.remove(&sku).is_some());
    }

    /// After replay: ends the sales of which the home lanes say so too. Returns the SKUs whose sales go on.
    pub(crate) fn resolve_ends(&mut self, is_in_home: impl Fn(u32, u64) -> bool) -> Vec<u32> {
        self.settle_ends(|sku, ending| is_in_home(sku, ending.home_lsn));
        let void: Vec<u32> = self.ending.keys().copied().collect();
        void.iter().for_each(|sku| self.void_end(*sku));
        void
    }

    /// Clears away a part of what sales that ended have left; whether there is more.
    pub(crate) fn clear_some(&mut self) -> bool {
        let Some(left) = self.maps_to_clear.checked_sub(1) else { return false };
        self.maps_to_clear = left;
        let map = &mut self.units[left];
        let before = map.len();
        map.retain(|(_, number), _| !self.to_clear.contains(number));
        self.len -= before - map.len();
        map.shrink_to(2 * map.len());
        if left == 0 {
            self.to_clear.clear();
        }
        left > 0
    }

    pub(crate) fn is_to_clear(&self) -> bool {
        self.maps_to_clear > 0
    }

    /// Whether there are orders that may be of a sale that ended.
    pub(crate) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Forgets sales that ended before any order that is in memory was placed.
    pub(crate) fn forget_ended(&mut self, oldest_sequence: u64) {
        self.ended.retain(|_, first_sequence| *first_sequence > oldest_sequence);
    }

    /// As long as this is the same, so are the [sales](BuyerCounts::sales).
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// The sales as they are once all pending ends are durable: a checkpoint counts only after that.
    pub(crate) fn sales(&self) -> Vec<SaleCounted> {
        let counted = self.counted.iter().map(|(sku, it)| SaleCounted {
            sku: *sku,
            first_sequence: it.first_sequence,
            number: Some(it.number),
        });
        let ended = self.ended.iter().map(|(sku, first_sequence)| SaleCounted {
            sku: *sku,
            first_sequence: *first_sequence,
            number: None,
        });
        let ending = self.ending.iter().map(|(sku, ending)| SaleCounted {
            sku: *sku,
            first_sequence: ending.next_sequence,
            number: None,
        });
        let lasting = counted.chain(ended).filter(|sale| !self.is_ending(sale.sku));
        lasting.chain(ending).collect()
    }

    /// Copies whole maps, from a map on, until there are at least `entries` entries; returns the next map.
    pub(crate) fn copy_maps(&self, from: usize, entries: usize, to: &mut Vec<BuyerUnits>) -> usize {
        let mut next = from;
        while next < MAPS && to.len() < entries {
            let units = self.units[next].iter();
            to.extend(units.map(|((buyer, number), units)| BuyerUnits {
                buyer: *buyer,
                number: *number,
                units: *units,
            }));
            next += 1;
        }
        next
    }

    /// A sale as [`BuyerCounts::sales`] told, without its buyers; the SKU is not among the sales.
    pub(crate) fn restore_sale(&mut self, sku: u32, first_sequence: u64, is_counted: bool) {
        self.ended.insert(sku, first_sequence);
        if is_counted {
            self.start(sku);
        }
    }

    /// A record says that the SKU is counted.
    pub(crate) fn set_logged(&mut self, sku: u32, lsn: u64) {
        if let Some(counting) = self.counted.get_mut(&sku) {
            counting.logged_lsn = lsn;
        }
    }

    /// What it rests on that the SKU is counted; 0: nothing that a crash could take.
    pub(crate) fn logged_lsn(&self, sku: u32) -> u64 {
        self.counted.get(&sku).map_or(0, |counting| counting.logged_lsn)
    }

    pub(crate) fn counts(&self, sku: u32) -> bool {
        self.counted.contains_key(&sku)
    }

    /// Whether an order with this sequence counts.
    pub(crate) fn counts_order(&self, sku: u32, sequence: u64) -> bool {
        self.counted.get(&sku).is_some_and(|counting| sequence >= counting.first_sequence)
    }

    fn counting(&self, sku: u32) -> Option<u32> {
        self.counted.get(&sku).map(|counting| counting.number)
    }

    /// Pairs of buyer and SKU, some of sales that ended included.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What every buyer has of every SKU that is counted: SKU index, buyer, units; in any order.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, BuyerId, u32)> {
        let skus: HashMap<u32, u32> =
            self.counted.iter().map(|(sku, counting)| (counting.number, *sku)).collect();
        let counts = self.units.iter().flatten();
        counts
            .filter_map(move |((buyer, number), units)| Some((*skus.get(number)?, *buyer, *units)))
    }

    /// Whether the next unit takes no new entry.
    pub(crate) fn has_entry(&self, buyer: BuyerId, sku: u32) -> bool {
        let counting = self.counting(sku);
        counting.is_none_or(|it| self.units[map_of(buyer)].contains_key(&(buyer, it)))
    }

    /// What the buyer has.
    pub(crate) fn units(&self, buyer: BuyerId, sku: u32) -> u32 {
        let Some(counting) = self.counting(sku) else { return 0 };
        self.units[map_of(buyer)].get(&(buyer, counting)).copied().unwrap_or(0)
    }

    /// The buyer has more of a SKU that is counted. Sums saturate; no limit is that high.
    pub(crate) fn add(&mut self, buyer: BuyerId, sku: u32, units: u32) {
        // Nothing, of a line of a partial order, makes no entry.
        let Some(counting) = self.counting(sku).filter(|_| units > 0) else { return };
        let map = &mut self.units[map_of(buyer)];
        let before = map.len();
        let count = map.entry((buyer, counting)).or_default();
        *count = count.saturating_add(units);
        self.len += map.len() - before;
    }

    /// The buyer has less of a SKU that is counted.
    pub(crate) fn remove(&mut self, buyer: BuyerId, sku: u32, units: u32) {
        let Some(counting) = self.counting(sku) else { return };
        let map = &mut self.units[map_of(buyer)];
        if let Some(count) = map.get_mut(&(buyer, counting)) {
            *count = count.saturating_sub(units);
            if *count == 0 {
                map.remove(&(buyer, counting));
                self.len -= 1;
            }
        }
    }
}

/// The map that a buyer's counts are in.
pub(crate) fn map_of(buyer: BuyerId) -> usize {
    // The partition took the high bits of a similar hash; these are others.
    (mix(u128::from_le_bytes(buyer.to_bytes()) as u64) % MAPS as u64) as usize
}
