//! Time: the [`Clock`] trait, the system's clock, and engine time (rule R14 of [the guide](crate::guide::architecture)).
//!
//! Invariants of engine time: it never runs backwards, not between threads, and after a restart it is never before
//! any block of the log; while the engine runs it follows the boot clock and leans towards the wall clock by at most
//! 1 %, so a wall clock that jumps moves no deadline.

use std::fmt;

use crate::sync::{AtomicI64, AtomicU64, Mutex, Ordering};

/// Where the engine reads the time: one of its two doors to the outside world, with
/// [`Storage`](crate::storage::Storage).
///
/// The engine reads it on the callers' threads and on its own, often under a lock. So a clock must not call the
/// engine or block. A panic of a clock on one of the engine's threads latches the engine:
/// [`Unavailable::Latched`](crate::Unavailable::Latched) names the thread.
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
    /// Reads the boot id. Where the kernel has none, every start of the process counts as a boot.
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
        // A clock before 1970 shows 1970.
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1000).saturating_add(now.tv_nsec as u64 / 1_000_000)
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

    /// Of two marks the later is greater, as seen from this boot. If the wall clock was slow at boot, engine time
    /// resumes from the previous boot's mark. This boot's mark then wins, because the time elapsed since it is known.
    /// Within a millisecond no mark is later than another: a lean back may have come between them.
    pub(crate) const fn order(&self, boot_id: u64) -> (u64, bool, u64) {
        (self.engine_ms(), self.boot_id == boot_id, self.boot_ns)
    }

    /// Returns whether it lies before the year 2116: after that, engine time would overflow.
    pub(crate) const fn is_possible(&self) -> bool {
        self.engine_ns <= ENGINE_NS_MAX
    }

    /// Returns the time since the mark by the boot clock; `None`: the mark is of another boot, or later than `boot_ns`.
    const fn passed_ns(&self, boot_id: u64, boot_ns: u64) -> Option<u64> {
        match self.boot_id == boot_id {
            true => boot_ns.checked_sub(self.boot_ns),
            false => None,
        }
    }
}

const NS_PER_MS: u64 = 1_000_000;
const ENGINE_NS_MAX: u64 = i64::MAX as u64 / 2;

/// The last millisecond that a block's header can hold, in the year 2116. Engine time never passes it.
pub(crate) const ENGINE_MS_MAX: u64 = ENGINE_NS_MAX / NS_PER_MS;

/// Why engine time cannot start: the clocks and the log contradict each other, and the host must decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockFault {
    /// The wall clock is too far ahead of the log, or of what the log and the boot clock come to.
    Ahead { wall_ms: u64, log_ms: u64 },
    /// The boot clock says that more than the bound has passed since the log's end, and the wall clock denies it.
    Behind { wall_ms: u64, log_ms: u64 },
    /// The time is past [`ENGINE_MS_MAX`].
    OutOfRange { time_ms: u64 },
}

/// Refuses a wall clock whose time the log cannot hold; returns it otherwise.
pub(crate) fn possible_wall_ms(clock: &dyn Clock) -> Result<u64, ClockFault> {
    let wall_ms = clock.wall_ms();
    match wall_ms <= ENGINE_MS_MAX {
        true => Ok(wall_ms),
        false => Err(ClockFault::OutOfRange { time_ms: wall_ms }),
    }
}

/// Engine time: milliseconds that only move forward, in the range of Unix time.
#[derive(Debug)]
pub(crate) struct EngineTime {
    clock: std::sync::Arc<dyn Clock>,
    /// Engine nanoseconds less boot nanoseconds. Written by the timekeeper alone, read by all;
    /// `Relaxed`, since `latest_ms` hides a step back that a late reader might see.
    offset_ns: AtomicI64,
    /// The latest time that any caller read. Every reader raises it (`AcqRel`), so that no thread reads an earlier
    /// time after another thread has read a later one.
    latest_ms: AtomicU64,
    /// Boot time up to which the lean towards the wall clock has been paid out.
    slewed_to_ns: Mutex<u64>,
}

/// Engine time leans towards the wall clock by at most one part in this many.
const SLEW_DIVISOR: u64 = 100;
/// The most time between two calls that is leant for: ten of the timekeeper's longest rests.
const SLEW_PAUSE_MAX_NS: u64 = 10_000 * NS_PER_MS;

impl EngineTime {
    /// Starts engine time.
    ///
    /// Within one boot it goes on exactly where the log's mark and the boot clock say; otherwise at the later
    /// of the wall clock and the mark. Either way the wall clock must not be more than `jump_max_ms` ahead of
    /// that, since one of the two is wrong then: a boot clock may stand still while the machine sleeps or is
    /// moved. Nor may the boot clock alone say that more than `jump_max_ms` has passed: in another time
    /// namespace it may be days ahead.
    ///
    /// Without `jump_max_ms` the host has decided for the wall clock: engine time starts at the later of
    /// that and the mark, whatever the boot clock says.
    pub(crate) fn start(
        clock: std::sync::Arc<dyn Clock>,
        mark: Option<TimeMark>,
        jump_max_ms: Option<u64>,
    ) -> Result<Self, ClockFault> {
        let wall_ms = possible_wall_ms(clock.as_ref())?;
        let boot_ns = clock.boot_ns();
        let wall_ns = wall_ms * NS_PER_MS;
        let start_ns = match (mark, jump_max_ms) {
            (None, _) => wall_ns,
            (Some(mark), None) => wall_ns.max(mark.engine_ns),
            (Some(mark), Some(max_ms)) => {
                let passed_ns = mark.passed_ns(clock.boot_id(), boot_ns);
                let by_boot_ns = mark.engine_ns.saturating_add(passed_ns.unwrap_or(0));
                let log_ms = by_boot_ns / NS_PER_MS;
                if wall_ms > log_ms.saturating_add(max_ms) {
                    return Err(ClockFault::Ahead { wall_ms, log_ms });
                }
                let is_long = passed_ns.is_some_and(|passed_ns| passed_ns / NS_PER_MS > max_ms);
                if is_long && log_ms > wall_ms.saturating_add(max_ms) {
                    return Err(ClockFault::Behind { wall_ms, log_ms });
                }
                if passed_ns.is_some() { by_boot_ns } else { wall_ns.max(by_boot_ns) }
            }
        };
        if start_ns > ENGINE_NS_MAX {
            return Err(ClockFault::OutOfRange { time_ms: start_ns / NS_PER_MS });
        }
        Ok(Self {
            offset_ns: AtomicI64::new(start_ns.wrapping_sub(boot_ns) as i64),
            latest_ms: AtomicU64::new(start_ns / NS_PER_MS),
            slewed_to_ns: Mutex::new(boot_ns),
            clock,
        })
    }

    /// Returns the precise time. Costs one read of the boot clock (some 30 ns), and one write to a shared
    /// word a millisecond.
    pub(crate) fn now_ms(&self) -> u64 {
        let boot_ns = self.clock.boot_ns();
        let engine_ns = boot_ns.wrapping_add_signed(self.offset_ns.load(Ordering::Relaxed));
        self.tell(engine_ns / NS_PER_MS)
    }

    /// Returns the latest time that any caller has read. Costs a load.
    ///
    /// Under a partition's lock it is no earlier than any time that was read under that lock before, like
    /// [`now_ms`](Self::now_ms). A caller that has just read that, too, is at most as late as what it did since took.
    pub(crate) fn latest_ms(&self) -> u64 {
        self.latest_ms.load(Ordering::Acquire)
    }

    /// Returns the latest time that any caller has read, this one included.
    fn tell(&self, now_ms: u64) -> u64 {
        let latest_ms = self.latest_ms.load(Ordering::Acquire);
        if now_ms <= latest_ms {
            return latest_ms;
        }
        // Engine time stands still at the end of its range: a later mark could not be read back.
        let now_ms = now_ms.min(ENGINE_MS_MAX);
        self.latest_ms.fetch_max(now_ms, Ordering::AcqRel).max(now_ms)
    }

    /// Returns the boot clock, for waits within one run.
    pub(crate) fn boot_ns(&self) -> u64 {
        self.clock.boot_ns()
    }

    /// Returns the wall clock, which may jump.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// Returns how far the wall clock is ahead of engine time, in milliseconds; negative if engine time is ahead.
    pub(crate) fn skew_ms(&self) -> i64 {
        let skew_ms = i128::from(self.clock.wall_ms()) - i128::from(self.now_ms());
        i64::try_from(skew_ms).unwrap_or(i64::MAX)
    }

    /// Returns the time for a block's header. Counts as read: no caller has read a later time by now, and no
    /// later mark is of an earlier millisecond, whatever the lean.
    pub(crate) fn mark(&self) -> TimeMark {
        let boot_ns = self.clock.boot_ns();
        let engine_ns = boot_ns.wrapping_add_signed(self.offset_ns.load(Ordering::Relaxed));
        let told_ns = self.tell(engine_ns / NS_PER_MS).saturating_mul(NS_PER_MS);
        let engine_ns = engine_ns.max(told_ns).min(ENGINE_NS_MAX);
        TimeMark { engine_ns, boot_ns, boot_id: self.clock.boot_id() }
    }

    /// Leans towards the wall clock by at most 1 % of the time that passed since the last call. The
    /// timekeeper calls it about every second. A longer pause counts as [`SLEW_PAUSE_MAX_NS`]: after the machine
    /// was suspended, its hours must not move a deadline that was set since. A wall clock past
    /// [`ENGINE_MS_MAX`] is wrong, and is not followed.
    pub(crate) fn slew(&self) {
        let mut slewed_to_ns = self.slewed_to_ns.lock();
        let boot_ns = self.clock.boot_ns();
        let passed_ns = boot_ns.saturating_sub(*slewed_to_ns).min(SLEW_PAUSE_MAX_NS);
        let step_ns = (passed_ns / SLEW_DIVISOR) as i64;
        if step_ns == 0 {
            return;
        }
        *slewed_to_ns = boot_ns;
        let offset_ns = self.offset_ns.load(Ordering::Relaxed);
        let engine_ms = boot_ns.wrapping_add_signed(offset_ns) / 1_000_000;
        let Ok(wall_ms) = possible_wall_ms(self.clock.as_ref()) else { return };
        let ahead_ms = wall_ms as i64 - engine_ms as i64;
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

    /// The machine slept for eight hours, and the host sets a deadline before the timekeeper comes by.
    #[test]
    fn a_suspension_is_not_leant_for_after_it() {
        const HOURS_MS: u64 = 8 * 3_600_000;
        for (wall_ms, lean_ms) in [(900_000_000, 100), (5, -100)] {
            let hands = Arc::new(Hands::default());
            hands.set(1_000_000, 0, 1);
            let time = EngineTime::start(hands.clone(), None, Some(0)).expect("no log");
            let offset_ms = || time.offset_ns.load(Ordering::Relaxed) / NS_PER_MS as i64;
            hands.set(wall_ms, HOURS_MS, 1);
            assert_eq!(time.now_ms(), 1_000_000 + HOURS_MS);
            time.slew();
            assert_eq!(offset_ms(), 1_000_000 + lean_ms, "1 % of ten seconds");
            time.slew();
            assert_eq!(offset_ms(), 1_000_000 + lean_ms, "the rest is not paid out later");
        }
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
        assert!(time.mark().engine_ms() >= before.engine_ms(), "it leant back by 100 ms");
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
        hands.set(8_500, 7_000, 3);
        let start = |max| EngineTime::start(hands.clone(), mark(5_000, 4_000, 3), max);
        assert_eq!(start(Some(500)).expect("ahead a little").now_ms(), 8_000);
        hands.set(0, 7_000, 3);
        assert_eq!(start(Some(3_000)).expect("behind").now_ms(), 8_000);
    }

    /// The machine slept, and its boot clock stood still.
    #[test]
    fn within_one_boot_a_wall_clock_too_far_ahead_is_named_or_accepted() {
        let hands = Arc::new(Hands::default());
        hands.set(9_001, 7_000, 3);
        let start = |max| EngineTime::start(hands.clone(), mark(5_000, 4_000, 3), max);
        assert_eq!(
            start(Some(1_000)).expect_err("ahead too far"),
            ClockFault::Ahead { wall_ms: 9_001, log_ms: 8_000 }
        );
        assert_eq!(start(Some(1_001)).expect("not too far").now_ms(), 8_000);
        assert_eq!(start(None).expect("accepted").now_ms(), 9_001);
    }

    /// Another time namespace of the same boot: the boot clock is ahead by hours.
    #[test]
    fn within_one_boot_a_boot_clock_that_the_wall_clock_denies_is_named_or_passed_over() {
        let hands = Arc::new(Hands::default());
        hands.set(5_100, 9_000, 3);
        let start = |max| EngineTime::start(hands.clone(), mark(5_000, 4_000, 3), max);
        assert_eq!(
            start(Some(4_000)).expect_err("5 s by one clock, 0.1 s by the other"),
            ClockFault::Behind { wall_ms: 5_100, log_ms: 10_000 }
        );
        assert_eq!(start(Some(5_000)).expect("not too far").now_ms(), 10_000);
        assert_eq!(start(None).expect("accepted").now_ms(), 5_100);
        hands.set(4_000, 9_000, 3);
        assert_eq!(start(None).expect("accepted").now_ms(), 5_000, "not before the log's end");
    }

    #[test]
    fn a_time_that_no_mark_can_hold_is_refused_and_not_followed() {
        let hands = Arc::new(Hands::default());
        for wall_ms in [ENGINE_MS_MAX + 1, u64::MAX] {
            hands.set(wall_ms, 0, 1);
            for max in [None, Some(0)] {
                let refused = EngineTime::start(hands.clone(), None, max).expect_err("too late");
                assert_eq!(refused, ClockFault::OutOfRange { time_ms: wall_ms });
            }
        }
        hands.set(ENGINE_MS_MAX - 10, 0, 1);
        let time = EngineTime::start(hands.clone(), None, None).expect("the last moment");
        for wall_ms in [ENGINE_MS_MAX + 1, u64::MAX] {
            hands.set(wall_ms, 5, 1);
            time.slew();
            assert_eq!(time.now_ms(), ENGINE_MS_MAX - 5);
        }
        assert_eq!(time.skew_ms(), i64::MAX);
        hands.set(0, 1_000, 1);
        assert_eq!(time.now_ms(), ENGINE_MS_MAX, "it stands still at the end");
        assert!(time.mark().is_possible());
        assert_eq!(time.skew_ms(), -(ENGINE_MS_MAX as i64));
        let far = Some(TimeMark { engine_ns: ENGINE_NS_MAX, boot_ns: 0, boot_id: 1 });
        let refused = EngineTime::start(hands.clone(), far, Some(u64::MAX)).expect_err("too late");
        assert!(matches!(refused, ClockFault::OutOfRange { .. }));
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
            ClockFault::Ahead { wall_ms: 50_000, log_ms: 48_999 }
        );
        assert_eq!(start(48_999, None).expect("overridden").now_ms(), 50_000);
    }
}
