//! A calling thread that places one order a call, with a window of commits in flight.
//!
//! Nothing is allocated in the loop, nothing is shared with other threads but a stop sign and, once in 256
//! answers, a counter. All memory is touched before the clock starts.

use std::collections::VecDeque;
use std::error::Error;
use std::ops::Range;

use doorbuster::Placed;

use crate::ledger::Page;
use crate::pace::{self, Pace};
use crate::plan::Plan;
use crate::recorder::{Recorder, Teller, Timer};
use crate::shop::{self, Pending, Shop};

type Failure = Box<dyn Error + Send + Sync>;

/// A call whose time is not taken.
const UNTIMED: u64 = u64::MAX;

/// How a thread sends its requests.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) requests: Range<u32>,
    pub(crate) pace: Pace,
    pub(crate) window: usize,
    pub(crate) timed_one_in: u32,
    /// Nothing is sent from then on.
    pub(crate) end_ns: u64,
}

/// Commits in flight, oldest first. The `Option` is for [`touched_window`]; every one is there.
type Window<P> = VecDeque<Option<InFlight<P>>>;

/// An empty window whose memory was touched.
pub(crate) fn touched_window<T>(capacity: usize) -> VecDeque<Option<T>> {
    let mut window = VecDeque::with_capacity(capacity);
    window.resize_with(capacity, || None);
    window.clear();
    window
}

/// A calling thread with its window.
pub(crate) struct Caller<'a, S: Shop> {
    shop: &'a S,
    plan: &'a Plan,
    page: Page<'a>,
    answered: Teller<'a>,
    recorder: Recorder,
    in_flight: Window<S::Pending>,
    /// Set when the clock starts.
    timer: Timer,
}

struct InFlight<P> {
    request: u32,
    from_ns: u64,
    pending: P,
}

impl<'a, S: Shop> Caller<'a, S> {
    pub(crate) fn new(
        shop: &'a S,
        plan: &'a Plan,
        page: Page<'a>,
        answered: Teller<'a>,
        orders: &Orders,
    ) -> Result<Self, Failure> {
        let in_flight = touched_window(orders.window);
        let (recorder, timer) = (Recorder::new()?, Timer::start());
        Ok(Self { shop, plan, page, answered, recorder, in_flight, timer })
    }

    /// Sends the requests and waits for their answers.
    pub(crate) fn send(mut self, timer: Timer, orders: &Orders) -> Result<Recorder, Failure> {
        self.timer = timer;
        let mut untimed_left = 0;
        for (nth, request) in orders.requests.clone().enumerate() {
            let due_ns = orders.pace.due_ns(nth as u64);
            self.prepare(orders, due_ns)?;
            let order = self.plan.order(request);
            let from_ns = match (due_ns, untimed_left) {
                (Some(due_ns), _) => due_ns,
                (None, 0) => self.timer.ns(),
                _ => UNTIMED,
            };
            if from_ns != UNTIMED && from_ns >= orders.end_ns {
                break;
            }
            let pending = shop::place(self.shop, &order, &mut self.recorder.backlogged)?;
            if from_ns == UNTIMED {
                untimed_left -= 1;
            } else {
                untimed_left = orders.timed_one_in - 1;
                self.recorder.place_ns.saturating_record(self.timer.ns_since(from_ns));
            }
            self.keep(InFlight { request, from_ns, pending })?;
        }
        while !self.in_flight.is_empty() {
            self.settle_oldest()?;
        }
        self.recorder.end_ns = self.timer.ns();
        Ok(self.recorder)
    }

    /// Makes room in the window, waits until the request is due, and takes what became durable meanwhile.
    fn prepare(&mut self, orders: &Orders, due_ns: Option<u64>) -> Result<(), Failure> {
        self.settle_durable()?;
        if self.in_flight.len() == orders.window {
            self.settle_oldest()?;
        }
        if let Some(due_ns) = due_ns.filter(|&due_ns| due_ns < orders.end_ns) {
            while self.timer.ns() < due_ns {
                self.settle_durable()?;
                pace::idle(&self.timer, due_ns);
            }
        }
        Ok(())
    }

    /// What is refused rests on nothing that must become durable; the rest waits in the window.
    fn keep(&mut self, in_flight: InFlight<S::Pending>) -> Result<(), Failure> {
        if let Some(Placed::Held(_)) = in_flight.pending.peek() {
            self.in_flight.push_back(Some(in_flight));
            return Ok(());
        }
        let placed = in_flight.pending.wait()?;
        self.page.enter(in_flight.request, &placed);
        self.answered.add(1);
        Ok(())
    }

    /// Partitions have log shards of their own, so a younger commit may be durable before an older one: it
    /// is seen when the older one is.
    fn settle_durable(&mut self) -> Result<(), Failure> {
        while let Some(Some(oldest)) = self.in_flight.front()
            && oldest.pending.is_durable()
        {
            self.settle_oldest()?;
        }
        Ok(())
    }

    fn settle_oldest(&mut self) -> Result<(), Failure> {
        if let Some(Some(oldest)) = self.in_flight.pop_front() {
            let placed = oldest.pending.wait()?;
            if oldest.from_ns != UNTIMED {
                let took_ns = self.timer.ns_since(oldest.from_ns);
                self.recorder.commit_ns.saturating_record(took_ns);
            }
            self.page.enter(oldest.request, &placed);
            self.answered.add(1);
        }
        Ok(())
    }
}
