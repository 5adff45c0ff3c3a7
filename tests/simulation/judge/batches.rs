//! What a batch may be answered with, and what no engine may accept.

use std::time::Duration;

use doorbuster::testing::SteppedEngine;
use doorbuster::{BatchError, CLASS_MAX, Fill, PlaceError, Placed, Refusal};

use super::orders::{Asked, Policy};
use super::waiting::{AllFound, order_of};
use super::{Broken, Checked, Judge, hold_to};

impl Judge {
    /// Orders of several buyers are placed in an order of the engine's choice, those of one buyer in the
    /// order given; what is sold out for sure is refused before any is placed, unless refusals are
    /// remembered. So the holds are checked partition by partition, and a "sold out" must have been true at
    /// some moment.
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
        let mut items: Vec<_> = batch.iter().zip(&answers).collect();
        items.sort_by_key(|(asked, _)| self.home_of(asked.buyer));
        // One of two requests with a key may be refused as of a moment at which it had no order yet.
        let had_order: Vec<bool> =
            items.iter().map(|(asked, _)| self.orders.of_key(asked).is_some()).collect();
        let now_ms = engine.now_ms();
        let tokens = self.tokens_taken();
        let (mut facts, mut moments) = (Vec::new(), vec![self.all_found()]);
        let mut later = Vec::new();
        for ((asked, answer), had_order) in items.into_iter().zip(had_order) {
            let what = format!("in a batch, {asked:?}");
            match answer {
                Ok(Placed::Refused(
                    Refusal::SoldOut { .. }
                    | Refusal::OthersWaiting { .. }
                    | Refusal::WaitingListFull { .. }
                    | Refusal::RateLimited { .. },
                )) if self.shape.remember.is_none() => later.push((asked, answer, had_order)),
                Err(_) => later.push((asked, answer, had_order)),
                Ok(placed) => {
                    facts.append(&mut self.check_placed(engine, &what, asked, placed)?);
                    moments.push(self.all_found());
                }
            }
        }
        for (asked, answer, had_order) in later {
            let what = format!("in a batch, {asked:?}");
            match answer {
                Err(error) => {
                    self.check_place_error(engine, &what, asked, had_order, error)?;
                }
                Ok(Placed::Refused(Refusal::RateLimited { merchant, retry_after_ms })) => {
                    hold_to!(!had_order, "{what}: {answer:?}, but its key has an order");
                    self.check_on_sale(&what, asked, now_ms)?;
                    // It may have been told before any order of the batch was held, or between two.
                    let told = (merchant.get(), *retry_after_ms);
                    self.check_rate_limited(&what, asked, told, Some(&tokens))?;
                }
                Ok(placed) => {
                    self.check_short_in_batch(&what, asked, placed, &moments, had_order, now_ms)?
                }
            }
        }
        // The batch's commit waits for all; each order by itself tells when it is durable.
        for order in answers.iter().filter_map(|answer| answer.as_ref().ok().and_then(order_of)) {
            self.view(engine, order)?;
        }
        self.keep("a batch", commit, facts, None)
    }

    fn check_short_in_batch(
        &mut self,
        what: &str,
        asked: &Asked,
        placed: &Placed,
        moments: &[AllFound],
        had_order: bool,
        now_ms: u64,
    ) -> Checked {
        self.check_not_latched(what)?;
        let Placed::Refused(refusal) = placed else { return Ok(()) };
        let held = self.orders.of_key(asked).filter(|(_, known)| known.asked.has_lines_of(asked));
        // Its key's order may be of this very batch, and placed after this was refused.
        hold_to!(held.is_none() || !had_order, "{what}: {placed:?}, but its key has {held:?}");
        self.check_short(what, asked, refusal, moments, now_ms)
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
