//! Time: the [`Clock`] trait, the system's clock, and engine time (rule R14 of the guide).
//!
//! Invariants of engine time: it never runs backwards, not between threads, and across a restart not
//! behind any block of the log; while the engine runs it follows the boot clock and leans towards the
//! wall clock by at most 1 %, so a wall clock that jumps moves no deadline.

use std::fmt;

use crate::sync::{AtomicI64, AtomicU64, Mutex, Ordering};

/// Where the engine reads the time: one of its two doors to the outside world, with
/// [`Storage`](crate::storage::Storage).
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Unix time in milliseconds. May jump in either direction.
    fn wall_ms(&self) -> u64;

    /// Nanoseconds since some moment of this boot, counting sleep (`CLOCK_BOOTTIME`). Never runs
    /// backwards within one boot.
    fn boot_ns(&self) -> u64;

    /// Tells one boot from another.
    fn boot_id(&self) -> u64;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    boot_id: u64,
}

impl SystemClock {
    /// Reads the boot id. Where the kernel tells none, every start of the process counts as a boot.
    #[must_use]
    pub fn new() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot_id = match text {
            Ok(text) => first_eight_bytes(blake3::hash(text.trim().as_bytes()).as_bytes()),
            Err(_) => ahash::RandomState::new().hash_one(std::process::id()),
        };
        Self { boot_id }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

fn first_eight_bytes(bytes: &[u8; 32]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("32 bytes hold eight"))
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        (now.tv_sec as u64).saturating_mul(1000) + now.tv_nsec as u64 / 1_000_000
    }

    fn boot_ns(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    fn boot_id(&self) -> u64 {
        self.boot_id
    }
}

/// What the log remembers of the time: written into every block, read at open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeMark {
    pub(crate) engine_ns: u64,
    pub(crate) boot_ns: u64,
    pub(crate) boot_id: u64,
}

impl TimeMark {
    pub(crate) const fn engine_ms(&self) -> u64 {
        self.engine_ns / NS_PER_MS
    }

    /// Of two marks the later is greater, as seen from this boot. A wall clock that was behind makes a boot
    /// begin with the engine time of a mark of the one before: then that of this boot tells more, since
    /// the time between it and now is known. Within a millisecond no mark is later than another: a lean
    /// back may have come between them.
    pub(crate) const fn order(&self, boot_id: u64) -> (u64, bool, u64) {
        (self.engine_ms(), self.boot_id == boot_id, self.boot_ns)
    }

    /// Whether it lies before the year 2116: beyond, engine time would overflow.
    pub(crate) const fn is_possible(&self) -> bool {
        self.engine_ns <= i64::MAX as u64 / 2
    }
}

const NS_PER_MS: u64 = 1_000_000;

/// The wall clock at open is too far ahead of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockJump {
    pub(crate) wall_ms: u64,
    pub(crate) log_ms: u64,
}

/// Engine time: milliseconds that only move forward, in the range of Unix time.
#[derive(Debug)]
pub(crate) struct EngineTime {
    clock: std::sync::Arc<dyn Clock>,
    /// Engine nanoseconds less boot nanoseconds. Written by the timekeeper alone, read by all;
    /// `Relaxed`, since `latest_ms` hides a step back that a late reader might see.
    offset_ns: AtomicI64,
    /// The latest time told to anyone. Every reader raises it (`AcqRel`), so that what one thread
    /// was told bounds from below what any other is told afterwards.
    latest_ms: AtomicU64,
    /// Boot time up to which the lean towards the wall clock has been paid out.
    slewed_to_ns: Mutex<u64>,
}

/// Engine time leans towards the wall clock by at most one part in this many.
const SLEW_DIVISOR: u64 = 100;

impl EngineTime {
    /// Starts engine time. Within one boot it goes on exactly where the log's mark says; otherwise at
    /// the later of the wall clock and the mark, unless the wall clock is more than `jump_max_ms`
    /// ahead of the mark.
    pub(crate) fn start(
        clock: std::sync::Arc<dyn Clock>,
        mark: Option<TimeMark>,
        jump_max_ms: Option<u64>,
    ) -> Result<Self, ClockJump> {
        let (boot_ns, wall_ms) = (clock.boot_ns(), clock.wall_ms());
        let start_ns = match mark {
            None => wall_ms.saturating_mul(1_000_000),
            Some(mark) if mark.boot_id == clock.boot_id() && mark.boot_ns <= boot_ns => {
                mark.engine_ns.saturating_add(boot_ns - mark.boot_ns)
            }
            Some(mark) => {
                let log_ms = mark.engine_ms();
                if jump_max_ms.is_some_and(|max| wall_ms > log_ms.saturating_add(max)) {
                    return Err(ClockJump { wall_ms, log_ms });
                }
                wall_ms.saturating_mul(NS_PER_MS).max(mark.engine_ns)
            }
        };
        Ok(Self {
            offset_ns: AtomicI64::new(start_ns.wrapping_sub(boot_ns) as i64),
            latest_ms: AtomicU64::new(start_ns / NS_PER_MS),
            slewed_to_ns: Mutex::new(boot_ns),
            clock,
        })
    }

    /// The precise time. Costs one read of the boot clock (some 30 ns), and one write to a shared
    /// word a millisecond.
    pub(crate) fn now_ms(&self) -> u64 {
        let boot_ns = self.clock.boot_ns();
        let engine_ns = boot_ns.wrapping_add_signed(self.offset_ns.load(Ordering::Relaxed));
        self.tell(engine_ns / NS_PER_MS)
    }

    /// The latest time told to anyone, this one included.
    fn tell(&self, now_ms: u64) -> u64 {
        let latest_ms = self.latest_ms.load(Ordering::Acquire);
        if now_ms <= latest_ms {
            return latest_ms;
        }
        self.latest_ms.fetch_max(now_ms, Ordering::AcqRel).max(now_ms)
    }

    /// The boot clock, for waits within one run.
    pub(crate) fn boot_ns(&self) -> u64 {
        self.clock.boot_ns()
    }

    /// The wall clock, which may jump.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// What a block's header says about the time. Counts as told: what anyone was told by now is not after
    /// it, and no later mark is of an earlier millisecond, whatever the lean.
    pub(crate) fn mark(&self) -> TimeMark {
        let boot_ns = self.clock.boot_ns();
        let engine_ns = boot_ns.wrapping_add_signed(self.offset_ns.load(Ordering::Relaxed));
        let told_ns = self.tell(engine_ns / NS_PER_MS).saturating_mul(NS_PER_MS);
        TimeMark { engine_ns: engine_ns.max(told_ns), boot_ns, boot_id: self.clock.boot_id() }
    }

    /// Leans towards the wall clock by at most 1 % of the time that passed since the last call. The
    /// timekeeper calls it now and then; how often does not matter.
    pub(crate) fn slew(&self) {
        let mut slewed_to_ns = self.slewed_to_ns.lock();
        let boot_ns = self.clock.boot_ns();
        let step_ns = (boot_ns.saturating_sub(*slewed_to_ns) / SLEW_DIVISOR) as i64;
        if step_ns == 0 {
            return;
        }
        *slewed_to_ns = boot_ns;
        let offset_ns = self.offset_ns.load(Ordering::Relaxed);
        let engine_ms = boot_ns.wrapping_add_signed(offset_ns) / 1_000_000;
        let ahead_ms = self.clock.wall_ms() as i64 - engine_ms as i64;
        let lean_ns = ahead_ms.saturating_mul(1_000_000).clamp(-step_ns, step_ns);
        self.offset_ns.store(offset_ns + lean_ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Debug, Default)]
    struct Hands {
        wall_ms: AtomicU64,
        boot_ns: AtomicU64,
        boot_id: AtomicU64,
    }

    impl Hands {
        fn set(&self, wall_ms: u64, boot_ms: u64, boot_id: u64) {
            self.wall_ms.store(wall_ms, Ordering::Relaxed);
            self.boot_ns.store(boot_ms * 1_000_000, Ordering::Relaxed);
            self.boot_id.store(boot_id, Ordering::Relaxed);
        }
    }

    impl Clock for Hands {
        fn wall_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::Relaxed)
        }
        fn boot_ns(&self) -> u64 {
            self.boot_ns.load(Ordering::Relaxed)
        }
        fn boot_id(&self) -> u64 {
            self.boot_id.load(Ordering::Relaxed)
        }
    }

    fn mark(engine_ms: u64, boot_ms: u64, boot_id: u64) -> Option<TimeMark> {
        let (engine_ns, boot_ns) = (engine_ms * NS_PER_MS, boot_ms * NS_PER_MS);
        Some(TimeMark { engine_ns, boot_ns, boot_id })
    }

    #[test]
    fn a_wall_clock_that_jumps_moves_engine_time_by_at_most_one_per_cent() {
        let hands = Arc::new(Hands::default());
        hands.set(1_000_000, 500, 1);
        let time = EngineTime::start(hands.clone(), None, Some(0)).expect("no log");
        assert_eq!(time.now_ms(), 1_000_000);
        hands.set(900_000_000, 1500, 1);
        time.slew();
        assert_eq!(time.now_ms(), 1_001_010, "one second passed, and 1 % of it");
        hands.set(5, 2500, 1);
        time.slew();
        assert_eq!(time.now_ms(), 1_002_000, "one second passed, less 1 % of it");
    }

    #[test]
    fn engine_time_never_runs_backwards() {
        let hands = Arc::new(Hands::default());
        hands.set(1_000, 0, 1);
        let time = EngineTime::start(hands.clone(), None, None).expect("no log");
        hands.set(0, 100, 1);
        let told_ms = time.now_ms();
        time.slew();
        assert!(time.now_ms() >= told_ms);
    }

    #[test]
    fn no_mark_is_of_an_earlier_millisecond_than_one_before_it() {
        let hands = Arc::new(Hands::default());
        hands.set(1_000_000, 0, 1);
        let time = EngineTime::start(hands.clone(), None, None).expect("no log");
        hands.set(0, 60_000, 1);
        let before = time.mark();
        time.slew();
        assert!(time.mark().engine_ms() >= before.engine_ms(), "it leant back by 600 ms");
    }

    #[test]
    fn within_a_millisecond_a_mark_of_this_boot_counts() {
        let other = TimeMark { engine_ns: 5_700_000, boot_ns: 9, boot_id: 1 };
        let this = TimeMark { engine_ns: 5_000_000, boot_ns: 3, boot_id: 2 };
        assert!(this.order(2) > other.order(2));
    }

    #[test]
    fn within_one_boot_a_restart_goes_on_exactly() {
        let hands = Arc::new(Hands::default());
        hands.set(999_999_999, 7_000, 3);
        let time = EngineTime::start(hands, mark(5_000, 4_000, 3), Some(1)).expect("same boot");
        assert_eq!(time.now_ms(), 8_000);
    }

    #[test]
    fn after_another_boot_the_later_of_wall_and_log_counts_and_a_jump_is_named() {
        let hands = Arc::new(Hands::default());
        hands.set(50_000, 10, 4);
        let start = |log_ms, max| EngineTime::start(hands.clone(), mark(log_ms, 99, 3), max);
        assert_eq!(start(60_000, Some(0)).expect("behind").now_ms(), 60_000);
        assert_eq!(start(49_000, Some(1_000)).expect("ahead a little").now_ms(), 50_000);
        assert_eq!(
            start(48_999, Some(1_000)).expect_err("ahead too far"),
            ClockJump { wall_ms: 50_000, log_ms: 48_999 }
        );
        assert_eq!(start(48_999, None).expect("overridden").now_ms(), 50_000);
    }
}
