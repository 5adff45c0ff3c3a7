//! What `stock` and `levels` may answer.

use doorbuster::testing::SteppedEngine;
use doorbuster::{Adjusted, Commit, KeyField, Quantity, StockError, StockLevels};

use super::stock::{Adjusting, Change, Kind, Sku};
use super::{Broken, Checked, Fact, Judge, hold_to};

/// What came of an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An earlier request with the key did it.
    Repeated,
    /// It is new, or was refused: its key had nothing.
    New,
}

impl Judge {
    pub(crate) fn adjust(&mut self, engine: &SteppedEngine, asked: &Adjusting) -> Checked {
        let answer = engine.stock(asked.sku, asked.adjust());
        self.adjusted(engine, asked, answer)
    }

    fn adjusted(
        &mut self,
        engine: &SteppedEngine,
        asked: &Adjusting,
        answer: Result<Commit<Adjusted>, StockError>,
    ) -> Checked {
        let what = format!("{asked:?}");
        let commit = match answer {
            Ok(commit) => commit,
            Err(StockError::UnknownSku { .. })
                if !self.skus.is_known(asked.sku)
                    && matches!(asked.kind, Kind::Take | Kind::TakeUpTo) =>
            {
                return Ok(());
            }
            Err(StockError::Unavailable(unavailable)) => {
                let has_key =
                    self.skus.get(asked.sku).is_some_and(|sku| sku.of_key(asked.key).is_some());
                hold_to!(
                    !has_key || self.troubles.failed,
                    "{what}: {unavailable}, but its key is used"
                );
                return self.check_unavailable(engine, &what, &unavailable, false);
            }
            Err(error) => return Err(Broken(format!("{what}: {error}"))),
        };
        self.check_not_latched(&what)?;
        let expected = self.expected_change(asked);
        hold_to!(
            commit.peek() == Some(&expected),
            "{what}: {:?}, expected {expected:?}",
            commit.peek()
        );
        let facts = self.note_change(asked, &expected);
        let gives_back = matches!(expected, Adjusted::Done { delta: 1.., replayed: false, .. });
        let probe = self.probe(engine, std::iter::once(asked.sku)).filter(|_| gives_back);
        self.keep(what, commit, facts, probe)
    }

    fn expected_change(&self, asked: &Adjusting) -> Adjusted {
        let nobody = Sku::default();
        let sku = self.skus.get(asked.sku).unwrap_or(&nobody);
        if let Some((_, change)) = sku.of_key(asked.key) {
            return repeated(change, asked);
        }
        let (logged, available) = (sku.logged(), self.available(asked.sku));
        let units = i64::from(asked.units);
        let delta = match asked.kind {
            Kind::Add => units,
            Kind::Take if available < units => {
                return Adjusted::TooFew { wanted: asked.units.into(), available };
            }
            Kind::Take => -units,
            Kind::TakeUpTo => -available.clamp(0, units),
            Kind::Set { expected } if i64::from(expected) != logged => {
                let stocked = logged.unsigned_abs();
                return Adjusted::Unexpected { expected: expected.into(), stocked };
            }
            Kind::Set { expected } => units - i64::from(expected),
        };
        done(asked, delta, logged + delta, false)
    }

    /// What the answer makes certain once its commit resolves.
    fn note_change(&mut self, asked: &Adjusting, answer: &Adjusted) -> Vec<Fact> {
        let sku = self.skus.get_mut(asked.sku);
        let nth = match (sku.of_key(asked.key), answer) {
            (Some((nth, _)), _) => Some(nth),
            (None, Adjusted::Done { delta, stocked, .. }) => {
                let (delta, stocked) = (*delta, i64::try_from(*stocked).unwrap_or(i64::MAX));
                sku.changes.push(Change { asked: asked.clone(), delta, stocked, durable: None });
                sku.was_set_lower |= delta < 0 && matches!(asked.kind, Kind::Set { .. });
                self.tally.met("adjusted");
                Some(sku.changes.len() - 1)
            }
            // It shows figures of the SKU's own records, and waits for the last of them.
            _ => sku.changes.len().checked_sub(1),
        };
        nth.map(|nth| Fact::Change { sku: asked.sku, nth }).into_iter().collect()
    }

    /// Units that the next buyer can have.
    pub(crate) fn available(&self, sku: u64) -> i64 {
        let taken = self.orders.taken(sku);
        let (stocked, kept_back) =
            self.skus.get(sku).map_or((0, 0), |sku| (sku.stocked(), sku.kept_back));
        stocked - taken.held - taken.sold - taken.returning - kept_back
    }

    /// The levels of every SKU, term by term. Holds that are over have been looked at before.
    pub(crate) fn check_levels(&mut self, engine: &SteppedEngine, when: &str) -> Checked {
        self.see_kept_back(engine, when)?;
        for (id, sku) in self.skus.iter() {
            let taken = self.orders.taken(id);
            let had = (taken.held, taken.sold, taken.returning);
            let expected = (sku.stocked(), self.available(id), had, self.orders.wanted(id));
            let of = |levels: StockLevels| {
                let StockLevels { stocked, available, held, sold, returning, .. } = levels;
                (stocked, available, (held, sold, returning), levels.waiting)
            };
            let levels = engine.levels(id).map(of);
            // An order that got nothing of it may have outlived what made it known.
            let is_named = levels.is_some() && self.orders.name(id);
            hold_to!(
                levels == (sku.is_known() || is_named).then_some(expected),
                "{when}: levels of SKU {id} (stocked, available, (held, sold, returning), waiting) are \
                 {levels:?}, not {expected:?}"
            );
        }
        Ok(())
    }

    /// After a reopen: sends again what no caller had an answer to, and learns what had survived. What one partition
    /// or SKU logged survives up to some point, and nothing after it.
    pub(super) fn resend_changes(&mut self, engine: &SteppedEngine) -> Checked {
        let ids: Vec<u64> = self.skus.iter().map(|(id, _)| id).collect();
        for id in ids {
            let stocked = engine.levels(id).map(|levels| levels.stocked);
            let sku = self.skus.get_mut(id);
            let certain = sku.changes.iter().take_while(|change| change.durable.is_some()).count();
            let unsure = sku.changes.split_off(certain);
            let mut resent = unsure.into_iter();
            let mut outcome = Outcome::Repeated;
            for change in resent.by_ref() {
                outcome = self.resend(engine, &change)?;
                if outcome == Outcome::New {
                    self.tally.met("unacknowledged and lost");
                    break;
                }
                self.tally.met("unacknowledged and survived");
            }
            // What the SKU had before the first that was done anew.
            let sku = self.skus.get_mut(id);
            let done_anew = |change: &&Change| change.durable.is_some();
            let survived: i64 =
                sku.changes.iter().filter(done_anew).map(|change| change.delta).sum();
            hold_to!(
                stocked.unwrap_or(0) == survived,
                "after a reopen {stocked:?} of SKU {id} are stocked; its records add up to {survived}"
            );
            debug_assert!(outcome == Outcome::New || resent.len() == 0);
            for change in resent {
                self.tally.met("unacknowledged and lost");
                self.adjust(engine, &change.asked)?;
            }
        }
        Ok(())
    }

    fn resend(&mut self, engine: &SteppedEngine, change: &Change) -> Checked<Outcome> {
        let asked = &change.asked;
        let answer = engine.stock(asked.sku, asked.adjust());
        if let Ok(commit) = &answer
            && let Some(Adjusted::Done { replayed: true, .. }) = commit.peek()
        {
            hold_to!(
                commit.is_durable() && commit.peek() == Some(&repeated(change, asked)),
                "after a reopen {asked:?}: {commit:?}, but it was {change:?}"
            );
            let durable = Some(super::At::Manifest);
            let change = Change { durable, ..change.clone() };
            self.skus.get_mut(asked.sku).changes.push(change);
            return Ok(Outcome::Repeated);
        }
        // Its key had nothing: this is judged as any other request.
        self.adjusted(engine, asked, answer)?;
        Ok(Outcome::New)
    }
}

/// What a key that was used is answered with.
fn repeated(change: &Change, asked: &Adjusting) -> Adjusted {
    let field = |field| Adjusted::KeyReused { field };
    let was = &change.asked;
    if std::mem::discriminant(&was.kind) != std::mem::discriminant(&asked.kind) {
        field(KeyField::Adjustment)
    } else if was.units != asked.units {
        field(KeyField::Quantity)
    } else if was.kind != asked.kind {
        field(KeyField::Expected)
    } else if was.reference != asked.reference {
        field(KeyField::Payload)
    } else {
        done(asked, change.delta, change.stocked, true)
    }
}

fn done(asked: &Adjusting, delta: i64, stocked: i64, replayed: bool) -> Adjusted {
    let shortfall = match asked.kind {
        Kind::TakeUpTo => i64::from(asked.units) + delta,
        _ => 0,
    };
    Adjusted::Done {
        delta,
        stocked: stocked.unsigned_abs(),
        shortfall: Quantity::new(shortfall.unsigned_abs() as u32),
        replayed,
    }
}
