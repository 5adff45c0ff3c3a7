//! The orders that wait for a SKU, and the order of service: lower classes first, then earlier arrivals.
//!
//! The timekeeper serves, and so does an open before the first call; the judge looks after each of them. The order of
//! service follows from what was available, from the list, and from whether smaller orders pass larger ones. The
//! engine may stop short of that only where the sale or a switch keeps the next order out, or the log cannot take the
//! record.

use std::collections::{BTreeMap, BTreeSet};

use doorbuster::testing::SteppedEngine;
use doorbuster::{
    OrderError, OrderId, OrderState, Placed, Refusal, Switch, TurnsReport, Viewed, Waiting,
};

use super::endings::check_content;
use super::orders::{Asked, Known, Moment, Orders, Policy};
use super::sale::Sale;
use super::{Broken, Checked, Fact, Judge, hold_to};

/// What there is of a SKU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) available: i64,
    /// How many stand in its list.
    pub(super) waiting: u64,
}

impl Found {
    /// What a new order can have: nothing while an order waits.
    pub(super) fn for_new(self) -> i64 {
        if self.waiting > 0 { 0 } else { self.available }
    }
}

/// The order that an answer names as placed, by this request or an earlier one.
pub(super) fn order_of(placed: &Placed) -> Option<OrderId> {
    match placed {
        Placed::Waiting(waiting) => Some(waiting.order),
        placed => placed.held().map(|held| held.order),
    }
}

impl Asked {
    pub(super) fn patience_ms(&self) -> Option<u64> {
        match self.policy {
            Policy::Wait { patience_ms } => Some(patience_ms),
            _ => None,
        }
    }

    /// By which a key is compared.
    pub(super) fn kind(&self) -> std::mem::Discriminant<Policy> {
        std::mem::discriminant(&self.policy)
    }
}

impl Known {
    /// Whether it joined a list.
    pub(super) fn has_waited(&self) -> bool {
        self.moments[0].state == OrderState::Waiting
    }

    pub(super) fn has_been_held(&self) -> bool {
        self.moments.iter().any(|moment| moment.state == OrderState::Held)
    }

    /// Whether it stands in a list: it waits, or has left by a record that a crash may yet take.
    fn stands(&self) -> bool {
        let left = |next: &Moment| next.state == OrderState::Held || next.durable.is_some();
        self.has_waited() && !self.moments.get(1).is_some_and(left)
    }
}

/// A place in a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    order: OrderId,
    class: u8,
    units: u32,
    /// It keeps its place and is not served any more.
    is_leaving: bool,
    is_retired: bool,
}

impl Orders {
    /// The orders in each SKU's list, the first one first.
    fn lists(&self) -> BTreeMap<u64, Vec<Standing>> {
        let mut standing: Vec<_> = self.iter().filter(|(_, known)| known.stands()).collect();
        standing.sort_by_key(|(_, known)| (known.asked.class, known.arrival));
        let mut lists = BTreeMap::<u64, Vec<Standing>>::new();
        for (order, known) in standing {
            let (class, is_retired) = (known.asked.class, known.is_retired());
            let is_leaving = known.state() != OrderState::Waiting;
            for (sku, units) in &known.lines {
                let standing = Standing { order, class, units: *units, is_leaving, is_retired };
                lists.entry(*sku).or_default().push(standing);
            }
        }
        lists
    }

    fn standing_for(&self, sku: u64) -> impl Iterator<Item = &Known> {
        let stands = move |known: &&Known| known.stands() && known.lines.contains_key(&sku);
        self.iter().map(|(_, known)| known).filter(stands)
    }

    /// Units that those in a SKU's list want.
    pub(super) fn wanted(&self, sku: u64) -> u64 {
        self.standing_for(sku).map(|known| u64::from(known.lines[&sku])).sum()
    }
}

/// The orders that a list serves from these units, one after the other. Where the turn comes to one that is `out`, no
/// order is served in its place.
fn turns(
    list: &[Standing],
    mut available: i64,
    passes: bool,
    is_out: impl Fn(&Standing) -> bool,
) -> Vec<Standing> {
    let (mut left, mut served) = (list.to_vec(), Vec::new());
    loop {
        let fits = |standing: &Standing| i64::from(standing.units) <= available;
        let next = left.iter().position(|standing| !passes || fits(standing));
        let next = next.filter(|next| fits(&left[*next]) && !is_out(&left[*next]));
        let Some(next) = next else { return served };
        available -= i64::from(left[next].units);
        served.push(left.remove(next));
    }
}

impl Judge {
    pub(super) fn found(&self, sku: u64) -> Found {
        let waiting = self.orders.standing_for(sku).count() as u64;
        Found { available: self.available(sku), waiting }
    }

    /// A refusal because there is too little, or others wait, or too many of them: it was true.
    pub(super) fn check_short(
        &mut self,
        what: &str,
        asked: &Asked,
        refusal: &Refusal,
        now_ms: u64,
    ) -> Checked {
        self.check_on_sale(what, asked, now_ms)?;
        let is_so = match *refusal {
            Refusal::WaitingListFull { sku, waiting, bound } => {
                let asks = asked.lines.iter().any(|(line, _)| *line == sku.get());
                let is_full = waiting >= bound && bound > 0;
                asks && is_full && self.found(sku.get()).waiting == waiting
            }
            _ => self.is_short(asked, refusal, now_ms, |sku| self.found(sku)),
        };
        let found = asked.folded().into_keys().map(|sku| (sku, self.found(sku)));
        hold_to!(is_so, "{what}: {refusal:?}, but there was {:?}", found.collect::<Vec<_>>());
        let bound = match *refusal {
            Refusal::WaitingListFull { bound, .. } => bound,
            // Without a list one that may wait is as any other.
            _ => 0,
        };
        if asked.patience_ms().is_some() {
            let sku = asked.lines[0].0;
            self.check_sale(what, sku, |sale| u64::from(sale.waiting_max) == bound)?;
        }
        let is_in_order = bound == 0 || asked.patience_ms().is_some();
        hold_to!(is_in_order, "{what}: {refusal:?}, but it may not wait");
        self.tally.met(match refusal {
            Refusal::WaitingListFull { .. } => "waiting list full",
            Refusal::OthersWaiting { .. } => "others wait",
            _ => asked.refused_as("sold out", "sold out for a partial order"),
        });
        Ok(())
    }

    /// A new order joins a list.
    pub(super) fn check_waiting(
        &mut self,
        engine: &SteppedEngine,
        what: &str,
        asked: &Asked,
        waiting: &Waiting,
    ) -> Checked {
        let now_ms = engine.now_ms();
        let Waiting { order, patience_ends_ms, replayed, state, hold_ends_ms } = *waiting;
        let is_new = state == OrderState::Waiting && hold_ends_ms.is_none();
        hold_to!(is_new, "{what}: {waiting:?}, but it is new");
        let Some(patience_ms) = asked.patience_ms() else {
            return Err(Broken(format!("{what}: {waiting:?}, but it may not wait")));
        };
        self.check_new(what, asked, (order, replayed), now_ms)?;
        hold_to!(
            patience_ends_ms == now_ms + patience_ms && patience_ms <= self.shape.patience_max_ms,
            "{what}: {waiting:?} at {now_ms}"
        );
        let lines = asked.folded();
        for (sku, units) in &lines {
            let found = self.found(*sku);
            hold_to!(
                found.waiting > 0 || found.available < i64::from(*units),
                "{what}: {waiting:?}, but there is {found:?}"
            );
            self.check_sale(what, *sku, |sale| u64::from(sale.waiting_max) > found.waiting)?;
            let left = self.left_by_limit(asked, *sku, now_ms).1;
            hold_to!(*units <= left, "{what}: {waiting:?}, but the buyer may have {left} more");
        }
        let holds_ms = self.holds_ms(asked, asked.lines[0].0);
        let moment = Moment::new(OrderState::Waiting, now_ms);
        self.add_order(order, asked, lines, holds_ms, moment);
        self.tally.met("waits");
        Ok(())
    }

    /// The timekeeper came by: orders that waited may be held, or have lost patience. `more`: it is not done.
    pub(crate) fn settle_served(&mut self, engine: &SteppedEngine, more: bool) -> Checked {
        let lists = self.orders.lists();
        if lists.is_empty() {
            return Ok(());
        }
        let when = "after the timekeeper's round";
        self.see_kept_back(engine, when)?;
        let is_hindered = more || self.is_hindered(engine);
        for (sku, list) in lists {
            let mut served = Vec::new();
            for standing in list.iter().filter(|standing| !standing.is_leaving) {
                let viewed = self.look_whether_served(engine, standing.order, is_hindered)?;
                served.extend(viewed.map(|viewed| (standing.order, viewed)));
            }
            let available = self.available(sku);
            self.check_served(engine, when, (sku, &list), available, served, is_hindered)?;
        }
        Ok(())
    }

    /// Whether an order waits as far as is certain.
    pub(crate) fn may_wait_in_log(&self) -> bool {
        let has_left = |next: &Moment| next.durable.is_some();
        let mut orders = self.orders.iter().map(|(_, known)| known);
        orders.any(|known| known.has_waited() && !known.moments.get(1).is_some_and(has_left))
    }

    /// Whether something may keep records from the log.
    pub(super) fn is_hindered(&self, engine: &SteppedEngine) -> bool {
        self.troubles.failed || self.troubles.short || self.is_backlogged(engine)
    }

    /// The view of an order that is held now, and waited when it was last looked at.
    fn look_whether_served(
        &self,
        engine: &SteppedEngine,
        order: OrderId,
        is_hindered: bool,
    ) -> Checked<Option<Viewed>> {
        let now_ms = engine.now_ms();
        let Some(known) = self.orders.get(order) else { return Ok(None) };
        let is_due = known.is_due(now_ms);
        match engine.position(order) {
            Ok(Some(_)) => {
                let may_stay = !is_due || is_hindered || self.may_halt(&known.skus()).0;
                hold_to!(may_stay, "at {now_ms} {order} waits still: {known:?}");
                return Ok(None);
            }
            Ok(None) => {}
            Err(error) => return Err(Broken(format!("the position of {order}: {error}"))),
        }
        match engine.order(order) {
            Ok(viewed) if viewed.view().state == OrderState::Held => Ok(Some(viewed)),
            Ok(viewed) if viewed.view().state == OrderState::Expired && is_due => Ok(None),
            other => Err(Broken(format!("at {now_ms} {order} is {other:?}: {known:?}"))),
        }
    }

    /// An open serves waiting orders before the first call.
    pub(super) fn check_served_at_open(
        &mut self,
        engine: &SteppedEngine,
        served: Vec<(OrderId, Viewed)>,
    ) -> Checked {
        self.tally.met_times("served at an open", served.len() as u64);
        let is_hindered = self.is_hindered(engine);
        let mut served: BTreeMap<OrderId, Viewed> = served.into_iter().collect();
        for (sku, list) in self.orders.lists() {
            let Some(levels) = engine.levels(sku) else {
                return Err(Broken(format!("SKU {sku} is gone, for which {list:?} wait")));
            };
            let taken = self.orders.taken(sku);
            let had = taken.held + taken.sold + taken.returning;
            let available = levels.stocked - levels.kept_back - had;
            let of_list = list.iter();
            let of_list = of_list.filter_map(|it| Some((it.order, served.remove(&it.order)?)));
            let of_list = of_list.collect();
            let of_sku = (sku, list.as_slice());
            self.check_served(engine, "at the open", of_sku, available, of_list, is_hindered)?;
        }
        Ok(())
    }

    /// These were served from a list; of all others it was not the turn.
    fn check_served(
        &mut self,
        engine: &SteppedEngine,
        when: &str,
        (sku, list): (u64, &[Standing]),
        available: i64,
        served: Vec<(OrderId, Viewed)>,
        is_hindered: bool,
    ) -> Checked {
        let now_ms = engine.now_ms();
        let may_be_off = self.may_be_at(Switch::NoNewHolds, &BTreeSet::from([sku])).0;
        let orders = &self.orders;
        let is_due = |it: &Standing| orders.get(it.order).is_some_and(|it| it.is_due(now_ms));
        let is_out = |it: &Standing| it.is_leaving || is_due(it);
        let of_them: BTreeSet<OrderId> = served.iter().map(|(order, _)| *order).collect();
        let is_right = |sale: &Sale| {
            let turns = turns(list, available, sale.waiting_passes, is_out);
            let done = turns.len().min(of_them.len());
            let next = turns.get(done);
            let may_stop = |next: &Standing| is_hindered || !sale.is_on(next.class, now_ms);
            turns[..done].iter().map(|it| it.order).collect::<BTreeSet<_>>() == of_them
                && (may_be_off || next.is_none_or(may_stop))
        };
        let sale = &mut self.skus.get_mut(sku).sale;
        hold_to!(
            sale.narrow(is_right),
            "{when}, at {now_ms}, {of_them:?} were served with {available} of SKU {sku}; {list:?} \
             stood there, and in force were {:?}",
            sale.acting()
        );
        for (order, viewed) in served {
            self.serve(engine, when, order, viewed)?;
        }
        Ok(())
    }

    /// An order that waited is held from now on.
    fn serve(
        &mut self,
        engine: &SteppedEngine,
        when: &str,
        order: OrderId,
        viewed: Viewed,
    ) -> Checked {
        let now_ms = engine.now_ms();
        let view = viewed.view().clone();
        let what = format!("{when}, {order} was served");
        let Some(known) = self.orders.get_mut(order) else { return Ok(()) };
        known.holds_ms.retain(|hold_ms| now_ms + hold_ms == view.deadline_ms);
        hold_to!(!known.holds_ms.is_empty(), "{what} at {now_ms}: {view:?}, {known:?}");
        check_content(&what, known, &view)?;
        hold_to!(!view.durable, "{what}, and that is durable at once");
        let is_told = view.served_from_list && view.changed_ms == now_ms;
        hold_to!(is_told, "{what} at {now_ms}: {view:?}");
        let asked = known.asked.clone();
        self.check_on_sale(&what, &asked, now_ms)?;
        let moment = self.orders.moved(order, OrderState::Held, now_ms);
        self.tally.met("served");
        self.keep(what, viewed.when_durable(), vec![Fact::Order { order, moment }], None)
    }

    /// What a log says that an engine was just opened from.
    pub(crate) fn check_turns(&self, report: &TurnsReport) -> Checked {
        let waits = |known: &Known| {
            known.moments.iter().all(|it| it.durable.is_none() || it.state == OrderState::Waiting)
        };
        let orders =
            || self.orders.iter().map(|(_, known)| known).filter(|known| known.has_waited());
        let (waiting, joined) = (orders().filter(|known| waits(known)).count(), orders().count());
        let may_pass = self.skus.iter().any(|(_, sku)| sku.may_have_passed);
        hold_to!(
            report.out_of_turn == 0
                && report.waiting == waiting as u64
                && report.joined == joined as u64
                && (report.passed == 0 || may_pass || report.lost > 0),
            "{report:?}, but {waiting} of {joined} wait, and smaller ones may pass: {may_pass}"
        );
        self.tally.met_times("served in turn, the log says", report.promoted);
        Ok(())
    }

    /// Every waiting order knows how many are before it.
    pub(crate) fn check_positions(&self, engine: &SteppedEngine, when: &str) -> Checked {
        for (sku, list) in self.orders.lists() {
            for (nth, standing) in (0_u64..).zip(&list) {
                let expected = (!standing.is_leaving).then_some(nth);
                let told = engine.position(standing.order);
                let is_right = match &told {
                    // It may leave memory before that it left the list is durable.
                    Err(OrderError::Retired { .. }) => standing.is_retired,
                    told => told.as_ref().is_ok_and(|told| *told == expected),
                };
                hold_to!(
                    is_right,
                    "{when}: the position of {} for SKU {sku} is {told:?}, not {expected:?}: {list:?}",
                    standing.order
                );
            }
        }
        Ok(())
    }
}
