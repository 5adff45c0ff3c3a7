//! What `place` may answer.

use doorbuster::testing::SteppedEngine;
use doorbuster::{
    Commit, Held, KeyField, KeyReused, OrderId, OrderState, PlaceError, Placed, Refusal,
};

use super::orders::{Asked, Known, Moment, partition_of};
use super::probe::Probe;
use super::{Broken, Checked, Fact, Judge, hold_to};

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

    /// Checks an answer; gives what it makes certain once its commit has resolved.
    pub(super) fn check_placed(
        &mut self,
        engine: &SteppedEngine,
        what: &str,
        asked: &Asked,
        placed: &Placed,
    ) -> Checked<Vec<Fact>> {
        self.check_not_latched(what)?;
        if let Some((order, known)) = self.orders.of_key(asked) {
            let (expected, moment) = (self.repeated(order, known, asked), known.last());
            let refused_skus = *placed != expected && known.lines != asked.folded();
            let is_of_skus =
                |refusal: &Refusal| refused_skus && !matches!(refusal, Refusal::KeyTooOld { .. });
            if let Placed::Refused(refusal) = placed
                && is_of_skus(refusal)
            {
                // A held key resent with other SKUs may hear their refusal.
                self.check_refusal(engine, what, asked, refusal)?;
                return Ok(Vec::new());
            }
            hold_to!(*placed == expected, "{what}: {placed:?}, but its key has {expected:?}");
            let held = matches!(placed, Placed::Held(_));
            self.tally.met(if held { "repeated" } else { "key reused" });
            return Ok(vec![Fact::Order { order, moment }]);
        }
        match placed {
            Placed::Held(held) => {
                self.check_held(engine, what, asked, held)?;
                Ok(vec![Fact::Order { order: held.order, moment: 0 }])
            }
            Placed::Refused(refusal) => {
                self.check_refusal(engine, what, asked, refusal)?;
                Ok(Vec::new())
            }
            other => Err(Broken(format!("{what}: {other:?}, but its key is free"))),
        }
    }

    /// What a key that has an order is answered with.
    fn repeated(&self, order: OrderId, known: &Known, asked: &Asked) -> Placed {
        let hold_ms = asked.hold_ms.unwrap_or(self.shape.hold_default_ms);
        let same_hold =
            known.hold_ms == hold_ms || (known.asked.hold_ms.is_none() && asked.hold_ms.is_none());
        let field = if known.lines != asked.folded() {
            KeyField::Lines
        } else if !same_hold {
            KeyField::Hold
        } else if known.asked.payload.bytes() != asked.payload.bytes() {
            KeyField::Payload
        } else {
            let deadline_ms = known.deadline_ms;
            return Placed::Held(Held { order, deadline_ms, replayed: true });
        };
        Placed::KeyReused(KeyReused { order, field })
    }

    /// A new order: it is counted from now on.
    fn check_held(
        &mut self,
        engine: &SteppedEngine,
        what: &str,
        asked: &Asked,
        held: &Held,
    ) -> Checked {
        let now_ms = engine.now_ms();
        let hold_ms = asked.hold_ms.unwrap_or(self.shape.hold_default_ms);
        let Held { order, deadline_ms, replayed } = *held;
        hold_to!(!replayed, "{what}: {order} is said to be a repeat, but its key was free");
        hold_to!(self.given.insert(order), "{what}: {order} was given before");
        hold_to!(
            deadline_ms == now_ms + hold_ms,
            "{what}: held until {deadline_ms}, but it is {now_ms}"
        );
        hold_to!(
            hold_ms <= self.shape.hold_max_ms && asked.lines.len() <= self.shape.lines_max,
            "{what}: {order}, but it is over a bound: {:?}",
            self.shape
        );
        let partition = self.orders.partition_of_buyer(asked.buyer);
        hold_to!(
            partition.is_none_or(|partition| partition == partition_of(order)),
            "{what}: {order}, but the buyer's orders are in partition {partition:?}"
        );
        for (sku, units) in asked.folded() {
            let available = self.available(sku);
            hold_to!(
                self.skus.is_known(sku) && available >= i64::from(units),
                "{what}: {order} holds {units} of SKU {sku}, of which {available} are available"
            );
            let counting = self.counting(sku);
            let (counted, _) = self.orders.of_buyer(asked.buyer, sku, counting, now_ms);
            let limits = self.limits(sku);
            let fits = |limit: &u32| *limit == 0 || counted + u64::from(units) <= u64::from(*limit);
            hold_to!(
                limits.iter().any(fits),
                "{what}: {order} holds {units} of SKU {sku}; the buyer has {counted} of {limits:?}"
            );
        }
        if let Some(dated_ms) = asked.dated_ms {
            let oldest_ms = self.oldest_keys_ms(asked, now_ms);
            hold_to!(
                oldest_ms.iter().any(|oldest_ms| dated_ms >= *oldest_ms),
                "{what}: {order}, but its key is older than {oldest_ms:?}"
            );
        }
        let known = Known {
            lines: asked.folded(),
            asked: asked.clone(),
            hold_ms,
            deadline_ms,
            moments: vec![Moment::new(OrderState::Held, now_ms)],
            ended: Default::default(),
            counted: Default::default(),
        };
        self.orders.add(order, known);
        self.tally.met("held");
        Ok(())
    }

    fn check_refusal(
        &mut self,
        engine: &SteppedEngine,
        what: &str,
        asked: &Asked,
        refusal: &Refusal,
    ) -> Checked {
        let now_ms = engine.now_ms();
        let lines = asked.folded();
        match *refusal {
            Refusal::SoldOut { sku, wanted, available } => {
                let found = self.available(sku.get());
                hold_to!(
                    lines.get(&sku.get()) == Some(&wanted.get())
                        && available == found
                        && available < i64::from(wanted.get()),
                    "{what}: {refusal:?}, but {found} are available"
                );
                for (earlier, units) in lines.range(..sku.get()) {
                    let found = self.available(*earlier);
                    hold_to!(
                        found >= i64::from(*units),
                        "{what}: {refusal:?}, but SKU {earlier} has only {found}"
                    );
                }
                self.tally.met("sold out");
            }
            Refusal::BuyerLimit { sku, wanted, taken, limit } => {
                let counting = self.counting(sku.get());
                let (least, most) = self.orders.of_buyer(asked.buyer, sku.get(), counting, now_ms);
                let limits = self.limits(sku.get());
                hold_to!(
                    lines.get(&sku.get()) == Some(&wanted.get())
                        && limits.contains(&limit.get())
                        && (least..=most).contains(&taken)
                        && taken + u64::from(wanted.get()) > u64::from(limit.get()),
                    "{what}: {refusal:?}, but the buyer has {least} to {most} of {limits:?}"
                );
                self.tally.met("over a limit");
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
                hold_to!(
                    asks && !self.skus.is_known(sku.get()),
                    "{what}: {error}, but its stock was set"
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
    #[cfg(doorbuster_wrong)]
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
        if let Some(Placed::Refused(Refusal::SoldOut { sku, wanted, .. })) = peeked {
            // What the cart may yet have given back is not in the figure that was told.
            let available = self.available(sku.get());
            let is_free = self.orders.of_key(asked).is_none();
            hold_to!(
                is_free && available < i64::from(wanted.get()),
                "in between, {asked:?}: {peeked:?}, but {available} are available"
            );
            return Ok(());
        }
        self.placed(engine, asked, answer)
    }

    /// Whether two buyers are known to be in different partitions.
    #[cfg(doorbuster_wrong)]
    pub(crate) fn are_apart(&self, one: u64, other: u64) -> bool {
        let partitions = [one, other].map(|buyer| self.orders.partition_of_buyer(buyer));
        matches!(partitions, [Some(one), Some(other)] if one != other)
    }

    /// A probe for what a record about these SKUs gives back.
    pub(super) fn probe(
        &self,
        engine: &SteppedEngine,
        skus: impl Iterator<Item = u64>,
    ) -> Option<std::sync::Arc<Probe>> {
        Some(Probe::new(engine.engine(), skus))
    }
}
