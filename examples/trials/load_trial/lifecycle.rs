//! A calling thread of `lifecycle`: places orders and, when one is durable, confirms, cancels or leaves it,
//! and fulfils what is confirmed, all in a window of commits.

use std::collections::VecDeque;
use std::error::Error;

use doorbuster::{Commit, Engine, OrderError, OrderId, Placed, Transition};

use crate::caller::Orders;
use crate::desk::{Desk, Sender, touched_window};
use crate::plan::Fate;
use crate::recorder::Recorder;
use crate::shared::patience::ask;
use crate::shared::timer::Timer;
use crate::shop;

type Failure = Box<dyn Error + Send + Sync>;
type Verb = fn(&Engine, OrderId) -> Result<Commit<Transition>, OrderError>;

/// A calling thread with its window.
pub(crate) struct Shopper<'a> {
    engine: &'a Engine,
    desk: Desk<'a>,
    in_flight: VecDeque<Option<InFlight>>,
}

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

impl<'a> Shopper<'a> {
    pub(crate) fn new(engine: &'a Engine, desk: Desk<'a>, orders: &Orders) -> Self {
        Self { engine, desk, in_flight: touched_window(orders.window) }
    }

    /// Sends the requests, and what follows from them, and waits for all answers.
    pub(crate) fn send(mut self, timer: Timer, orders: &Orders) -> Result<Recorder, Failure> {
        self.desk.timer = timer;
        for (nth, request) in orders.requests.clone().enumerate() {
            let due_ns = orders.pace.due_ns(nth as u64);
            if !self.prepare(orders, orders.window, due_ns)? {
                break;
            }
            let order = self.desk.plan.order(request);
            let from_ns = due_ns.unwrap_or_else(|| self.desk.timer.ns());
            if from_ns >= orders.end_ns {
                break;
            }
            let commit = shop::place(self.engine, &order, &mut self.desk.recorder.backlogged)?;
            let took_ns = self.desk.timer.ns_since(from_ns);
            self.desk.recorder.place_ns.saturating_record(took_ns);
            self.in_flight.push_back(Some(InFlight::Placed { request, from_ns, commit }));
        }
        self.settle_all()?;
        Ok(self.desk.close())
    }

    /// A new order is durable: what its plan asks for next.
    fn follow(&mut self, request: u32, placed: &Placed) -> Result<(), Failure> {
        let Some(held) = placed.held() else { return Ok(()) };
        match self.desk.plan.fate(request) {
            Fate::Confirmed | Fate::Fulfilled => {
                self.change(request, held.order, Fate::Confirmed, Engine::confirm)
            }
            Fate::Cancelled => self.change(request, held.order, Fate::Cancelled, Engine::cancel),
            Fate::Held | Fate::Expired => Ok(()),
        }
    }

    fn change(
        &mut self,
        request: u32,
        order: OrderId,
        to: Fate,
        verb: Verb,
    ) -> Result<(), Failure> {
        let from_ns = self.desk.timer.ns();
        let commit = ask(self.engine, || verb(self.engine, order))?;
        let took_ns = self.desk.timer.ns_since(from_ns);
        self.desk.recorder.verb_ns.saturating_record(took_ns);
        self.desk.recorder.verbs += 1;
        let changed = InFlight::Changed { request, from_ns, order, to, commit };
        self.in_flight.push_back(Some(changed));
        Ok(())
    }
}

impl Sender for Shopper<'_> {
    fn timer(&self) -> &Timer {
        &self.desk.timer
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn oldest_is_durable(&self) -> bool {
        matches!(self.in_flight.front(), Some(Some(oldest)) if oldest.is_durable())
    }

    /// In its place one more may be in flight afterwards, never two.
    fn settle_oldest(&mut self) -> Result<(), Failure> {
        match self.in_flight.pop_front().flatten() {
            None => Ok(()),
            Some(InFlight::Placed { request, from_ns, commit }) => {
                let placed = commit.wait()?;
                self.desk.note_durable(from_ns);
                self.desk.page.enter(request, &placed);
                self.desk.answered.add(1);
                self.follow(request, &placed)
            }
            Some(InFlight::Changed { request, from_ns, order, to, commit }) => {
                let transition = commit.wait()?;
                self.desk.note_durable(from_ns);
                let as_planned = transition == Transition::Done { state: to.state() };
                self.desk.recorder.unplanned += u64::from(!as_planned);
                match (to, self.desk.plan.fate(request)) {
                    (Fate::Confirmed, Fate::Fulfilled) => {
                        self.change(request, order, Fate::Fulfilled, Engine::fulfil)
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}
