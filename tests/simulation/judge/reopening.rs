//! What a folder must hold when it is opened again.

use std::collections::BTreeMap;

use doorbuster::clock::Clock;
use doorbuster::testing::{ManualClock, SteppedEngine};
use doorbuster::{Commit, OpenError, OrderError, OrderId, OrderState, Viewed};

use super::endings::{check_change, check_content};
use super::orders::{Known, Moment};
use super::{At, Broken, Checked, Damage, Fact, Judge, hold_to};

/// By partition, what happened in it, in order: an order and its moment.
pub(super) type Events = BTreeMap<u64, Vec<(OrderId, usize)>>;

impl Judge {
    /// The engine is gone: every commit has resolved, one way or the other.
    pub(crate) fn engine_ended(&mut self) -> Checked {
        self.resolve(At::Somewhere, true)?;
        self.hear(true)
    }

    /// It was closed without an error: all that was asked for is durable.
    pub(crate) fn closed(&mut self) -> Checked {
        for (order, known) in self.orders.iter_mut() {
            let durable = known.last_told().durable.is_some();
            hold_to!(durable, "a clean close left {order} undurable");
            for moment in &mut known.moments {
                moment.durable.get_or_insert(At::Manifest);
            }
        }
        for (sku, known) in self.skus.iter() {
            let durable = known.changes.iter().all(|change| change.durable.is_some())
                && known.sale.is_durable();
            hold_to!(durable, "a clean close left records of SKU {sku} undurable: {known:?}");
        }
        let durable = self.switches.are_durable();
        hold_to!(durable, "a clean close left switches undurable: {:?}", self.switches);
        let durable = self.refusals.are_durable();
        hold_to!(durable, "a clean close left refusals undurable: {:?}", self.refusals);
        Ok(())
    }

    /// The folder was opened again: compares all that is there with all that was told, and goes on from
    /// what is there.
    pub(crate) fn reopened(
        &mut self,
        engine: &SteppedEngine,
        damage: &Damage,
        accepts_jump: bool,
        clock: &ManualClock,
    ) -> Checked {
        let log_ms = self.log_ms(damage);
        let latest_ms = self.time.latest_ms;
        self.time.reopened(engine.now_ms(), log_ms, accepts_jump, clock)?;
        let events = self.orders.take_events();
        let doubtful = self.doubt(damage);
        let ids: Vec<OrderId> = self.orders.ids().collect();
        let (mut survived, mut served) = (BTreeMap::new(), Vec::new());
        for order in ids {
            if let Some(last) = self.survivor(engine, order, &mut served)? {
                survived.insert(order, last);
            }
        }
        check_prefixes(&events, &survived)?;
        self.reopen_refusals((&events, &survived), latest_ms, |at| !damage.may_have_taken(at));
        self.check_served_at_open(engine, served)?;
        if let Some((one, other)) = self.orders.find_keys() {
            return Err(Broken(format!("after a reopen {one} and {other} have one key")));
        }
        for order in self.lost_orders() {
            let found = engine.order(order);
            hold_to!(
                matches!(found, Err(OrderError::UnknownOrder { .. })),
                "{order} was lost in a crash, and is there again: {found:?}"
            );
        }
        self.see_kept_back(engine, "after a reopen")?;
        self.resend_changes(engine)?;
        self.count_cut(&doubtful, damage);
        self.check_levels(engine, "after a reopen")?;
        self.check_positions(engine, "after a reopen")?;
        self.check_not_oversold()?;
        self.check_keys(engine)?;
        self.check_refused_keys(engine)
    }

    /// What was acknowledged, and is in the window of R13 now, may be gone: it counts as if no caller had an answer.
    /// Returns what that is.
    fn doubt(&mut self, damage: &Damage) -> Vec<Fact> {
        let mut doubtful = Vec::new();
        let mut doubt = |durable: &mut Option<At>, fact| {
            if durable.is_some_and(|at| damage.may_have_taken(at)) {
                *durable = None;
                doubtful.push(fact);
            }
        };
        for (order, known) in self.orders.iter_mut() {
            for (nth, moment) in known.moments.iter_mut().enumerate() {
                doubt(&mut moment.durable, Fact::Order { order, moment: nth });
            }
        }
        for (id, sku) in self.skus.iter_mut() {
            for (nth, change) in sku.changes.iter_mut().enumerate() {
                doubt(&mut change.durable, Fact::Change { sku: id, nth });
            }
            sku.reopen_rules(|at| !damage.may_have_taken(at));
        }
        self.reopen_sales();
        self.switches.reopen(|at| !damage.may_have_taken(at), self.clock.boot_ns());
        doubtful
    }

    /// Counts what the window has in fact swallowed.
    fn count_cut(&mut self, doubtful: &[Fact], damage: &Damage) {
        let is_there = |durable: Option<At>| durable == Some(At::Manifest);
        let is_gone = |fact: &&Fact| match **fact {
            Fact::Order { order, moment } => {
                let known = self.orders.get(order);
                !known.is_some_and(|known| {
                    known.moments.get(moment).is_some_and(|moment| is_there(moment.durable))
                })
            }
            Fact::Change { sku, nth } => {
                let change = self.skus.get(sku).and_then(|sku| sku.changes.get(nth));
                !change.is_some_and(|change| is_there(change.durable))
            }
            Fact::Rule { .. }
            | Fact::Switch { .. }
            | Fact::Merchant { .. }
            | Fact::Refusal { .. } => false,
        };
        let gone = doubtful.iter().filter(is_gone).count() as u64;
        if damage.is_power_loss {
            self.tally.met_times("written: acknowledged and gone", gone);
        } else {
            self.tally.met_times("window of R13: acknowledged and gone", gone);
            self.tally.met_times("window of R13: opens", u64::from(gone > 0));
        }
    }

    /// The latest time that something in the log carries for certain.
    pub(crate) fn log_ms(&self, damage: &Damage) -> u64 {
        let is_certain =
            |known: &Known| known.moments[0].durable.is_some_and(|at| !damage.may_have_taken(at));
        let certain = self.orders.iter().filter(|(_, known)| is_certain(known));
        certain.map(|(_, known)| known.moments[0].at_ms).max().unwrap_or(0)
    }

    /// What survived of an order: its last moment, or nothing.
    fn survivor(
        &mut self,
        engine: &SteppedEngine,
        order: OrderId,
        served: &mut Vec<(OrderId, Viewed)>,
    ) -> Checked<Option<usize>> {
        let Some(known) = self.orders.get(order) else { return Ok(None) };
        let certain = known.moments.iter().rposition(|moment| moment.durable.is_some());
        let what = format!("after a reopen, {order}");
        // One that is over may expire when it is looked at.
        let held_before = held_of(engine, known);
        let waits = matches!(engine.position(order), Ok(Some(_)));
        let viewed = match engine.order(order) {
            Ok(viewed) => viewed,
            Err(OrderError::UnknownOrder { .. }) => {
                hold_to!(certain.is_none(), "{what} is lost, but it was acknowledged: {known:?}");
                self.tally.met("unacknowledged and lost");
                self.orders.forget(order);
                return Ok(None);
            }
            Err(OrderError::Retired { .. }) => {
                self.check_retired(&what, Some(known))?;
                let last = known.last();
                if let Some(known) = self.orders.get_mut(order) {
                    known.moments.iter_mut().for_each(|it| it.durable = Some(At::Manifest));
                }
                return Ok(Some(last));
            }
            Err(OrderError::Unavailable(unavailable)) => {
                self.check_unavailable(engine, &what, &unavailable, true)?;
                let state = if waits { OrderState::Waiting } else { OrderState::Held };
                return self.survived_as_due(engine, order, &what, state);
            }
            Err(error) => return Err(Broken(format!("{what}: {error}"))),
        };
        let view = viewed.view().clone();
        check_content(&what, known, &view)?;
        let now_ms = engine.now_ms();
        let just_expired = view.state == OrderState::Expired && !view.durable;
        let just_served = known.has_waited() && view.state == OrderState::Held && !view.durable;
        let state = match just_expired || just_served {
            true if !known.has_waited() || held_of(engine, known) < held_before => OrderState::Held,
            true => OrderState::Waiting,
            false => view.state,
        };
        let is_just_so = view.durable || just_expired || just_served;
        hold_to!(is_just_so, "{what} was read from the log, but is not durable");
        let first = certain.unwrap_or(0);
        let shown = |moment: &Moment| moment.state == state && !moment.retired;
        let last = (first..known.moments.len()).find(|moment| shown(&known.moments[*moment]));
        let Some(last) = last else {
            return Err(Broken(format!(
                "{what} is {:?}, durable {}; certain is moment {certain:?} of {:?}",
                view.state, view.durable, known.moments
            )));
        };
        if certain.is_none_or(|certain| certain < last) {
            self.tally.met("unacknowledged and survived");
        }
        if let Some(known) = self.orders.get_mut(order) {
            if known.is_retired() {
                self.tally.met("back in memory after a crash");
            }
            known.moments.truncate(last + 1);
            for moment in &mut known.moments {
                moment.durable = Some(At::Manifest);
            }
            if just_served {
                served.push((order, viewed));
                return Ok(Some(last));
            }
            hold_to!(
                view.deadline_ms == known.deadline_ms() && (!just_expired || known.is_due(now_ms)),
                "{what} at {now_ms}: {view:?}, but it was {known:?}"
            );
            check_change(&what, known, &view, now_ms)?;
            if just_expired {
                known.moments.push(Moment::new(OrderState::Expired, now_ms));
                let fact = Fact::Order { order, moment: known.last() };
                self.keep(what, viewed.when_durable(), vec![fact], None)?;
            }
        }
        Ok(Some(last))
    }

    /// So many holds are over that their expiries fill the backlog: this one is still held in the log, or waits.
    fn survived_as_due(
        &mut self,
        engine: &SteppedEngine,
        order: OrderId,
        what: &str,
        state: OrderState,
    ) -> Checked<Option<usize>> {
        let now_ms = engine.now_ms();
        let Some(known) = self.orders.get_mut(order) else { return Ok(None) };
        let last = known.moments.iter().position(|moment| moment.state == state);
        let was = format!("{what}: to expire at {now_ms}, but it was {known:?}");
        let later = known.moments.split_off(last.map_or(0, |last| last + 1));
        let is_certain = later.iter().any(|moment| moment.durable.is_some());
        hold_to!(last.is_some() && !is_certain && known.is_due(now_ms), "{was}");
        known.moments.iter_mut().for_each(|moment| moment.durable = Some(At::Manifest));
        Ok(last)
    }

    /// Whatever a crash took, what is left never adds up to more than the stock; less than nothing is
    /// available only where the host set the stock below what was sold, or keeps back more than there is.
    fn check_not_oversold(&self) -> Checked {
        for (id, sku) in self.skus.iter() {
            let available = self.available(id) + sku.kept_back;
            hold_to!(
                available >= 0 || sku.was_set_lower,
                "after a reopen {available} of SKU {id} are available: it is oversold"
            );
        }
        Ok(())
    }

    /// Every key that has an order is answered with it.
    fn check_keys(&mut self, engine: &SteppedEngine) -> Checked {
        let in_memory = self.orders.iter().filter(|(_, known)| !known.is_retired());
        let all: Vec<(OrderId, Known)> = in_memory.map(|(id, known)| (id, known.clone())).collect();
        for (order, known) in all {
            let answer = engine.place(known.asked.order());
            let told = answer.as_ref().ok().and_then(Commit::peek);
            let expected = told.map(|told| self.repeated(order, &known, &known.asked, told));
            hold_to!(
                told.is_some() && told == expected.as_ref(),
                "after a reopen, the key of {order}: {answer:?}, but it was {known:?}"
            );
        }
        Ok(())
    }

    /// The open was refused as damaged: whether it may be, and whether it says where.
    pub(crate) fn check_refused(&mut self, error: &OpenError, damage: &Damage) -> Checked {
        let (shard, path) = match error {
            OpenError::Corrupt { shard, path, .. } => (shard.map(usize::from), path),
            OpenError::NotAnEngine { path, .. } => (None, path),
            other => return Err(Broken(format!("open: {other}"))),
        };
        hold_to!(damage.may_refuse(), "open refused, but nothing is damaged: {error}");
        let path = path.strip_prefix("memory").unwrap_or(path).to_string_lossy();
        let of_path = super::blocks::shard_of(&path);
        let names_shard = shard.or(of_path).is_some_and(|shard| damage.shards.contains(&shard));
        let names_manifest = damage.manifest && path == "MANIFEST";
        let names_checkpoint = damage.base.is_missing()
            && damage.base.damaged > 0
            && path.starts_with(super::checkpoints::FOLDER);
        if names_checkpoint {
            self.tally.met("open refused for damaged checkpoints");
        }
        hold_to!(
            names_shard || names_manifest || names_checkpoint,
            "open refused, but the error names something else than what is damaged: {error}; {damage:?}"
        );
        let lies = damage.is_beyond_repair;
        self.tally.met(if lies { "open refused for lies" } else { "open refused for damage" });
        Ok(())
    }
}

/// Units of an order's first SKU that are held by anyone.
fn held_of(engine: &SteppedEngine, known: &Known) -> i64 {
    let sku = known.lines.keys().next().and_then(|sku| engine.levels(*sku));
    sku.map_or(0, |levels| levels.held)
}

/// What a partition logged survives up to some point, and nothing after it.
fn check_prefixes(events: &Events, survived: &BTreeMap<OrderId, usize>) -> Checked {
    for (partition, events) in events {
        let is_there = |(order, moment): &(OrderId, usize)| {
            survived.get(order).is_some_and(|last| last >= moment)
        };
        let first_lost = events.iter().position(|event| !is_there(event));
        let Some(first_lost) = first_lost else { continue };
        if let Some(later) = events[first_lost..].iter().find(|event| is_there(event)) {
            return Err(Broken(format!(
                "partition {partition}: {later:?} survived a crash, {:?} before it did not",
                events[first_lost]
            )));
        }
    }
    Ok(())
}
