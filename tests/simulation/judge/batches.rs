//! What a batch may be answered with, and what no engine may accept.

use std::time::Duration;

use doorbuster::testing::SteppedEngine;
use doorbuster::{BatchError, CLASS_MAX, Fill, PlaceError};

use super::orders::{Asked, Policy};
use super::waiting::order_of;
use super::{Broken, Checked, Judge, hold_to};

impl Judge {
    /// A batch comes to what its orders come to one after the other.
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
        let mut facts = Vec::new();
        for (asked, answer) in batch.iter().zip(&answers) {
            let what = format!("in a batch, {asked:?}");
            match answer {
                Ok(placed) => facts.append(&mut self.check_placed(engine, &what, asked, placed)?),
                Err(error) => {
                    let has_order = self.orders.of_key(asked).is_some();
                    self.check_place_error(engine, &what, asked, has_order, error)?;
                }
            }
        }
        // The batch's commit waits for all; each order by itself tells when it is durable.
        for order in answers.iter().filter_map(|answer| answer.as_ref().ok().and_then(order_of)) {
            self.view(engine, order)?;
        }
        self.keep("a batch", commit, facts, None)
    }

    /// Asks for what no engine may accept; nothing changes.
    pub(crate) fn place_invalid(&self, engine: &SteppedEngine, asked: &Asked, nth: u64) -> Checked {
        // A key that has an order is answered with that order, even if a bound of the engine's is
        // exceeded; these ask with one that is new.
        let lines = vec![asked.lines[0]];
        let (key, dated_ms) = (asked.key | 1 << 100, None);
        let (policy, too_low) = (Policy::AllOrNone, CLASS_MAX + 1);
        let asked = Asked { key, dated_ms, lines, policy, hold_ms: None, ..asked.clone() };
        let (sku, units) = asked.lines[0];
        let too_long = self.shape.payload_bytes_max + 1;
        let (order, is_right): (_, fn(&PlaceError) -> bool) = match nth % 11 {
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
            4 => (asked.order().min_quantity(sku, 1), |error| {
                matches!(error, PlaceError::MinimumWithoutPartial { .. })
            }),
            5 => (asked.order().fill(Fill::Partial).min_quantity(sku, units + 1), |error| {
                matches!(error, PlaceError::MinimumTooLarge { .. })
            }),
            6 => (asked.order().fill(Fill::Partial).min_quantity(sku + 1, 1), |error| {
                matches!(error, PlaceError::MinimumWithoutLine { .. })
            }),
            7 => (asked.order().class(too_low), |error| {
                matches!(error, PlaceError::ClassOutOfRange { .. })
            }),
            8 => (asked.order().fill(Fill::Wait { patience: Duration::ZERO }), |error| {
                matches!(error, PlaceError::PatienceOutOfRange { patience_ms: 0, .. })
            }),
            9 => {
                let several = asked.order().line(sku + 1, 1);
                (several.fill(Fill::Wait { patience: Duration::from_millis(1) }), |error| {
                    matches!(error, PlaceError::WaitWithSeveralLines { lines: 2, .. })
                })
            }
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
