//! What a batch may be answered with, and what no engine may accept.

use std::collections::BTreeMap;
use std::time::Duration;

use doorbuster::testing::SteppedEngine;
use doorbuster::{BatchError, PlaceError, Placed, Refusal};

use super::orders::{Asked, partition_of};
use super::{Broken, Checked, Judge, hold_to};

/// What is available of each SKU.
type Available = BTreeMap<u64, i64>;

impl Judge {
    /// Orders of several buyers are placed in an order of the engine's choice, those of one buyer in the
    /// order given; what is sold out for sure is refused before any is placed. So the holds are checked
    /// partition by partition, and a "sold out" must have been true at some moment.
    pub(crate) fn place_batch(&mut self, engine: &SteppedEngine, batch: &[Asked]) -> Checked {
        let orders: Vec<_> = batch.iter().map(Asked::order).collect();
        let commit = match engine.place_batch(&orders) {
            Ok(commit) => commit,
            Err(BatchError::Unavailable(unavailable)) => {
                return self.check_unavailable(engine, "a batch", &unavailable, false);
            }
            Err(error) => return Err(Broken(format!("a batch: {error}"))),
        };
        let answers = commit.peek().cloned().unwrap_or_default();
        hold_to!(answers.len() == batch.len(), "a batch of {} got {answers:?}", batch.len());
        let mut partitions = BTreeMap::new();
        for (asked, answer) in batch.iter().zip(&answers) {
            let held = answer.as_ref().ok().and_then(Placed::held);
            let known = self.orders.partition_of_buyer(asked.buyer);
            if let Some(partition) = known.or(held.map(|held| partition_of(held.order))) {
                partitions.insert(asked.buyer, partition);
            }
        }
        let mut items: Vec<_> = batch.iter().zip(&answers).collect();
        items.sort_by_key(|(asked, _)| partitions.get(&asked.buyer));
        // One of two requests with a key may be refused as of a moment at which it had no order yet.
        let had_order: Vec<bool> =
            items.iter().map(|(asked, _)| self.orders.of_key(asked).is_some()).collect();
        let (mut facts, mut moments) = (Vec::new(), vec![self.all_available()]);
        let mut later = Vec::new();
        for ((asked, answer), had_order) in items.into_iter().zip(had_order) {
            let what = format!("in a batch, {asked:?}");
            match answer {
                Ok(Placed::Refused(Refusal::SoldOut { .. })) | Err(_) => {
                    later.push((asked, answer, had_order))
                }
                Ok(placed) => {
                    facts.append(&mut self.check_placed(engine, &what, asked, placed)?);
                    moments.push(self.all_available());
                }
            }
        }
        for (asked, answer, had_order) in later {
            let what = format!("in a batch, {asked:?}");
            match answer {
                Err(error) => {
                    self.check_place_error(engine, &what, asked, had_order, error)?;
                }
                Ok(placed) => self.check_sold_out(&what, asked, placed, &moments)?,
            }
        }
        // The batch's commit waits for all; each order by itself tells when it is durable.
        let held = answers.iter().filter_map(|answer| answer.as_ref().ok().and_then(Placed::held));
        for order in held.filter(|held| !held.replayed).map(|held| held.order) {
            self.view(engine, order)?;
        }
        self.keep("a batch", commit, facts, None)
    }

    fn all_available(&self) -> Available {
        self.skus.iter().map(|(sku, _)| (sku, self.available(sku))).collect()
    }

    fn check_sold_out(
        &mut self,
        what: &str,
        asked: &Asked,
        placed: &Placed,
        moments: &[Available],
    ) -> Checked {
        self.check_not_latched(what)?;
        let Placed::Refused(Refusal::SoldOut { sku, wanted, available }) = *placed else {
            return Ok(());
        };
        let lines = asked.folded();
        let held = self.orders.of_key(asked).filter(|(_, known)| known.lines == lines);
        // Its key's order may be of this very batch, and placed after this was refused.
        let is_new = |first: i64| moments.len() > 1 && first < i64::from(wanted.get());
        let first = moments[0].get(&sku.get()).copied().unwrap_or(0);
        hold_to!(held.is_none() || is_new(first), "{what}: {placed:?}, but its key has {held:?}");
        let was = |moment: &Available| {
            let of = |sku: &u64| moment.get(sku).copied().unwrap_or(0);
            let mut earlier = lines.range(..sku.get());
            of(&sku.get()) == available && earlier.all(|(sku, units)| of(sku) >= i64::from(*units))
        };
        hold_to!(
            lines.get(&sku.get()) == Some(&wanted.get())
                && available < i64::from(wanted.get())
                && moments.iter().any(was),
            "{what}: {placed:?}, but available were {moments:?}"
        );
        self.tally.met("sold out");
        Ok(())
    }

    /// Asks for what no engine may accept; nothing changes.
    pub(crate) fn place_invalid(&self, engine: &SteppedEngine, asked: &Asked, nth: u64) -> Checked {
        // A key that has an order is answered with that order, even if a bound of the engine's is
        // exceeded; these ask with one that is new.
        let lines = vec![asked.lines[0]];
        let (key, dated_ms) = (asked.key | 1 << 100, None);
        let asked = Asked { key, dated_ms, lines, hold_ms: None, ..asked.clone() };
        let too_long = self.shape.payload_bytes_max + 1;
        let (order, is_right): (_, fn(&PlaceError) -> bool) = match nth % 5 {
            0 => (Asked { lines: Vec::new(), ..asked }.order(), |error| {
                matches!(error, PlaceError::NoLines)
            }),
            1 => {
                (asked.order().line(1, 0), |error| matches!(error, PlaceError::ZeroQuantity { .. }))
            }
            2 => (asked.order().line(1, 1_000_001), |error| {
                matches!(error, PlaceError::QuantityTooLarge { .. })
            }),
            3 => (asked.order().hold_for(Duration::ZERO), |error| {
                matches!(error, PlaceError::HoldOutOfRange { hold_ms: 0, .. })
            }),
            _ => (asked.order().payload(vec![1; too_long]), |error| {
                matches!(error, PlaceError::PayloadTooLong { .. })
            }),
        };
        match engine.place(&order) {
            Err(error) if is_right(&error) => Ok(()),
            other => Err(Broken(format!("invalid order {order:?}: {other:?}"))),
        }
    }
}
