//! What is done beside the verbs and the writers: time, spare segments, order ids.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::core::Core;
use crate::engine::expiry::expire_due;
use crate::engine::promotion::promote_some;
use crate::engine::retire::PacedRetirement;
use crate::log::{Provided, Segments};
use crate::sync::Mutex;

/// How often deadlines are looked at while blocks are written. A confirm looks by itself, so this bounds only
/// how late stock comes back.
pub(super) const TICK: Duration = Duration::from_millis(5);
/// How often the writers' spare segments are looked at while blocks are written, or the disk is full.
const PROVIDE_EVERY: Duration = Duration::from_millis(10);
/// How often the checkpointer looks whether there is something to do or to go on with, while blocks are written.
pub(super) const CHECKPOINT_EVERY: Duration = Duration::from_millis(5);
/// The longest rest of a helper whose work only a block can cause.
pub(super) const REST_MAX: Duration = Duration::from_secs(10);
/// Bounds of the timekeeper's rest, in milliseconds, unless something is due sooner. A clock that jumps, as
/// after a machine slept, is noticed after such a rest; and engine time leans towards the wall clock in
/// steps of 1 % of it.
const TIME_REST_MS: RangeInclusive<u64> = 100..=1000;
/// The timekeeper's rest is this part of the time until something is due, within those bounds.
const TIME_REST_DIVISOR: u64 = 1000;

/// How long a reservation of order ids that failed rests before it is tried again.
pub(super) const RESERVE_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What is done beside the verbs and the writers.
pub(crate) struct Housekeeper {
    core: Arc<Core>,
    segments: Vec<Arc<Segments>>,
    /// Locked only by the timekeeper.
    retirement: Mutex<PacedRetirement>,
}

impl std::fmt::Debug for Housekeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Housekeeper").field("folder", &self.core.folder).finish_non_exhaustive()
    }
}

impl Housekeeper {
    pub(crate) fn new(core: Arc<Core>, segments: Vec<Arc<Segments>>) -> Self {
        Self { core, segments, retirement: Mutex::default() }
    }

    /// Moves engine time towards the wall clock, serves waiting orders, lets holds expire and finished orders leave
    /// memory. Returns the rest after which it must be called again, if there is more to do already.
    pub(crate) fn keep_time(&self) -> Option<Duration> {
        self.core.time.slew();
        let promoted = promote_some(&self.core);
        let expired = expire_due(&self.core);
        let retired = self.retirement.lock().step(&self.core);
        if promoted || expired { Some(Duration::ZERO) } else { retired }
    }

    /// How long the timekeeper may rest while no block is written.
    pub(super) fn rest(&self) -> Duration {
        let now_ms = self.core.time.now_ms();
        let due_ms = self.core.partitions.iter().map(|partition| partition.next_due_ms()).min();
        let due_in_ms = due_ms.unwrap_or(u64::MAX).saturating_sub(now_ms);
        rest_until(due_in_ms, self.core.promotions.is_asked())
    }

    /// Prepares the segments that will be needed. Returns whether it must be called again later, because there is no
    /// room for them now, or the system is short of descriptors or memory.
    pub(crate) fn provide_segments(&self) -> bool {
        let mut tries_later = false;
        for segments in &self.segments {
            while !self.core.is_closing() && !self.core.latch.is_set() {
                match segments.sync_left().and_then(|()| segments.provide()) {
                    Ok(Provided::One) => {}
                    Ok(provided) => {
                        tries_later |= matches!(provided, Provided::DiskFull | Provided::Short);
                        break;
                    }
                    // What was acknowledged rests on a full segment. On a spare nothing rests, but a disk
                    // that fails here, rather than being full or short of something, will not do better
                    // for the log.
                    Err(error) => {
                        self.core.latch.set(error.operation, &error.path, &error.source);
                    }
                }
            }
        }
        tries_later
    }

    fn look_at_segments(&self) {
        self.segments.iter().for_each(|segments| segments.look());
    }
}

/// Reserves order ids before they are needed; a reservation that fails rests before it is tried again.
#[derive(Debug, Default)]
pub(crate) struct IdKeeper {
    rests_until_ns: u64,
}

impl IdKeeper {
    /// Returns whether a reservation failed and must be tried again.
    pub(crate) fn provide_ids(&mut self, core: &Core) -> bool {
        let now_ns = core.time.boot_ns();
        if now_ns < self.rests_until_ns {
            return true;
        }
        let has_failed = core.reserve_ids();
        if has_failed {
            self.rests_until_ns = now_ns.saturating_add(RESERVE_AGAIN_AFTER.as_nanos() as u64);
        }
        has_failed
    }
}

/// The timekeeper's rest when something is due after `due_in_ms`. `is_postponed`: an order could be served, but not
/// now, and the clock may change that.
fn rest_until(due_in_ms: u64, is_postponed: bool) -> Duration {
    let (least, most) = (*TIME_REST_MS.start(), *TIME_REST_MS.end());
    let look_after_ms = match is_postponed {
        true => least,
        false => (due_in_ms / TIME_REST_DIVISOR).clamp(least, most),
    };
    Duration::from_millis(due_in_ms.min(look_after_ms)).max(TICK)
}

/// What a helper does after a round.
pub(super) enum Rest {
    For(Duration),
    /// There is nothing to do. The pace while blocks are written, and the longest rest otherwise.
    Idle(Duration, Duration),
}

/// Spaces out the tries of a full disk, of which each writes until there is no more room, and those of a
/// system that is short of descriptors or memory.
#[derive(Debug, Default)]
pub(super) struct FullDisk {
    tries: u32,
    rounds_to_skip: u32,
}

impl FullDisk {
    /// 5 s in all.
    const ROUNDS_TO_SKIP_MAX: u32 = 512;

    pub(super) fn round(&mut self, keeper: &Housekeeper) -> Rest {
        if self.rounds_to_skip > 0 {
            self.rounds_to_skip -= 1;
            keeper.look_at_segments();
        } else if keeper.provide_segments() {
            self.rounds_to_skip = (4 << self.tries).min(Self::ROUNDS_TO_SKIP_MAX);
            self.tries = (self.tries + 1).min(8);
        } else {
            self.tries = 0;
        }
        match self.tries {
            0 => Rest::Idle(PROVIDE_EVERY, REST_MAX),
            _ => Rest::For(PROVIDE_EVERY),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_timekeeper_rests_until_something_is_due_and_never_longer_than_a_second() {
        let rest_ms = |due_in_ms| rest_until(due_in_ms, false).as_millis();
        assert_eq!((rest_ms(u64::MAX), rest_ms(3_600_000)), (1000, 1000), "idle");
        assert_eq!(rest_ms(900_000), 900, "a hold of a quarter of an hour");
        assert_eq!((rest_ms(60_000), rest_ms(100)), (100, 100));
        assert_eq!((rest_ms(77), rest_ms(5)), (77, 5), "on time");
        assert_eq!((rest_ms(1), rest_ms(0)), (5, 5), "many deadlines share a round");
    }

    #[test]
    fn the_timekeeper_comes_back_soon_to_an_order_that_cannot_be_served_yet() {
        assert_eq!(rest_until(u64::MAX, true).as_millis(), 100);
        assert_eq!(rest_until(7, true).as_millis(), 7);
    }
}
