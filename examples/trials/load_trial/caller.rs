//! A calling thread that places one order a call, with a window of commits in flight.
//!
//! Nothing is allocated in the loop, nothing is shared with other threads but, once in 256 answers, a counter.
//! All memory is touched before the clock starts.

use std::collections::VecDeque;
use std::error::Error;
use std::ops::Range;

use doorbuster::Placed;

use crate::desk::{Desk, Sender, touched_window};
use crate::recorder::Recorder;
use crate::shared::pace::Pace;
use crate::shared::timer::Timer;
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

/// A calling thread with its window.
pub(crate) struct Caller<'a, S: Shop> {
    shop: &'a S,
    desk: Desk<'a>,
    /// The `Option` is for [`touched_window`]; every one is there.
    in_flight: VecDeque<Option<InFlight<S::Pending>>>,
}

struct InFlight<P> {
    request: u32,
    from_ns: u64,
    pending: P,
}

impl<'a, S: Shop> Caller<'a, S> {
    pub(crate) fn new(shop: &'a S, desk: Desk<'a>, orders: &Orders) -> Self {
        Self { shop, desk, in_flight: touched_window(orders.window) }
    }

    /// Sends the requests and waits for their answers.
    pub(crate) fn send(mut self, timer: Timer, orders: &Orders) -> Result<Recorder, Failure> {
        self.desk.timer = timer;
        let mut untimed_left = 0;
        for (nth, request) in orders.requests.clone().enumerate() {
            let due_ns = orders.pace.due_ns(nth as u64);
            if !self.prepare(orders, orders.window, due_ns)? {
                break;
            }
            let order = self.desk.plan.order(request);
            let from_ns = match (due_ns, untimed_left) {
                (Some(due_ns), _) => due_ns,
                (None, 0) => self.desk.timer.ns(),
                _ => UNTIMED,
            };
            if from_ns != UNTIMED && from_ns >= orders.end_ns {
                break;
            }
            let pending = shop::place(self.shop, &order, &mut self.desk.recorder.backlogged)?;
            if from_ns == UNTIMED {
                untimed_left -= 1;
            } else {
                untimed_left = orders.timed_one_in - 1;
                let took_ns = self.desk.timer.ns_since(from_ns);
                self.desk.recorder.place_ns.saturating_record(took_ns);
            }
            self.keep(InFlight { request, from_ns, pending })?;
        }
        self.settle_all()?;
        Ok(self.desk.close())
    }

    /// What is refused rests on nothing that must become durable; the rest waits in the window.
    fn keep(&mut self, in_flight: InFlight<S::Pending>) -> Result<(), Failure> {
        if let Some(Placed::Held(_)) = in_flight.pending.peek() {
            self.in_flight.push_back(Some(in_flight));
            return Ok(());
        }
        let placed = in_flight.pending.wait()?;
        self.desk.page.enter(in_flight.request, &placed);
        self.desk.answered.add(1);
        Ok(())
    }
}

impl<S: Shop> Sender for Caller<'_, S> {
    fn timer(&self) -> &Timer {
        &self.desk.timer
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn oldest_is_durable(&self) -> bool {
        matches!(self.in_flight.front(), Some(Some(oldest)) if oldest.pending.is_durable())
    }

    fn settle_oldest(&mut self) -> Result<(), Failure> {
        if let Some(Some(oldest)) = self.in_flight.pop_front() {
            let placed = oldest.pending.wait()?;
            if oldest.from_ns != UNTIMED {
                self.desk.note_durable(oldest.from_ns);
            }
            self.desk.page.enter(oldest.request, &placed);
            self.desk.answered.add(1);
        }
        Ok(())
    }
}
