//! After a crash the model asks the engine what survived. It must be a prefix of each lane, with everything that
//! was acknowledged.

use std::collections::BTreeMap;

use doorbuster::{Adjusted, OrderError, OrderId, OrderState};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::answers::repeat;
use crate::driver::{Checked, Driver};
use crate::life::{Left, reads_as};
use crate::ops::SKUS;
use crate::oracle::{Lane, Record};
use crate::verbs::adjust_of;

type Seen = BTreeMap<u64, Option<(OrderState, bool)>>;

impl Driver {
    pub(crate) fn see_what_survived(&mut self, left: Left) -> Checked {
        let (partitions, stocks): (Vec<Lane>, Vec<Lane>) =
            self.oracle.logs.keys().partition(|lane| matches!(lane, Lane::Partition(_)));
        let mut over = Vec::new();
        let mut of_partitions = 0;
        for lane in partitions {
            let len = self.kept_of_partition(lane, left, &mut over)?;
            self.oracle.keep(lane, len);
            of_partitions += len;
        }
        // Orders may have made SKUs known.
        let kept_of_stock = |lane| Ok((lane, self.kept_of_stock(lane, left)?));
        let stock = stocks.into_iter().map(kept_of_stock).collect::<Result<_, TestCaseError>>()?;
        let records = self.engine().recovery().records as usize - self.unplaced;
        prop_assert!(of_partitions <= records, "{} records replayed", records);
        // Reading orders whose time had come ended them.
        for order in over {
            self.expired(order, None)?;
        }
        self.settle_stock(stock, records - of_partitions)
    }

    /// How many of a lane's records may have survived.
    fn bounds(&self, lane: Lane, left: Left) -> (usize, usize) {
        let log = self.oracle.log(lane);
        let least = if left.may_lose { log.floor } else { log.durable };
        let most = if left.may_gain { log.records.len() } else { log.durable };
        (least, most)
    }

    /// Reads every order that was ever in the partition. Orders that the read ends are added to `over`.
    fn kept_of_partition(
        &mut self,
        lane: Lane,
        left: Left,
        over: &mut Vec<u64>,
    ) -> Result<usize, TestCaseError> {
        let (least, most) = self.bounds(lane, left);
        let now_ms = self.now_ms();
        let mut seen = Seen::new();
        for order in self.orders_of(lane) {
            let id = OrderId::from_u64(order);
            let found = match self.engine().order(id) {
                Ok(viewed) => Some((viewed.state, viewed.durable)),
                Err(OrderError::UnknownOrder { .. }) => None,
                Err(error) => return Err(TestCaseError::fail(format!("{id}: {error}"))),
            };
            if found == Some((OrderState::Expired, false)) {
                over.push(order);
            }
            seen.insert(order, found);
        }
        // If expiries of one pass of the timekeeper survived, they come first.
        let survived = |record: &Record| match record {
            Record::Ended { order, .. } => seen[order] == Some((OrderState::Expired, true)),
            _ => false,
        };
        for pass in self.oracle.log_mut(lane).records.chunk_by_mut(|a, b| a.made_in == b.made_in) {
            pass.sort_by_key(|logged| !survived(&logged.record));
        }
        let reads_after = |len: usize| -> Seen {
            let standing = |order: &u64| {
                let standing = self.oracle.standing(lane, len, *order).map(|(state, ..)| state);
                let deadline_ms = self.oracle.orders[order].deadline_ms;
                (*order, reads_as(standing, deadline_ms, now_ms))
            };
            seen.keys().map(standing).collect()
        };
        let len = (least..=most).find(|len| reads_after(*len) == seen);
        len.ok_or_else(|| {
            TestCaseError::fail(format!(
                "{lane:?}: no prefix of {least} to {most} records reads like {seen:?}, {:?}",
                self.oracle.log(lane).records
            ))
        })
    }

    fn orders_of(&self, lane: Lane) -> Vec<u64> {
        let orders = self.oracle.orders.iter();
        orders
            .filter(|(_, placing)| self.oracle.partition_of(placing.buyer) == lane)
            .map(|(order, _)| *order)
            .collect()
    }

    /// Returns the prefixes that lead to the figures that the engine shows.
    fn kept_of_stock(&self, lane: Lane, left: Left) -> Result<Vec<usize>, TestCaseError> {
        let (least, most) = self.bounds(lane, left);
        let skus = (1..=SKUS).filter(|sku| self.oracle.home_of(*sku) == lane);
        let found: BTreeMap<u64, Option<i64>> =
            skus.map(|sku| (sku, self.engine().levels(sku).map(|levels| levels.stocked))).collect();
        let stocked_after = |len: usize| {
            let before = |sku: u64| self.oracle.is_lacked(sku).then_some(0);
            let mut stocked: BTreeMap<u64, Option<i64>> =
                found.keys().map(|sku| (*sku, before(*sku))).collect();
            for logged in &self.oracle.log(lane).records[..len] {
                if let Record::Adjusted(it, delta) = &logged.record {
                    *stocked.entry(it.sku).or_default().get_or_insert(0) += delta;
                }
            }
            stocked
        };
        let lens: Vec<usize> = (least..=most).filter(|len| stocked_after(*len) == found).collect();
        prop_assert!(
            !lens.is_empty(),
            "{:?}: no prefix of {} to {} records leads to {:?}: {:?}",
            lane,
            least,
            most,
            found,
            self.oracle.log(lane).records
        );
        Ok(lens)
    }

    /// Keeps the prefixes of the stock lanes that add up to the records that were replayed. If something is still
    /// open, such as which of two limits survived, the model asks by sending it again.
    fn settle_stock(&mut self, stock: Vec<(Lane, Vec<usize>)>, records: usize) -> Checked {
        let mut choices: Vec<Vec<usize>> = vec![Vec::new()];
        for (_, lens) in &stock {
            let longer = |choice: &Vec<usize>| {
                let choice = choice.clone();
                lens.iter().map(move |len| [choice.clone(), vec![*len]].concat())
            };
            choices = choices.iter().flat_map(longer).collect();
        }
        choices.retain(|choice| choice.iter().sum::<usize>() == records);
        prop_assert!(!choices.is_empty(), "{} records of SKUs replayed: {:?}", records, stock);
        let (mut of_stock, mut limits) = (0, Vec::new());
        for (nth, (lane, _)) in stock.into_iter().enumerate() {
            let mut lens: Vec<usize> = choices.iter().map(|choice| choice[nth]).collect();
            lens.sort_unstable();
            lens.dedup();
            of_stock += self.settle_lane(lane, lens, &mut limits)?;
        }
        // Only limits are still open. They are set again, so that it does not matter. Which lane has the rest of
        // the records stays unknown.
        self.unplaced += records - of_stock;
        for sku in limits {
            self.limit(sku, Some(2))?;
            self.idle()?;
        }
        Ok(())
    }

    /// Returns how many of the lane's records count as survived, and adds the SKUs whose limit is open.
    fn settle_lane(
        &mut self,
        lane: Lane,
        mut lens: Vec<usize>,
        limits: &mut Vec<u64>,
    ) -> Result<usize, TestCaseError> {
        let mut sent_anew = None;
        while lens.len() > 1 {
            // The first adjustment that is in the longest prefix and not in the shortest.
            let range = lens[0]..lens[lens.len() - 1];
            let records = &self.oracle.log(lane).records;
            let adjustment = range.clone().find_map(|place| match &records[place].record {
                Record::Adjusted(it, delta) => Some((place, it.clone(), *delta)),
                _ => None,
            });
            let Some((place, it, delta)) = adjustment else { break };
            let stocked: i64 = records[..=place]
                .iter()
                .filter_map(|logged| match &logged.record {
                    Record::Adjusted(other, delta) if other.sku == it.sku => Some(*delta),
                    _ => None,
                })
                .sum();
            let again = self.engine().stock(it.sku, adjust_of(&it));
            let again = again.map_err(|error| TestCaseError::fail(format!("{it:?}: {error}")))?;
            match again.peek() {
                Some(answer) if *answer == repeat(&it, delta, stocked, &it) => {
                    prop_assert!(again.is_durable());
                    lens.retain(|len| *len > place);
                }
                Some(Adjusted::Done { replayed: false, .. }) => {
                    lens.retain(|len| *len <= place);
                    sent_anew = Some((it, again));
                    break;
                }
                answer => {
                    return Err(TestCaseError::fail(format!("{it:?} again: {answer:?}")));
                }
            }
        }
        let open = lens[0]..lens[lens.len() - 1];
        let open = self.oracle.log(lane).records[open].iter();
        limits.extend(open.filter_map(|logged| match logged.record {
            Record::Limited { sku, .. } => Some(sku),
            _ => None,
        }));
        self.oracle.keep(lane, lens[0]);
        if let Some((it, again)) = sent_anew {
            let expected = self.oracle.adjust(&it);
            let expected = expected.map_err(|error| TestCaseError::fail(error.to_string()))?;
            self.adjusted(it, again, expected)?;
        }
        Ok(lens[0])
    }
}
