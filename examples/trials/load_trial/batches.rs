//! A calling thread of `batch`: places many orders a call, with a window of batches in flight.

use std::collections::VecDeque;
use std::error::Error;
use std::ops::RangeInclusive;

use doorbuster::{Commit, Engine, Order, PlaceError, Placed};

use crate::caller::Orders;
use crate::desk::{Desk, Sender, touched_window};
use crate::recorder::Recorder;
use crate::shared::timer::Timer;
use crate::shop;

type Failure = Box<dyn Error + Send + Sync>;
type Answers = Vec<Result<Placed, PlaceError>>;

/// A calling thread with its window.
pub(crate) struct Batcher<'a> {
    engine: &'a Engine,
    desk: Desk<'a>,
    in_flight: VecDeque<Option<InFlight>>,
    /// How many batches may be in flight.
    batches: usize,
    /// The batch that is being made.
    batch: Vec<Order>,
    size: u32,
}

struct InFlight {
    /// The first request of the batch.
    first: u32,
    from_ns: u64,
    commit: Commit<Answers>,
}

impl<'a> Batcher<'a> {
    pub(crate) fn new(engine: &'a Engine, desk: Desk<'a>, orders: &Orders, size: u32) -> Self {
        let batches = (orders.window / size as usize).max(1);
        let batch = Vec::with_capacity(size as usize);
        Self { engine, desk, in_flight: touched_window(batches), batches, batch, size }
    }

    /// Sends the requests in batches and waits for their answers. In the open loop a batch is due when its
    /// last order is.
    pub(crate) fn send(mut self, timer: Timer, orders: &Orders) -> Result<Recorder, Failure> {
        self.desk.timer = timer;
        let end = orders.requests.end;
        for first in orders.requests.clone().step_by(self.size as usize) {
            let last = end.min(first + self.size) - 1;
            let due_ns = orders.pace.due_ns(u64::from(last - orders.requests.start));
            if !self.prepare(orders, self.batches, due_ns)?
                || !self.place(first..=last, orders, due_ns)?
            {
                break;
            }
        }
        self.settle_all()?;
        Ok(self.desk.close())
    }

    /// `false`: the time is over.
    fn place(
        &mut self,
        requests: RangeInclusive<u32>,
        orders: &Orders,
        due_ns: Option<u64>,
    ) -> Result<bool, Failure> {
        let first = *requests.start();
        self.batch.clear();
        self.batch.extend(requests.map(|request| self.desk.plan.order(request)));
        let from_ns = due_ns.unwrap_or_else(|| self.desk.timer.ns());
        if from_ns >= orders.end_ns {
            return Ok(false);
        }
        let commit = self.engine.place_batch(&self.batch)?;
        let took_ns = self.desk.timer.ns_since(from_ns);
        self.desk.recorder.place_ns.saturating_record(took_ns);
        self.in_flight.push_back(Some(InFlight { first, from_ns, commit }));
        Ok(true)
    }
}

impl Sender for Batcher<'_> {
    fn timer(&self) -> &Timer {
        &self.desk.timer
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn oldest_is_durable(&self) -> bool {
        matches!(self.in_flight.front(), Some(Some(oldest)) if oldest.commit.is_durable())
    }

    fn settle_oldest(&mut self) -> Result<(), Failure> {
        let Some(Some(InFlight { first, from_ns, commit })) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let Desk { plan, page, answered, recorder, timer } = &mut self.desk;
        let answers = commit.wait()?;
        for (request, answer) in (first..).zip(&answers) {
            match answer {
                Ok(placed) => page.enter(request, placed),
                // The log had no room for this one: it goes again, alone.
                Err(_) => {
                    recorder.backlogged += 1;
                    let order = plan.order(request);
                    let commit = shop::place(self.engine, &order, &mut recorder.backlogged)?;
                    page.enter(request, &commit.wait()?);
                }
            }
        }
        let orders = answers.len() as u64;
        recorder.commit_ns.saturating_record_n(timer.ns_since(from_ns), orders);
        answered.add(orders);
        Ok(())
    }
}
