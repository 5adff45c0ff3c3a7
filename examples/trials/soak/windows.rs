//! How long commits took, by window of time: each calling thread fills its own histograms and hands them over
//! when a window is past.

use std::error::Error;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::shared::timer::histogram;

type Failure = Box<dyn Error + Send + Sync>;

/// Histograms that wait to be used again: more are freed.
const SPARE_MAX: usize = 64;

/// What one thread saw become durable in one window.
pub(crate) struct Part {
    pub(crate) thread: usize,
    pub(crate) window: u64,
    /// The thread has seen all that it will see.
    pub(crate) is_last: bool,
    /// Due in this window.
    pub(crate) within: Histogram<u64>,
    /// Due in an earlier one.
    pub(crate) across: Histogram<u64>,
}

/// Where threads hand over.
pub(crate) struct Windows {
    window_ns: u64,
    past: Mutex<Vec<Part>>,
    spare: Mutex<Vec<Part>>,
}

impl Windows {
    pub(crate) fn new(window_ms: u32) -> Self {
        let window_ns = u64::from(window_ms) * 1_000_000;
        Self { window_ns, past: Mutex::default(), spare: Mutex::default() }
    }

    pub(crate) fn window_ns(&self) -> u64 {
        self.window_ns
    }

    /// The window that a time is in.
    pub(crate) fn of(&self, ns: u64) -> u64 {
        ns / self.window_ns
    }

    /// What was handed over since the last call.
    pub(crate) fn take_past(&self) -> Vec<Part> {
        std::mem::take(&mut *self.past.lock())
    }

    /// To be used again.
    pub(crate) fn give_back(&self, mut part: Part) {
        part.within.reset();
        part.across.reset();
        let mut spare = self.spare.lock();
        if spare.len() < SPARE_MAX {
            spare.push(part);
        }
    }

    pub(crate) fn recorder(&self, thread: usize) -> Result<Recorder<'_>, Failure> {
        Ok(Recorder { windows: self, part: self.part(thread, 0)? })
    }

    fn part(&self, thread: usize, window: u64) -> Result<Part, Failure> {
        let spare = self.spare.lock().pop();
        let (within, across) = match spare {
            Some(part) => (part.within, part.across),
            None => (histogram()?, histogram()?),
        };
        Ok(Part { thread, window, is_last: false, within, across })
    }
}

/// One thread's.
pub(crate) struct Recorder<'a> {
    windows: &'a Windows,
    part: Part,
}

impl Recorder<'_> {
    /// A commit that was due then was seen durable so much later.
    pub(crate) fn note(&mut self, due_ns: u64, took_ns: u64) -> Result<(), Failure> {
        self.turn_to(due_ns + took_ns)?;
        let part = &mut self.part;
        let histogram = match self.windows.of(due_ns) < part.window {
            true => &mut part.across,
            false => &mut part.within,
        };
        histogram.saturating_record(took_ns);
        Ok(())
    }

    /// Hands over what is past by now.
    fn turn_to(&mut self, now_ns: u64) -> Result<(), Failure> {
        let window = self.windows.of(now_ns);
        if window > self.part.window {
            let next = self.windows.part(self.part.thread, window)?;
            let past = std::mem::replace(&mut self.part, next);
            self.windows.past.lock().push(past);
        }
        Ok(())
    }
}

/// However a thread ends, no other thread waits for its windows.
impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        let Part { thread, window, .. } = self.part;
        if let Ok(next) = self.windows.part(thread, window) {
            let last = std::mem::replace(&mut self.part, next);
            self.windows.past.lock().push(Part { is_last: true, ..last });
        }
    }
}
