//! What `place` may answer.

use std::collections::BTreeMap;

use doorbuster::testing::SteppedEngine;
use doorbuster::{
    Commit, Held, KeyField, KeyReused, Line, OrderId, OrderState, PartlyHeld, PlaceError, Placed,
    Refusal, Waiting,
};

use super::orders::{Asked, Known, Moment, partition_of};
use super::probe::Probe;
use super::{Broken, Checked, Fact, Judge, hold_to};

/// Whether a refusal is for the key's own time.
fn is_of_key(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::KeyTooOld { .. } | Refusal::KeyTooNew { .. })
}

impl Judge {
    /// Asks, and checks the answer.
    pub(crate) fn place(&mut self, engine: &SteppedEngine, asked: &Asked) -> Checked {
        let answer = engine.place(asked.order());
        self.placed(engine, asked, answer)
    }

    /// Checks an answer, and keeps its commit.
    pub(crate) fn placed(
        &mut self,
        engine: &SteppedEngine,
        asked: &Asked,
        answer: Result<Commit<Placed>, PlaceError>,
    ) -> Checked {
        let what = format!("place {asked:?}");
        let commit = match answer {
            Ok(commit) => commit,
            Err(error) => {
                let has_order = self.orders.of_key(asked).is_some();
                if let PlaceError::Unavailable(unavailable) = &error {
                    self.check_refused_answered(&what, asked, unavailable, engine.now_ms())?;
                }
                return self.check_place_error(engine, &what, asked, has_order, &error);
            }
        };
        let Some(placed) = commit.peek().cloned() else {
            return Err(Broken(format!("{what}: no answer to peek at")));
        };
        let facts = self.check_placed(engine, &what, asked, &placed)?;
        hold_to!(
            !facts.is_empty() || commit.is_durable(),
            "{what}: a refusal waits for a record, although it changed nothing"
        );
        self.keep(what, commit, facts, None)
    }

    /// Checks an answer; returns what it makes certain once its commit has resolved.
    pub(super) fn check_placed(
        &mut self,
        engine: &SteppedEngine,
        what: &str,
        asked: &Asked,
        placed: &Placed,
    ) -> Checked<Vec<Fact>> {
        self.check_not_latched(what)?;
        if let Some((order, known)) = self.orders.of_key(asked) {
            let (expected, moment) = (self.repeated(order, known, asked, placed), known.last());
            // Where refusals are remembered, nothing is refused before the key was looked at.
            let refused_skus = *placed != expected
                && !known.asked.has_lines_of(asked)
                && self.shape.remember.is_none();
            let is_of_skus = |refusal: &Refusal| refused_skus && !is_of_key(refusal);
            if let Placed::Refused(refusal) = placed
                && is_of_skus(refusal)
            {
                // A held key resent with other SKUs may receive their refusal.
                self.check_refusal(engine, what, asked, refusal)?;
                return Ok(Vec::new());
            }
            hold_to!(*placed == expected, "{what}: {placed:?}, but its key has {expected:?}");
            self.tally.met(match placed {
                Placed::Held(_) => "repeated",
                Placed::Partial(_) => "repeated, partly held",
                Placed::Waiting(_) => "repeated, of an order that waited",
                _ => "key reused",
            });
            return Ok(vec![Fact::Order { order, moment }]);
        }
        let now_ms = engine.now_ms();
        if let Some(fact) = self.check_remembered(what, asked, placed, now_ms)? {
            return Ok(vec![fact]);
        }
        match placed {
            Placed::Held(held) => {
                self.check_held(engine, what, asked, held, &[])?;
                Ok(vec![Fact::Order { order: held.order, moment: 0 }])
            }
            Placed::Partial(PartlyHeld { held, missing }) if !missing.is_empty() => {
                self.check_held(engine, what, asked, held, missing)?;
                self.tally.met("partly held");
                Ok(vec![Fact::Order { order: held.order, moment: 0 }])
            }
            Placed::Waiting(waiting) => {
                self.check_waiting(engine, what, asked, waiting)?;
                Ok(vec![Fact::Order { order: waiting.order, moment: 0 }])
            }
            Placed::Refused(refusal) => {
                self.check_refusal(engine, what, asked, refusal)?;
                Ok(self.note_refused(asked, *refusal, now_ms).into_iter().collect())
            }
            other => Err(Broken(format!("{what}: {other:?}, but its key is free"))),
        }
    }

    /// What a key that has an order is answered with. Where it is open for how long the order is held, the answer
    /// that was `told` decides whether that differs.
    pub(super) fn repeated(
        &self,
        order: OrderId,
        known: &Known,
        asked: &Asked,
        told: &Placed,
    ) -> Placed {
        let fields = known.holds_ms.iter().map(|ms| self.differing_field(&known.asked, *ms, asked));
        let mut repeats = fields.map(|field| match field {
            Some(field) => Placed::KeyReused(KeyReused { order: Some(order), field }),
            None => self.first_outcome(order, known, told),
        });
        let first = repeats.next();
        let is_told = |repeat: &Placed| repeat == told;
        repeats.find(is_told).or(first).unwrap_or_else(|| self.first_outcome(order, known, told))
    }

    fn first_outcome(&self, order: OrderId, known: &Known, told: &Placed) -> Placed {
        let state = match state_told(told) {
            // The engine ends what is over by itself, and is looked at later.
            Some(OrderState::Expired) if known.has_deadline() => OrderState::Expired,
            _ => known.state(),
        };
        if let Some(patience_ends_ms) =
            known.ends_ms(&known.moments[0]).filter(|_| known.has_waited())
        {
            let hold_ends_ms = known.was_served().then(|| known.deadline_ms());
            let replayed = true;
            return Placed::Waiting(Waiting {
                order,
                patience_ends_ms,
                replayed,
                state,
                hold_ends_ms,
            });
        }
        let held = Held { order, deadline_ms: known.deadline_ms(), replayed: true, state };
        let missing = known.missing();
        match missing.is_empty() {
            true => Placed::Held(held),
            false => Placed::Partial(PartlyHeld { held, missing }),
        }
    }

    /// The first field that differs between the first request with a key and a later one.
    pub(super) fn differing_field(
        &self,
        first: &Asked,
        first_hold_ms: u64,
        later: &Asked,
    ) -> Option<KeyField> {
        let hold_ms = later.hold_ms.unwrap_or(self.shape.hold_default_ms);
        let both_left_it = first.hold_ms.is_none() && later.hold_ms.is_none();
        if !first.has_lines_of(later) {
            return Some(KeyField::Lines);
        }
        if first_hold_ms != hold_ms && !both_left_it {
            return Some(KeyField::Hold);
        }
        if first.kind() != later.kind() {
            return Some(KeyField::Policy);
        }
        (first.payload.bytes() != later.payload.bytes()).then_some(KeyField::Payload)
    }

    /// A new order: it is counted from now on.
    fn check_held(
        &mut self,
        engine: &SteppedEngine,
        what: &str,
        asked: &Asked,
        held: &Held,
        missing: &[Line],
    ) -> Checked {
        let now_ms = engine.now_ms();
        let Held { order, deadline_ms, replayed, state } = *held;
        hold_to!(state == OrderState::Held, "{what}: {held:?}, but it is new");
        hold_to!(deadline_ms > now_ms, "{what}: held until {deadline_ms}, but it is {now_ms}");
        let hold_ms = deadline_ms - now_ms;
        self.check_new(what, asked, (order, replayed), now_ms)?;
        self.check_hold(what, asked, hold_ms)?;
        hold_to!(hold_ms <= self.shape.hold_max_ms, "{what}: it is held for {hold_ms} ms");
        let lines = self.check_lines(what, asked, missing, now_ms)?;
        self.add_order(order, asked, lines, vec![hold_ms], Moment::new(OrderState::Held, now_ms));
        self.tally.met("held");
        Ok(())
    }

    /// An order is new: it has an id and a key from now on.
    pub(super) fn check_new(
        &mut self,
        what: &str,
        asked: &Asked,
        (order, replayed): (OrderId, bool),
        now_ms: u64,
    ) -> Checked {
        hold_to!(!replayed, "{what}: {order} is said to be a repeat, but its key was free");
        hold_to!(self.given.insert(order), "{what}: {order} was given before");
        self.check_on_sale(what, asked, now_ms)?;
        self.take_tokens(what, asked)?;
        hold_to!(
            asked.lines.len() <= self.shape.lines_max,
            "{what}: {order}, but it is over a bound: {:?}",
            self.shape
        );
        let partition = self.orders.partition_of_buyer(asked.buyer);
        hold_to!(
            partition.unwrap_or(self.home_of(asked.buyer)) == partition_of(order),
            "{what}: {order}, but the buyer's orders are in partition {partition:?}"
        );
        if let Some(dated_ms) = asked.dated_ms {
            let oldest_ms = self.oldest_keys_ms(asked, now_ms);
            hold_to!(
                oldest_ms.iter().any(|oldest_ms| dated_ms >= *oldest_ms),
                "{what}: {order}, but its key is older than {oldest_ms:?}"
            );
            let newest_ms = self.newest_key_ms(now_ms);
            hold_to!(
                dated_ms <= newest_ms,
                "{what}: {order}, but its key is newer than {newest_ms}"
            );
        }
        Ok(())
    }

    pub(super) fn add_order(
        &mut self,
        order: OrderId,
        asked: &Asked,
        lines: BTreeMap<u64, u32>,
        holds_ms: Vec<u64>,
        moment: Moment,
    ) {
        let (asked, moments, arrival) = (asked.clone(), vec![moment], self.given.len() as u64);
        let (ended, counted) = Default::default();
        let known = Known { asked, lines, holds_ms, arrival, moments, ended, counted };
        self.orders.add(order, known);
    }

    fn check_refusal(
        &mut self,
        engine: &SteppedEngine,
        what: &str,
        asked: &Asked,
        refusal: &Refusal,
    ) -> Checked {
        let now_ms = engine.now_ms();
        if matches!(refusal, Refusal::BuyerLimit { .. } | Refusal::RateLimited { .. }) {
            self.check_on_sale(what, asked, now_ms)?;
        }
        match *refusal {
            Refusal::SoldOut { .. }
            | Refusal::OthersWaiting { .. }
            | Refusal::WaitingListFull { .. } => {
                self.check_short(what, asked, refusal, now_ms)?;
            }
            Refusal::BuyerLimit { sku, wanted, taken, limit } => {
                let counting = self.counting(sku.get());
                let (least, most) = self.orders.of_buyer(asked.buyer, sku.get(), counting, now_ms);
                let limits = self.limits(sku.get());
                hold_to!(
                    self.may_name(asked, sku.get(), wanted.get(), now_ms)
                        && limits.contains(&limit.get())
                        && (least..=most).contains(&taken)
                        && taken + u64::from(wanted.get()) > u64::from(limit.get()),
                    "{what}: {refusal:?}, but the buyer has {least} to {most} of {limits:?}"
                );
                self.tally
                    .met(asked.refused_as("over a limit", "over a limit, of a partial order"));
            }
            Refusal::KeyTooOld { key_ms, oldest_ms } => {
                let oldest = self.oldest_keys_ms(asked, now_ms);
                hold_to!(
                    asked.dated_ms == Some(key_ms)
                        && key_ms < oldest_ms
                        && oldest.contains(&oldest_ms),
                    "{what}: {refusal:?}, but keys are taken from {oldest:?} on"
                );
                self.tally.met("key too old");
            }
            Refusal::KeyTooNew { key_ms, newest_ms } => {
                let newest = self.newest_key_ms(now_ms);
                hold_to!(
                    asked.dated_ms == Some(key_ms) && key_ms > newest_ms && newest_ms == newest,
                    "{what}: {refusal:?}, but keys are taken up to {newest}"
                );
                self.tally.met("key too new");
            }
            Refusal::NotOpen { sku, opens_at_ms, now_ms: told_ms } => {
                hold_to!(told_ms == now_ms, "{what}: {refusal:?}, but it is {now_ms}");
                self.check_not_open(what, asked, (sku.get(), opens_at_ms), now_ms)?;
            }
            Refusal::Closed { sku, closed_at_ms } => {
                self.check_closed(what, asked, (sku.get(), closed_at_ms), now_ms)?;
            }
            Refusal::Switched { scope, switch } => {
                let skus = asked.folded().into_keys().collect();
                self.check_strictest(what, &skus, (scope, switch))?;
                self.tally.met("switched off");
            }
            Refusal::RateLimited { merchant, retry_after_ms } => {
                let told = (merchant.get(), retry_after_ms);
                self.check_rate_limited(what, asked, told)?;
            }
            other => return Err(Broken(format!("{what}: refused for {other:?}"))),
        }
        Ok(())
    }

    /// Whether the engine may say this; the key had an order before, or not.
    pub(super) fn check_place_error(
        &self,
        engine: &SteppedEngine,
        what: &str,
        asked: &Asked,
        has_order: bool,
        error: &PlaceError,
    ) -> Checked {
        match error {
            PlaceError::UnknownSku { sku } => {
                let asks = asked.lines.iter().any(|(line, _)| *line == sku.get());
                let known = self.orders.of_key(asked).map(|(_, known)| known);
                let repeats = known.is_some_and(|known| known.asked.has_lines_of(asked));
                hold_to!(
                    asks && !self.skus.is_known(sku.get()) && !repeats,
                    "{what}: {error}, but its stock was set, or its key has {known:?}"
                );
                Ok(())
            }
            PlaceError::Unavailable(unavailable) => {
                let latched = self.troubles.failed;
                hold_to!(!has_order || latched, "{what}: {error}, but its key has an order");
                self.check_unavailable(engine, what, unavailable, false)
            }
            other => {
                let hold_ms = asked.hold_ms.unwrap_or(self.shape.hold_default_ms);
                let is_over = match other {
                    PlaceError::HoldOutOfRange { .. } => hold_ms > self.shape.hold_max_ms,
                    PlaceError::TooManyLines { .. } => asked.lines.len() > self.shape.lines_max,
                    PlaceError::PatienceOutOfRange { .. } => {
                        asked.patience_ms().is_some_and(|ms| ms > self.shape.patience_max_ms)
                    }
                    _ => false,
                };
                hold_to!(
                    is_over && !has_order,
                    "{what}: {other}; its key has an order: {has_order}"
                );
                self.tally.met("over a bound");
                Ok(())
            }
        }
    }

    /// Checks an answer that was given while a cart had taken its first line, of the same SKU, and was not
    /// done. Whatever came of the cart counts as having come before.
    #[cfg(doorbuster_mutants)]
    pub(crate) fn placed_in_between(
        &mut self,
        engine: &SteppedEngine,
        asked: &Asked,
        answer: Result<Commit<Placed>, PlaceError>,
    ) -> Checked {
        if let Err(PlaceError::Contended { .. }) = answer {
            return Ok(());
        }
        let peeked = answer.as_ref().ok().and_then(Commit::peek);
        let Some(Placed::Refused(refusal @ Refusal::SoldOut { sku, wanted, .. })) = peeked.cloned()
        else {
            return self.placed(engine, asked, answer);
        };
        // What the cart may still return is not in the figure of the answer.
        let (what, now_ms) = (format!("in between, {asked:?}"), engine.now_ms());
        let available = self.available(sku.get());
        let is_free = self.orders.of_key(asked).is_none();
        hold_to!(
            is_free && available < i64::from(wanted.get()),
            "{what}: {refusal:?}, but {available} are available"
        );
        self.check_remembered(&what, asked, &Placed::Refused(refusal), now_ms)?;
        let facts = self.note_refused(asked, refusal, now_ms).into_iter().collect();
        answer.map_or(Ok(()), |commit| self.keep(what, commit, facts, None))
    }

    /// Whether two buyers are in different partitions.
    #[cfg(doorbuster_mutants)]
    pub(crate) fn are_apart(&self, one: u64, other: u64) -> bool {
        self.home_of(one) != self.home_of(other)
    }

    /// A probe for what a record about these SKUs returns to stock.
    pub(super) fn probe(
        &self,
        engine: &SteppedEngine,
        skus: impl Iterator<Item = u64>,
    ) -> Option<std::sync::Arc<Probe>> {
        Some(Probe::new(engine.engine(), skus))
    }
}

/// Where an answer says that its order stands.
fn state_told(placed: &Placed) -> Option<OrderState> {
    match placed {
        Placed::Waiting(waiting) => Some(waiting.state),
        placed => placed.held().map(|held| held.state),
    }
}
