//! What engine time may do: never back, as fast as the boot clock but for a lean of one part in a
//! hundred, across a restart within one boot as if there had been none, otherwise to the wall clock or the
//! log's time, whichever is later. The latter within one boot too, if the host accepted the wall clock.

use doorbuster::clock::Clock;
use doorbuster::testing::ManualClock;

use super::{Checked, hold_to};

/// What a caller reads is the latest of what was read before and of a hidden time, which leans towards the wall clock
/// and may step back by that. The hidden time is known to lie between two bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct EngineTime {
    /// When this life began.
    pub(crate) opened_ms: u64,
    /// The latest that was told, in any life: it may step back when the end of the log is lost.
    pub(crate) latest_ms: u64,
    last: Option<Seen>,
    low_ms: u64,
    high_ms: u64,
    /// Boot time that passed since the last lean, and in this life.
    since_lean_ms: u64,
    lived_ms: u64,
    /// Opens that failed since.
    noted: Vec<Noted>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    now_ms: u64,
    boot_ns: u64,
    boot_id: u64,
}

/// Rounding, at both ends.
const SLACK_MS: u64 = 2;

/// A lean is at most one part in this many.
const LEAN_DIVISOR: u64 = 100;

impl EngineTime {
    /// The engine told the time in a life that goes on, after the timekeeper's round or without one.
    pub(crate) fn saw(&mut self, now_ms: u64, clock: &ManualClock, leant: bool) -> Checked {
        let seen = Seen { now_ms, boot_ns: clock.boot_ns(), boot_id: clock.boot_id() };
        self.latest_ms = self.latest_ms.max(now_ms);
        let Some(last) = self.last.replace(seen) else { return Ok(()) };
        let passed_ms = (seen.boot_ns - last.boot_ns).div_ceil(1_000_000);
        self.lived_ms += passed_ms;
        self.since_lean_ms += passed_ms;
        self.low_ms += passed_ms.saturating_sub(1);
        self.high_ms += passed_ms;
        if leant {
            let lean_ms = std::mem::take(&mut self.since_lean_ms) / LEAN_DIVISOR + SLACK_MS;
            self.low_ms -= lean_ms;
            self.high_ms += lean_ms;
        }
        let (low_ms, high_ms) = (self.low_ms.max(last.now_ms), self.high_ms.max(last.now_ms));
        hold_to!(
            (low_ms..=high_ms + SLACK_MS).contains(&now_ms),
            "engine time is {now_ms}, {passed_ms} ms after {}: not in {low_ms}..={high_ms}",
            last.now_ms
        );
        if now_ms > last.now_ms {
            // Nothing was hidden.
            (self.low_ms, self.high_ms) = (now_ms, now_ms + 1);
        } else {
            self.high_ms = self.high_ms.min(now_ms + 1);
            self.low_ms = self.low_ms.min(self.high_ms);
        }
        Ok(())
    }

    /// An open is tried: should it fail, it may have noted the time that it would have started with.
    pub(crate) fn tries_to_open(&mut self, accepts_jump: bool, clock: &ManualClock) {
        if let Some((low_ms, high_ms)) = self.after_restart(accepts_jump, clock) {
            self.noted.push(Noted { low_ms, high_ms, ..Noted::now(clock) });
        }
    }

    /// The engine was opened anew; the log has this time for certain.
    pub(super) fn reopened(
        &mut self,
        now_ms: u64,
        log_ms: u64,
        accepts_jump: bool,
        clock: &ManualClock,
    ) -> Checked {
        let wall_ms = clock.wall_ms();
        let range = self.after_restart(accepts_jump, clock);
        let (low_ms, high_ms) = range.unwrap_or((wall_ms, wall_ms));
        hold_to!(now_ms >= log_ms, "engine time is {now_ms}, the log has {log_ms}");
        hold_to!(
            (low_ms..=high_ms).contains(&now_ms),
            "a restart moved engine time to {now_ms}: not in {low_ms}..={high_ms}"
        );
        let latest_ms = self.latest_ms.max(now_ms);
        *self = Self { opened_ms: now_ms, latest_ms, ..Self::default() };
        self.last = Some(Seen { now_ms, boot_ns: clock.boot_ns(), boot_id: clock.boot_id() });
        (self.low_ms, self.high_ms) = (now_ms, now_ms + 1);
        Ok(())
    }

    /// What engine time a restart may start with; `None` for a new engine.
    fn after_restart(&self, accepts_jump: bool, clock: &ManualClock) -> Option<(u64, u64)> {
        let last = self.last?;
        // What it leant since the last block may be lost.
        let lean_ms = self.lived_ms / LEAN_DIVISOR + SLACK_MS;
        let life = Noted {
            low_ms: self.low_ms.saturating_sub(lean_ms),
            high_ms: self.high_ms.max(last.now_ms) + lean_ms,
            boot_ns: last.boot_ns,
            boot_id: last.boot_id,
        };
        let ranges = self.noted.iter().chain([&life]).map(|noted| noted.range(accepts_jump, clock));
        ranges.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }

    /// Whether nothing is noted of any other boot.
    fn is_same_boot(&self, clock: &ManualClock) -> bool {
        let noted = self.noted.iter().map(|noted| noted.boot_id);
        let mut boots = noted.chain(self.last.map(|last| last.boot_id));
        boots.all(|boot_id| boot_id == clock.boot_id())
    }

    /// An open was refused because the wall clock is too far ahead; the log has this time for certain.
    pub(crate) fn check_jump(
        &self,
        wall_ms: u64,
        max_ms: u64,
        log_ms: u64,
        clock: &ManualClock,
    ) -> Checked {
        let least_ms = match self.after_restart(false, clock) {
            Some((low_ms, _)) if self.is_same_boot(clock) => low_ms.max(log_ms),
            _ => log_ms,
        };
        hold_to!(
            wall_ms == clock.wall_ms() && wall_ms > least_ms + max_ms,
            "refused for a clock at {wall_ms}, bound {max_ms}; it goes on at {least_ms} or later"
        );
        Ok(())
    }

    /// An open was refused because the boot clock says that more has passed than the wall clock can believe.
    pub(crate) fn check_behind(&self, wall_ms: u64, max_ms: u64, clock: &ManualClock) -> Checked {
        let (_, high_ms) = self.after_restart(false, clock).unwrap_or_default();
        hold_to!(
            wall_ms == clock.wall_ms() && high_ms > wall_ms + max_ms,
            "refused for a clock at {wall_ms}, bound {max_ms}; it goes on at {high_ms} or before"
        );
        Ok(())
    }

    /// An open was not refused for the wall clock.
    pub(crate) fn check_no_jump(&self, max_ms: u64, clock: &ManualClock) -> Checked {
        let noted = self.noted.iter().map(|noted| noted.high_ms);
        let Some(latest_ms) = noted.chain(self.last.map(|last| last.now_ms)).max() else {
            return Ok(());
        };
        let latest_ms = match self.after_restart(false, clock) {
            Some((_, high_ms)) if self.is_same_boot(clock) => high_ms,
            // Which boot's mark is the latest is not known.
            Some((_, high_ms)) if !self.is_other_boot(clock) => high_ms,
            _ => latest_ms,
        };
        let wall_ms = clock.wall_ms();
        hold_to!(
            wall_ms <= latest_ms + SLACK_MS + max_ms,
            "opened with the clock at {wall_ms}, {max_ms} ms or more past {latest_ms}"
        );
        self.check_not_behind(max_ms, clock)
    }

    /// Whether all that is noted is of other boots.
    fn is_other_boot(&self, clock: &ManualClock) -> bool {
        let noted = self.noted.iter().map(|noted| noted.boot_id);
        let mut boots = noted.chain(self.last.map(|last| last.boot_id));
        boots.all(|boot_id| boot_id != clock.boot_id())
    }

    /// Since the last life the boot clock alone has moved further than the bound: that is refused.
    fn check_not_behind(&self, max_ms: u64, clock: &ManualClock) -> Checked {
        let Some(last) = self.last else { return Ok(()) };
        if !self.noted.is_empty() || last.boot_id != clock.boot_id() {
            return Ok(());
        }
        let passed_ms = (clock.boot_ns() - last.boot_ns) / 1_000_000;
        let (low_ms, _) = self.after_restart(false, clock).unwrap_or_default();
        let wall_ms = clock.wall_ms();
        hold_to!(
            passed_ms <= max_ms || low_ms <= wall_ms + max_ms,
            "opened with the clock at {wall_ms}, {passed_ms} ms after a life, at {low_ms} or later"
        );
        Ok(())
    }
}

/// A time that the log or the manifest may have.
#[derive(Clone, Copy, Debug)]
struct Noted {
    low_ms: u64,
    high_ms: u64,
    boot_ns: u64,
    boot_id: u64,
}

impl Noted {
    fn now(clock: &ManualClock) -> Self {
        Self { low_ms: 0, high_ms: 0, boot_ns: clock.boot_ns(), boot_id: clock.boot_id() }
    }

    /// Where an open that has this note starts.
    fn range(&self, accepts_jump: bool, clock: &ManualClock) -> (u64, u64) {
        if self.boot_id == clock.boot_id() && !accepts_jump {
            let passed_ms = (clock.boot_ns() - self.boot_ns) / 1_000_000;
            return (self.low_ms + passed_ms, self.high_ms + passed_ms + SLACK_MS);
        }
        (clock.wall_ms(), clock.wall_ms().max(self.high_ms))
    }
}
