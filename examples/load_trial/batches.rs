//! A calling thread of `batch`: places many orders a call, with a window of batches in flight.

use std::collections::VecDeque;
use std::error::Error;

use doorbuster::{Commit, Engine, Order, PlaceError, Placed};

use crate::caller::{Orders, touched_window};
use crate::ledger::Page;
use crate::pace;
use crate::plan::Plan;
use crate::recorder::{Recorder, Teller, Timer};
use crate::shop;

type Failure = Box<dyn Error + Send + Sync>;
type Answers = Vec<Result<Placed, PlaceError>>;

struct InFlight {
    /// The first request of the batch.
    first: u32,
    from_ns: u64,
    commit: Commit<Answers>,
}

/// A calling thread with its window.
pub(crate) struct Batcher<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    page: Page<'a>,
    answered: Teller<'a>,
    recorder: Recorder,
    in_flight: VecDeque<Option<InFlight>>,
    /// How many may be in flight.
    batches: usize,
    /// The batch that is being made.
    batch: Vec<Order>,
    size: u32,
    timer: Timer,
}

impl<'a> Batcher<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        plan: &'a Plan,
        page: Page<'a>,
        answered: Teller<'a>,
        orders: &Orders,
        size: u32,
    ) -> Result<Self, Failure> {
        let batches = (orders.window / size as usize).max(1);
        Ok(Self {
            engine,
            plan,
            page,
            answered,
            recorder: Recorder::new()?,
            in_flight: touched_window(batches),
            batches,
            batch: Vec::with_capacity(size as usize),
            size,
            timer: Timer::start(),
        })
    }

    /// Sends the requests in batches and waits for their answers. In the open loop a batch is due
    /// when its last order is.
    pub(crate) fn send(mut self, timer: Timer, orders: &Orders) -> Result<Recorder, Failure> {
        self.timer = timer;
        let end = orders.requests.end;
        for first in orders.requests.clone().step_by(self.size as usize) {
            let last = end.min(first + self.size) - 1;
            let due_ns = orders.pace.due_ns(u64::from(last - orders.requests.start));
            self.settle_durable()?;
            if self.in_flight.len() == self.batches {
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
            self.place(first..=last, due_ns)?;
        }
        while !self.in_flight.is_empty() {
            self.settle_oldest()?;
        }
        self.recorder.end_ns = self.timer.ns();
        Ok(self.recorder)
    }

    fn place(
        &mut self,
        requests: std::ops::RangeInclusive<u32>,
        due_ns: Option<u64>,
    ) -> Result<(), Failure> {
        let first = *requests.start();
        self.batch.clear();
        self.batch.extend(requests.map(|request| self.plan.order(request)));
        let from_ns = due_ns.unwrap_or_else(|| self.timer.ns());
        let commit = self.engine.place_batch(&self.batch)?;
        self.recorder.place_ns.saturating_record(self.timer.ns_since(from_ns));
        self.in_flight.push_back(Some(InFlight { first, from_ns, commit }));
        Ok(())
    }

    fn settle_durable(&mut self) -> Result<(), Failure> {
        while let Some(Some(oldest)) = self.in_flight.front()
            && oldest.commit.is_durable()
        {
            self.settle_oldest()?;
        }
        Ok(())
    }

    fn settle_oldest(&mut self) -> Result<(), Failure> {
        let Some(Some(InFlight { first, from_ns, commit })) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let answers = commit.wait()?;
        for (request, answer) in (first..).zip(&answers) {
            match answer {
                Ok(placed) => self.page.enter(request, placed),
                // The log had no room for this one: it goes again, alone.
                Err(_) => {
                    let order = self.plan.order(request);
                    self.recorder.backlogged += 1;
                    let commit = shop::place(self.engine, &order, &mut self.recorder.backlogged)?;
                    self.page.enter(request, &commit.wait()?);
                }
            }
        }
        let took_ns = self.timer.ns_since(from_ns);
        self.recorder.commit_ns.saturating_record_n(took_ns, answers.len() as u64);
        self.answered.add(answers.len() as u64);
        Ok(())
    }
}
