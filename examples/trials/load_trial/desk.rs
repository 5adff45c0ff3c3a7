//! What every calling thread has, whatever it sends: a desk, on which answers in flight wait.

use std::collections::VecDeque;
use std::error::Error;

use crate::caller::Orders;
use crate::ledger::Page;
use crate::plan::Plan;
use crate::recorder::{Recorder, Teller};
use crate::shared::pace;
use crate::shared::timer::Timer;

type Failure = Box<dyn Error + Send + Sync>;

/// What a thread reads and writes while it sends. Nothing of it is shared with other threads but the plan.
pub(crate) struct Desk<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) page: Page<'a>,
    pub(crate) answered: Teller<'a>,
    pub(crate) recorder: Recorder,
    /// Set when the clock starts.
    pub(crate) timer: Timer,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        page: Page<'a>,
        answered: Teller<'a>,
    ) -> Result<Self, Failure> {
        let (recorder, timer) = (Recorder::new()?, Timer::start());
        Ok(Self { plan, page, answered, recorder, timer })
    }

    /// What was measured, once all is answered.
    pub(crate) fn close(mut self) -> Recorder {
        self.recorder.end_ns = self.timer.ns();
        self.recorder
    }

    /// An answer that came `from_ns` on became durable.
    pub(crate) fn note_durable(&mut self, from_ns: u64) {
        self.recorder.commit_ns.saturating_record(self.timer.ns_since(from_ns));
    }
}

/// An empty window of answers whose memory was touched.
pub(crate) fn touched_window<T>(capacity: usize) -> VecDeque<Option<T>> {
    let mut window = VecDeque::with_capacity(capacity);
    window.resize_with(capacity, || None);
    window.clear();
    window
}

/// A thread with answers in flight, oldest first.
pub(crate) trait Sender {
    fn timer(&self) -> &Timer;

    fn in_flight(&self) -> usize;

    fn oldest_is_durable(&self) -> bool;

    /// Waits for the oldest answer and takes it, if there is one.
    fn settle_oldest(&mut self) -> Result<(), Failure>;

    /// Takes what is durable. Partitions have log shards of their own, so a younger answer may be durable
    /// before an older one: it is seen when the older one is.
    fn settle_durable(&mut self) -> Result<(), Failure> {
        while self.oldest_is_durable() {
            self.settle_oldest()?;
        }
        Ok(())
    }

    fn settle_all(&mut self) -> Result<(), Failure> {
        while self.in_flight() > 0 {
            self.settle_oldest()?;
        }
        Ok(())
    }

    /// Makes room for another answer, and waits until the request is due, taking what becomes durable
    /// meanwhile. `false`: in the open loop there is nothing more to send.
    fn prepare(
        &mut self,
        orders: &Orders,
        window: usize,
        due_ns: Option<u64>,
    ) -> Result<bool, Failure> {
        self.settle_durable()?;
        while self.in_flight() >= window {
            self.settle_oldest()?;
        }
        let Some(due_ns) = due_ns else { return Ok(true) };
        if due_ns >= orders.end_ns {
            return Ok(false);
        }
        while self.timer().ns() < due_ns {
            self.settle_durable()?;
            pace::idle(self.timer(), due_ns);
        }
        Ok(true)
    }
}
