//! [`served_in_turn`]: what the log alone says about the order of service.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::error::OpenError;
use crate::ids::{OrderId, SkuId};
use crate::log::{LogPosition, Reader, Record, records};
use crate::order::ListPlace;
use crate::recovery::folder::Folder;
use crate::recovery::segments::look_at;
use crate::storage::{Disk, Storage};

/// What [`served_in_turn`] found in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TurnsReport {
    /// Orders that joined a waiting list.
    pub joined: u64,
    /// Orders that were served from one.
    pub promoted: u64,
    /// Orders that left without being served.
    pub left: u64,
    /// Orders that wait at the log's end.
    pub waiting: u64,
    /// Orders that were served while earlier orders wanted more: where the rules let smaller orders
    /// [pass](crate::SaleRules::waiting_passes), or where the number by which the larger one had been served is
    /// [lost](Self::lost), and nowhere else.
    pub passed: u64,
    /// Orders that were served while earlier orders wanted no more than they did.
    pub out_of_turn: u64,
    /// Numbers of the lists that no record has: what a crash took before anyone was told. Whom such a
    /// number may have served is not counted as passed over.
    pub lost: u64,
}

/// Reads a whole log, and says from it alone whether every waiting order was served in its turn: lower classes first,
/// and within a class in order of arrival. The events of a SKU's list are numbered, over all partitions and restarts,
/// so the log proves it.
///
/// Opens files for reading only and takes no lock; the engine must not be running. Costs the reading of the
/// log, and memory for what the lists' records say.
///
/// # Errors
/// See [`OpenError`]; also where the log's beginning was recycled.
pub fn served_in_turn(folder: impl AsRef<Path>) -> Result<TurnsReport, OpenError> {
    served_in_turn_on(Arc::new(Disk::new(folder.as_ref())))
}

/// [`served_in_turn`] on another [`Storage`].
///
/// # Errors
/// As those of [`served_in_turn`].
pub fn served_in_turn_on(storage: Arc<dyn Storage>) -> Result<TurnsReport, OpenError> {
    let folder = Folder::read_only(&storage)?;
    let (manifest, files) = look_at(&folder)?;
    let mut turns = Turns::default();
    for (shard, ordinals) in (0_u16..).zip(files) {
        let expected = manifest.expected(shard, false);
        let begin = LogPosition::default();
        let mut reader = Reader::new(folder.storage(), expected, begin, ordinals)?;
        while let Some(block) = reader.next_block()? {
            for section in block.sections().flatten() {
                records(section.bytes).flatten().for_each(|record| turns.note(&record));
            }
        }
        reader.tail()?;
    }
    Ok(turns.judge())
}

/// What happened in a list.
enum Event {
    Joined(Joined),
    Promoted(OrderId),
    Left(OrderId),
}

#[derive(Clone, Copy)]
struct Joined {
    order: OrderId,
    place: ListPlace,
    units: u32,
}

/// All that happened, by SKU and number.
#[derive(Default)]
struct Turns {
    skus: HashMap<OrderId, SkuId>,
    lists: BTreeMap<SkuId, BTreeMap<u64, Event>>,
}

impl Turns {
    fn note(&mut self, record: &Record<'_>) {
        match record {
            Record::Place(record) => {
                let line = record.lines.iter().next();
                if let (Some(joins), Some(line)) = (record.joins, line) {
                    self.skus.insert(record.order, line.sku);
                    let (order, place, units) = (record.order, joins.place, line.quantity.get());
                    let joined = Event::Joined(Joined { order, place, units });
                    self.lists.entry(line.sku).or_default().insert(place.arrival, joined);
                }
            }
            Record::Promote(record) => {
                self.note_end(record.order, record.list_sequence, Event::Promoted(record.order));
            }
            Record::Order(record) if record.list_sequence > 0 => {
                self.note_end(record.order, record.list_sequence, Event::Left(record.order));
            }
            _ => {}
        }
    }

    /// An order joins in the lane in which it goes on, so its join was read before.
    fn note_end(&mut self, order: OrderId, sequence: u64, event: Event) {
        if let Some(sku) = self.skus.get(&order) {
            self.lists.entry(*sku).or_default().insert(sequence, event);
        }
    }

    fn judge(&self) -> TurnsReport {
        let mut report = TurnsReport::default();
        self.lists.values().for_each(|events| judge_list(events, &mut report));
        report
    }
}

/// A list as it goes on from number to number.
#[derive(Default)]
struct List {
    waiting: BTreeMap<ListPlace, Joined>,
    places: HashMap<OrderId, ListPlace>,
    /// Orders that were served or had left by a record that a crash took: no order is judged by them.
    excused: HashSet<OrderId>,
    /// Numbers of such records, so far.
    lost: usize,
}

fn judge_list(events: &BTreeMap<u64, Event>, report: &mut TurnsReport) {
    let mut list = List::default();
    let mut last = 0;
    for (sequence, event) in events {
        let missing = sequence - last - 1;
        last = *sequence;
        list.lost += missing as usize;
        report.lost += missing;
        match event {
            Event::Joined(joined) => {
                report.joined += 1;
                list.places.insert(joined.order, joined.place);
                list.waiting.insert(joined.place, *joined);
            }
            Event::Left(order) => {
                report.left += 1;
                if list.take(*order).is_none() {
                    list.excused.remove(order);
                }
            }
            Event::Promoted(order) => {
                report.promoted += 1;
                match list.take(*order) {
                    Some(served) => list.judge(&served, report),
                    None if list.excused.remove(order) => {}
                    None => report.out_of_turn += 1,
                }
            }
        }
    }
    report.waiting += (list.waiting.len() + list.excused.len()) as u64;
}

impl List {
    fn take(&mut self, order: OrderId) -> Option<Joined> {
        self.places.get(&order).and_then(|place| self.waiting.remove(place))
    }

    /// Whether it was this one's turn.
    fn judge(&mut self, served: &Joined, report: &mut TurnsReport) {
        let before = self.waiting.range(..served.place).map(|(_, other)| other);
        let (wanted_more, passed_over): (Vec<Joined>, Vec<Joined>) =
            before.copied().partition(|other| other.units > served.units);
        report.passed += u64::from(!wanted_more.is_empty());
        if passed_over.len() > self.lost {
            report.out_of_turn += 1;
            return;
        }
        self.lost -= passed_over.len();
        for other in passed_over {
            self.waiting.remove(&other.place);
            self.excused.insert(other.order);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn order(nth: u64) -> OrderId {
        OrderId::from_parts(0, nth)
    }

    /// Joins of these classes and units, numbered from 1 on; then promotions of these joins.
    fn judged(joins: &[(u8, u32)], promoted: &[(u64, u64)]) -> TurnsReport {
        let joined = (1..).zip(joins).map(|(arrival, (class, units))| {
            let place = ListPlace { class: *class, arrival };
            (arrival, Event::Joined(Joined { order: order(arrival), place, units: *units }))
        });
        let served = promoted.iter().map(|(number, nth)| (*number, Event::Promoted(order(*nth))));
        let mut report = TurnsReport::default();
        judge_list(&joined.chain(served).collect(), &mut report);
        report
    }

    #[test]
    fn an_order_that_is_served_in_turn_is_counted_as_such() {
        let report = judged(&[(1, 1), (0, 1), (1, 1)], &[(4, 2), (5, 1), (6, 3)]);
        assert_eq!((report.joined, report.promoted, report.waiting), (3, 3, 0));
        assert_eq!((report.out_of_turn, report.passed, report.lost), (0, 0, 0));
    }

    #[test]
    fn an_order_that_is_served_before_an_earlier_one_or_a_better_class_is_found() {
        assert_eq!(judged(&[(0, 1), (0, 1)], &[(3, 2), (4, 1)]).out_of_turn, 1);
        assert_eq!(judged(&[(1, 1), (0, 1)], &[(3, 1)]).out_of_turn, 1);
        let twice = judged(&[(0, 1)], &[(2, 1), (3, 1)]);
        assert_eq!(twice.out_of_turn, 1, "nobody is served twice");
    }

    #[test]
    fn an_order_that_passes_a_larger_one_is_told_apart() {
        let report = judged(&[(0, 3), (0, 1)], &[(3, 2), (4, 1)]);
        assert_eq!((report.out_of_turn, report.passed), (0, 1));
    }

    /// A crash took the record by which the first order was served; after the crash it was served again.
    #[test]
    fn a_lost_number_excuses_one_and_no_more() {
        let report = judged(&[(0, 1), (0, 1), (0, 1)], &[(5, 2), (6, 3), (7, 1)]);
        assert_eq!((report.out_of_turn, report.lost, report.waiting), (0, 1, 0));
        let report = judged(&[(0, 1), (0, 1), (0, 1)], &[(5, 3)]);
        assert_eq!((report.out_of_turn, report.lost), (1, 1), "two were before him");
    }
}
