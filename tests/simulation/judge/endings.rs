//! What confirm, cancel, fulfil and a read of an order may answer, and when a hold is over.

use std::collections::BTreeMap;

use doorbuster::testing::SteppedEngine;
use doorbuster::{
    BatchError, Commit, OrderError, OrderId, OrderState, OrderView, Switch, Transition, Unavailable,
};

use super::orders::Known;
use super::{Broken, Checked, Fact, Judge, hold_to};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Confirm,
    Cancel,
    Fulfil,
}

impl Verb {
    /// What it does to an order in this state.
    fn does(self, state: OrderState) -> Transition {
        use OrderState::{Cancelled, Confirmed, Fulfilled, Held, Waiting};
        match (self, state) {
            (Self::Confirm, Held) => Transition::Done { state: Confirmed },
            (Self::Cancel, Waiting | Held | Confirmed) => Transition::Done { state: Cancelled },
            (Self::Fulfil, Confirmed) => Transition::Done { state: Fulfilled },
            (Self::Confirm, Confirmed) | (Self::Cancel, Cancelled) | (Self::Fulfil, Fulfilled) => {
                Transition::AlreadyDone { state }
            }
            _ => Transition::NotAllowed { state },
        }
    }

    fn ask(self, engine: &SteppedEngine, order: OrderId) -> Result<Commit<Transition>, OrderError> {
        match self {
            Self::Confirm => engine.confirm(order),
            Self::Cancel => engine.cancel(order),
            Self::Fulfil => engine.fulfil(order),
        }
    }
}

impl Judge {
    pub(crate) fn end(&mut self, engine: &SteppedEngine, verb: Verb, order: OrderId) -> Checked {
        let what = format!("{verb:?} {order}");
        let now_ms = engine.now_ms();
        let known = self.orders.get(order);
        let is_due = known.is_some_and(|known| known.is_due(now_ms));
        let standing = known.map(Known::state);
        let commit = match verb.ask(engine, order) {
            Ok(commit) => commit,
            Err(OrderError::UnknownOrder { .. }) if standing.is_none() => return Ok(()),
            Err(OrderError::Retired { .. }) => return self.check_retired(&what, known),
            Err(OrderError::Unavailable(unavailable)) => {
                return self.check_unavailable(engine, &what, &unavailable, true);
            }
            Err(error) => return Err(Broken(format!("{what}: {error}, but it is {standing:?}"))),
        };
        self.check_not_latched(&what)?;
        hold_to!(
            !known.is_some_and(Known::is_retired),
            "{what}: {:?}, but it has left memory",
            commit.peek()
        );
        let (Some(standing), Some(told)) = (standing, commit.peek().copied()) else {
            return Err(Broken(format!("{what}: {:?}, but it never was", commit.peek())));
        };
        let skus = known.map(Known::skus).unwrap_or_default();
        let step = verb.does(standing);
        if let Transition::Halted { state, scope } = told {
            let would_change = matches!(step, Transition::Done { .. }) && state == standing;
            hold_to!(would_change, "{what}: {told:?}, but it was {standing:?}");
            self.check_strictest(&what, &skus, (scope, Switch::Halted))?;
            self.tally.met("halted");
        } else if is_due && told == step && !matches!(step, Transition::Done { .. }) {
            // It can never be, whether or not the hold is over, which a halt keeps it from.
            hold_to!(self.may_halt(&skus).0, "{what}: {told:?}, but nothing halts it");
        } else {
            let expected = if is_due { verb.does(OrderState::Expired) } else { step };
            hold_to!(told == expected, "{what}: {told:?} at {now_ms}, but it was {standing:?}");
            if is_due || matches!(told, Transition::Done { .. }) {
                self.check_switches(&what, &skus, Switch::Halted)?;
            }
            self.ended(order, is_due, told, now_ms);
        }
        let known = self.orders.get(order);
        let moment = known.map_or(0, Known::last);
        let gives_back = known.is_some_and(Known::is_returning);
        let skus: Vec<u64> =
            known.into_iter().flat_map(|known| known.lines.keys().copied()).collect();
        let probe = self.probe(engine, skus.into_iter()).filter(|_| gives_back);
        self.keep(what, commit, vec![Fact::Order { order, moment }], probe)
    }

    /// A verb was answered with this, and no halt.
    fn ended(&mut self, order: OrderId, was_due: bool, told: Transition, now_ms: u64) {
        if was_due {
            // The verb came at or after the deadline: the order has expired.
            self.orders.moved(order, OrderState::Expired, now_ms);
            self.tally.met("hold over when a verb came");
        }
        if let Transition::Done { state } = told {
            self.orders.moved(order, state, now_ms);
            self.tally.met("ended");
        }
    }

    /// Reads an order; a hold that is over may expire by that.
    pub(crate) fn view(&mut self, engine: &SteppedEngine, order: OrderId) -> Checked {
        let what = format!("view {order}");
        let now_ms = engine.now_ms();
        let Some(known) = self.orders.get(order) else {
            return match engine.order(order) {
                Err(OrderError::UnknownOrder { .. }) => Ok(()),
                other => Err(Broken(format!("{what}: {other:?}, but it never was"))),
            };
        };
        let mut is_due = known.is_due(now_ms);
        let viewed = match engine.order(order) {
            Ok(viewed) => viewed,
            Err(OrderError::Retired { .. }) => return self.check_retired(&what, Some(known)),
            // It is over, and its expiry cannot be logged now.
            Err(OrderError::Unavailable(unavailable)) if is_due => {
                return self.check_unavailable(engine, &what, &unavailable, true);
            }
            Err(error) => return Err(Broken(format!("{what}: {error}, but it is {known:?}"))),
        };
        let view = viewed.view().clone();
        check_content(&what, known, &view)?;
        hold_to!(!known.is_retired(), "{what}: {view:?}, but it has left memory");
        let (standing, skus) = (known.state(), known.skus());
        if is_due && view.state == standing {
            hold_to!(self.may_halt(&skus).0, "{what}: {view:?} at {now_ms}, but nothing halts it");
            self.tally.met("hold over under a halt");
            is_due = false;
        }
        let expected = if is_due { OrderState::Expired } else { standing };
        hold_to!(
            view.state == expected,
            "{what}: {:?} at {now_ms}, but it is {standing:?} until {}",
            view.state,
            known.deadline_ms()
        );
        hold_to!(view.deadline_ms == known.deadline_ms(), "{what}: {view:?}, but it is {known:?}");
        check_change(&what, known, &view, now_ms)?;
        if is_due && is_latched(engine) {
            // Nothing can be logged any more: it is shown as over, and stays what it is.
            hold_to!(self.troubles.failed, "{what}: latched, but no call has failed");
            hold_to!(!view.durable, "{what}: shown as durable, but it cannot be logged");
            return Ok(());
        }
        let is_durable = known.moments.last().is_some_and(|moment| moment.durable.is_some());
        hold_to!(
            is_due || view.durable == is_durable,
            "{what}: durable {}, but its commit says {is_durable}",
            view.durable
        );
        if is_due {
            self.check_switches(&what, &skus, Switch::Halted)?;
            self.orders.moved(order, OrderState::Expired, now_ms);
            self.tally.met("expired");
        }
        let moment = self.orders.get(order).map_or(0, Known::last);
        let skus: Vec<u64> = view.lines.iter().map(|line| line.sku.get()).collect();
        let probe = self.probe(engine, skus.into_iter()).filter(|_| is_due);
        self.keep(what, viewed.when_durable(), vec![Fact::Order { order, moment }], probe)
    }

    /// Looks at every hold that is over, so that the model has them as the engine has.
    pub(crate) fn settle_due(&mut self, engine: &SteppedEngine) -> Checked {
        let due = self.orders.due(engine.now_ms());
        due.into_iter().try_for_each(|order| self.view(engine, order))
    }

    /// Whether some partition may be at its bound for endings.
    pub(super) fn is_backlogged(&self, engine: &SteppedEngine) -> bool {
        let share = self.shape.backlog_bytes / self.shape.partitions as u64;
        engine.stats().backlog_bytes + 32 > share
    }

    /// The timekeeper says that nothing more is due: no deadline may have been missed.
    pub(crate) fn check_deadlines(&self, engine: &SteppedEngine) -> Checked {
        if self.troubles.failed || self.is_backlogged(engine) {
            return Ok(());
        }
        let now_ms = engine.now_ms();
        let mut held = BTreeMap::<u64, (i64, i64)>::new();
        let all = self.orders.iter().map(|(_, known)| known);
        for known in all.filter(|known| known.state() == OrderState::Held) {
            let (may_halt, may_go_on) = match known.is_due(now_ms) {
                true => self.may_halt(&known.skus()),
                false => (true, false),
            };
            for (sku, units) in &known.lines {
                let (least, most) = held.entry(*sku).or_default();
                *least += if may_go_on { 0 } else { i64::from(*units) };
                *most += if may_halt { i64::from(*units) } else { 0 };
            }
        }
        for (sku, _) in self.skus.iter() {
            let (least, most) = held.get(&sku).copied().unwrap_or_default();
            let levels = engine.levels(sku).map_or(0, |levels| levels.held);
            hold_to!(
                (least..=most).contains(&levels),
                "after the timekeeper's round at {now_ms}, {levels} of SKU {sku} are held; \
                 {least} to {most} have a deadline ahead or are halted"
            );
        }
        Ok(())
    }
}

/// Whether verbs are refused since a call failed.
fn is_latched(engine: &SteppedEngine) -> bool {
    matches!(engine.place_batch(&[]), Err(BatchError::Unavailable(Unavailable::Latched { .. })))
}

/// Whether a view shows when the order came into its state, and how.
pub(super) fn check_change(what: &str, known: &Known, view: &OrderView, now_ms: u64) -> Checked {
    let last = known.last_told();
    let changed_ms = match view.state {
        // The engine ends what is over by itself, and is looked at later.
        OrderState::Expired if known.has_deadline() => view.deadline_ms..=now_ms,
        OrderState::Expired => view.deadline_ms..=last.at_ms,
        _ => last.at_ms..=last.at_ms,
    };
    hold_to!(
        changed_ms.contains(&view.changed_ms) && view.served_from_list == known.was_served(),
        "{what}: {view:?}, but it is {known:?}"
    );
    Ok(())
}

/// Whether a view shows what was placed.
pub(super) fn check_content(what: &str, known: &Known, view: &OrderView) -> Checked {
    let lines = view.lines.iter().map(|line| (line.sku.get(), line.quantity.get()));
    let asked = &known.asked;
    let class = known.has_waited().then_some(asked.class);
    hold_to!(
        view.placed_ms == known.moments[0].at_ms
            && known.holds_ms.contains(&view.hold_ms.into())
            && view.class == class,
        "{what}: {view:?}, but it was placed as {known:?}"
    );
    hold_to!(
        view.buyer == asked.buyer.into()
            && view.key == asked.request_key()
            && lines.eq(known.lines.iter().map(|(sku, units)| (*sku, *units)))
            && view.missing == known.missing()
            && view.payload == asked.payload.bytes(),
        "{what}: {view:?}, but it was placed as {known:?}"
    );
    Ok(())
}
