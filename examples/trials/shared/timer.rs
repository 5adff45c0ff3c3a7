//! The clock that calling threads read, and what they note its readings in.

use std::error::Error;

use hdrhistogram::Histogram;
use quanta::Clock;

type Failure = Box<dyn Error + Send + Sync>;

/// The histogram resolves latencies up to ten minutes, to three digits.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
const LATENCY_DIGITS: u8 = 3;

/// Nanoseconds since the trial began. Reads the processor's time stamp counter, which costs half of what the
/// operating system's clock does.
#[derive(Clone)]
pub(crate) struct Timer {
    clock: Clock,
    start: u64,
}

impl Timer {
    pub(crate) fn start() -> Self {
        let clock = Clock::new();
        let start = clock.raw();
        Self { clock, start }
    }

    pub(crate) fn ns(&self) -> u64 {
        self.clock.delta_as_nanos(self.start, self.clock.raw())
    }

    /// How long ago `from_ns` was, at least 1: histograms have no zero.
    pub(crate) fn ns_since(&self, from_ns: u64) -> u64 {
        self.ns().saturating_sub(from_ns).max(1)
    }
}

/// A histogram of nanoseconds, its memory touched.
pub(crate) fn histogram() -> Result<Histogram<u64>, Failure> {
    let mut histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)?;
    histogram.reset();
    Ok(histogram)
}
