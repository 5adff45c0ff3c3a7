//! A clock that moves only when a test moves it.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;

/// A [`Clock`] set by hand. Share it in an `Arc`; all methods may be called from any thread.
///
/// It stands still between calls. A simulated restart of the process keeps the clock as it is; a
/// simulated restart of the machine calls [`ManualClock::reboot`].
#[derive(Debug)]
pub struct ManualClock {
    hands: Mutex<Hands>,
}

/// Invariant: `boot_ns` falls only when `boot_id` changes.
#[derive(Debug)]
struct Hands {
    /// Nanoseconds, so that many short steps add up.
    wall_ns: u128,
    boot_ns: u64,
    boot_id: u64,
}

/// What the boot clock shows at first and after a reboot: not zero, which hides subtractions that
/// should have been checked.
const BOOT_START_NS: u64 = 1_000_000;

/// 1 January 2026, 00:00 UTC.
const WALL_START_MS: u64 = 1_767_225_600_000;

impl ManualClock {
    /// A clock whose wall shows `wall_ms`, a moment after the first boot.
    #[must_use]
    pub fn new(wall_ms: u64) -> Self {
        let wall_ns = u128::from(wall_ms) * 1_000_000;
        Self { hands: Mutex::new(Hands { wall_ns, boot_ns: BOOT_START_NS, boot_id: 1 }) }
    }

    /// Moves the wall clock and the boot clock forward together.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.hands.lock();
        hands.wall_ns = hands.wall_ns.saturating_add(by.as_nanos());
        hands.advance_boot(by);
    }

    /// Moves the boot clock alone: a wall clock that was set back while time went on.
    pub fn advance_boot_only(&self, by: Duration) {
        self.hands.lock().advance_boot(by);
    }

    /// Puts the machine to sleep: the wall clock goes on and the boot clock stands still, as under some
    /// hypervisors.
    pub fn sleep(&self, time: Duration) {
        let mut hands = self.hands.lock();
        hands.wall_ns = hands.wall_ns.saturating_add(time.as_nanos());
    }

    /// Sets the wall clock, forward or back; the boot clock does not notice.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.hands.lock().wall_ns = u128::from(wall_ms) * 1_000_000;
    }

    /// A restart of the machine: another boot id, the boot clock starts near zero, the wall clock
    /// stays.
    pub fn reboot(&self) {
        let mut hands = self.hands.lock();
        hands.boot_id += 1;
        hands.boot_ns = BOOT_START_NS;
    }
}

impl Default for ManualClock {
    /// Starts at the first moment of 2026, UTC.
    fn default() -> Self {
        Self::new(WALL_START_MS)
    }
}

impl Hands {
    fn advance_boot(&mut self, by: Duration) {
        let by_ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.boot_ns = self.boot_ns.saturating_add(by_ns);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        u64::try_from(self.hands.lock().wall_ns / 1_000_000).unwrap_or(u64::MAX)
    }

    fn boot_ns(&self) -> u64 {
        self.hands.lock().boot_ns
    }

    fn boot_id(&self) -> u64 {
        self.hands.lock().boot_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hands_advance_together_and_short_steps_add_up() {
        let clock = ManualClock::new(5);
        let boot_ns = clock.boot_ns();
        for _ in 0..4 {
            clock.advance(Duration::from_micros(500));
        }
        assert_eq!(clock.wall_ms(), 7);
        assert_eq!(clock.boot_ns() - boot_ns, 2_000_000);
    }

    #[test]
    fn each_hand_moves_alone() {
        let clock = ManualClock::default();
        let boot_ns = clock.boot_ns();
        clock.set_wall_ms(3);
        assert_eq!((clock.wall_ms(), clock.boot_ns()), (3, boot_ns));
        clock.advance_boot_only(Duration::from_nanos(9));
        assert_eq!((clock.wall_ms(), clock.boot_ns()), (3, boot_ns + 9));
    }

    #[test]
    fn a_reboot_changes_the_boot_and_keeps_the_wall() {
        let clock = ManualClock::new(5);
        clock.advance(Duration::from_secs(3600));
        let before = (clock.wall_ms(), clock.boot_id());
        clock.reboot();
        assert_eq!(clock.wall_ms(), before.0);
        assert_ne!(clock.boot_id(), before.1);
        assert_eq!(clock.boot_ns(), ManualClock::default().boot_ns());
    }

    #[test]
    fn the_hands_stop_at_their_ends() {
        let clock = ManualClock::new(u64::MAX);
        clock.advance(Duration::MAX);
        assert_eq!((clock.wall_ms(), clock.boot_ns()), (u64::MAX, u64::MAX));
    }
}
