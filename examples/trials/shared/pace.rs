//! When requests are due: at once (closed loop), or at fixed times whatever the engine does (open loop).

use crate::shared::timer::Timer;

/// Further ahead than this a thread sleeps; nearer it looks again and again, since a sleep ends late.
const SLEEP_NS_MIN: u64 = 300_000;
/// So much earlier than due a sleep is to end.
const SLEEP_MARGIN_NS: u64 = 150_000;
/// Further ahead than this a thread lets others have its processor.
const YIELD_NS_MIN: u64 = 5_000;

/// The times at which one thread's requests are due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as the thread can.
    Closed,
    Open {
        /// Of this thread's first request.
        first_ns: f64,
        interval_ns: f64,
    },
}

impl Pace {
    /// The pace of one of `threads`, which share `rate` and take turns.
    pub(crate) fn of(rate: Option<u32>, thread: u32, threads: u32) -> Self {
        match rate {
            None => Self::Closed,
            Some(rate) => {
                let every_ns = 1e9 / f64::from(rate);
                Self::Open {
                    first_ns: every_ns * f64::from(thread),
                    interval_ns: every_ns * f64::from(threads),
                }
            }
        }
    }

    /// When the n-th request of the thread is due, counted from 0.
    pub(crate) fn due_ns(self, nth: u64) -> Option<u64> {
        match self {
            Self::Closed => None,
            Self::Open { first_ns, interval_ns } => {
                Some((first_ns + interval_ns * nth as f64) as u64)
            }
        }
    }
}

/// Passes a little of the time until `due_ns`.
pub(crate) fn idle(timer: &Timer, due_ns: u64) {
    let ahead = due_ns.saturating_sub(timer.ns());
    if ahead >= SLEEP_NS_MIN {
        std::thread::sleep(std::time::Duration::from_nanos(ahead - SLEEP_MARGIN_NS));
    } else if ahead >= YIELD_NS_MIN {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}
