//! A calling thread of `lifecycle`: places orders and, when one is durable, confirms, cancels or leaves it,
//! and fulfils what is confirmed, all in a window of commits.

use std::collections::VecDeque;
use std::error::Error;

use doorbuster::{Commit, Engine, OrderError, OrderId, Placed, Transition};

use crate::caller::{Orders, touched_window};
use crate::ledger::Page;
use crate::pace;
use crate::patience::ask;
use crate::plan::{Fate, Plan};
use crate::recorder::{Recorder, Teller, Timer};
use crate::shop;

type Failure = Box<dyn Error + Send + Sync>;
type Verb = fn(&Engine, OrderId) -> Result<Commit<Transition>, OrderError>;

/// What waits for the disk.
enum InFlight {
    Placed { request: u32, from_ns: u64, commit: Commit<Placed> },
    Changed { request: u32, from_ns: u64, order: OrderId, to: Fate, commit: Commit<Transition> },
}

impl InFlight {
    fn is_durable(&self) -> bool {
        match self {
            Self::Placed { commit, .. } => commit.is_durable(),
            Self::Changed { commit, .. } => commit.is_durable(),
        }
    }
}

/// A calling thread with its window.
pub(crate) struct Shopper<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    page: Page<'a>,
    answered: Teller<'a>,
    recorder: Recorder,
    in_flight: VecDeque<Option<InFlight>>,
    timer: Timer,
}

impl<'a> Shopper<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        plan: &'a Plan,
        page: Page<'a>,
        answered: Teller<'a>,
        orders: &Orders,
    ) -> Result<Self, Failure> {
        let in_flight = touched_window(orders.window);
        let (recorder, timer) = (Recorder::new()?, Timer::start());
        Ok(Self { engine, plan, page, answered, recorder, in_flight, timer })
    }

    /// Sends the requests, and what follows from them, and waits for all answers.
    pub(crate) fn send(mut self, timer: Timer, orders: &Orders) -> Result<Recorder, Failure> {
        self.timer = timer;
        for (nth, request) in orders.requests.clone().enumerate() {
            let due_ns = orders.pace.due_ns(nth as u64);
            self.settle_durable()?;
            while self.in_flight.len() >= orders.window {
                self.settle_oldest()?;
            }
            if due_ns.unwrap_or_else(|| self.timer.ns()) >= orders.end_ns {
                break;
            }
            while let Some(due_ns) = due_ns
                && self.timer.ns() < due_ns
            {
                self.settle_durable()?;
                pace::idle(&self.timer, due_ns);
            }
            let order = self.plan.order(request);
            let from_ns = due_ns.unwrap_or_else(|| self.timer.ns());
            let commit = shop::place(self.engine, &order, &mut self.recorder.backlogged)?;
            self.recorder.place_ns.saturating_record(self.timer.ns_since(from_ns));
            self.in_flight.push_back(Some(InFlight::Placed { request, from_ns, commit }));
        }
        while !self.in_flight.is_empty() {
            self.settle_oldest()?;
        }
        self.recorder.end_ns = self.timer.ns();
        Ok(self.recorder)
    }

    fn settle_durable(&mut self) -> Result<(), Failure> {
        while self.in_flight.front().is_some_and(|it| it.as_ref().is_some_and(InFlight::is_durable))
        {
            self.settle_oldest()?;
        }
        Ok(())
    }

    /// One more may be in flight afterwards in its place, never two.
    fn settle_oldest(&mut self) -> Result<(), Failure> {
        match self.in_flight.pop_front().flatten() {
            None => Ok(()),
            Some(InFlight::Placed { request, from_ns, commit }) => {
                let placed = commit.wait()?;
                self.recorder.commit_ns.saturating_record(self.timer.ns_since(from_ns));
                self.page.enter(request, &placed);
                self.answered.add(1);
                match (placed.held(), self.plan.fate(request)) {
                    (Some(held), Fate::Confirmed | Fate::Fulfilled) => {
                        self.change(request, held.order, Fate::Confirmed, Engine::confirm)
                    }
                    (Some(held), Fate::Cancelled) => {
                        self.change(request, held.order, Fate::Cancelled, Engine::cancel)
                    }
                    _ => Ok(()),
                }
            }
            Some(InFlight::Changed { request, from_ns, order, to, commit }) => {
                let transition = commit.wait()?;
                self.recorder.commit_ns.saturating_record(self.timer.ns_since(from_ns));
                let as_planned = transition == Transition::Done { state: to.state() };
                self.recorder.unplanned += u64::from(!as_planned);
                match (to, self.plan.fate(request)) {
                    (Fate::Confirmed, Fate::Fulfilled) => {
                        self.change(request, order, Fate::Fulfilled, Engine::fulfil)
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn change(
        &mut self,
        request: u32,
        order: OrderId,
        to: Fate,
        verb: Verb,
    ) -> Result<(), Failure> {
        let from_ns = self.timer.ns();
        let commit = ask(self.engine, || verb(self.engine, order))?;
        self.recorder.verb_ns.saturating_record(self.timer.ns_since(from_ns));
        self.recorder.verbs += 1;
        let changed = InFlight::Changed { request, from_ns, order, to, commit };
        self.in_flight.push_back(Some(changed));
        Ok(())
    }
}
