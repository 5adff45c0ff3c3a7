//! Clocks that contradict each other, or the log, when a folder is opened.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::clock::Clock;
use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{OpenError, Options};

use crate::samples::{assert_complete, content, fill, in_memory, refusal};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const MAX_MS: u64 = 7 * DAY_MS;
/// The last millisecond that a block's header can hold.
const LAST_MS: u64 = i64::MAX as u64 / 2 / 1_000_000;

fn hours(hours: u64) -> Duration {
    Duration::from_millis(hours * HOUR_MS)
}

/// A folder with orders whose engine is gone, its clock, and the engine time at its end.
fn left() -> (MemoryStorage, Arc<ManualClock>, u64) {
    let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
    let mut engine = SteppedEngine::open(options(&storage, &clock)).expect("opens");
    fill(&mut engine);
    let log_ms = engine.now_ms();
    drop(engine);
    (storage.kill(), clock, log_ms)
}

fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    in_memory(storage).clock(clock.clone())
}

/// The machine slept for a month and its boot clock stood still, or the clock was wrong and was set right,
/// while the process was down (WSL 10006 and 4245).
#[test]
fn a_wall_clock_that_was_set_right_can_be_accepted() {
    let (storage, clock, log_ms) = left();
    clock.sleep(hours(30 * 24));
    let before = content(&storage);
    match refusal(options(&storage, &clock)) {
        OpenError::ClockJump { wall_ms, log_ms: seen_ms, max_ms } => {
            assert_eq!((wall_ms, seen_ms, max_ms), (clock.wall_ms(), log_ms, MAX_MS));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(content(&storage), before, "a refusal changes nothing");
    let accepts = options(&storage, &clock).accept_clock_jump(true);
    let engine = SteppedEngine::open(accepts).expect("opens");
    assert_eq!(engine.now_ms(), clock.wall_ms());
    assert_complete(&engine);
    drop(engine);
    // The log has the new time now.
    let engine = SteppedEngine::open(options(&storage.kill(), &clock)).expect("opens");
    assert_eq!(engine.now_ms(), clock.wall_ms());
}

/// A jump within the bound moves nothing by itself. It is reported, and the host can accept it.
#[test]
fn a_few_hours_of_sleep_are_shown_and_can_be_accepted() {
    let (storage, clock, log_ms) = left();
    clock.sleep(hours(8));
    let copy = storage.deep_copy();
    let engine = SteppedEngine::open(options(&copy, &clock)).expect("opens");
    assert_eq!(engine.now_ms(), log_ms, "engine time is exact again");
    assert_eq!(engine.stats().clock_skew_ms, 8 * HOUR_MS as i64);
    let accepts = options(&storage, &clock).accept_clock_jump(true);
    let engine = SteppedEngine::open(accepts).expect("opens");
    assert_eq!((engine.now_ms(), engine.stats().clock_skew_ms), (log_ms + 8 * HOUR_MS, 0));
}

/// The process is started again in another time namespace of the same boot.
#[test]
fn a_boot_clock_that_ran_away_is_named_and_can_be_passed_over() {
    let (storage, clock, log_ms) = left();
    clock.advance(hours(1));
    clock.advance_boot_only(hours(30 * 24));
    let before = content(&storage);
    let error = refusal(options(&storage, &clock));
    let words = error.to_string();
    match error {
        OpenError::ClockBehind { wall_ms, log_ms: seen_ms, max_ms } => {
            assert_eq!(wall_ms, clock.wall_ms());
            assert_eq!((seen_ms, max_ms), (log_ms + HOUR_MS + 30 * DAY_MS, MAX_MS));
            assert!(words.contains(&wall_ms.to_string()) && words.contains(&max_ms.to_string()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(content(&storage), before, "a refusal changes nothing");
    let believes = options(&storage.deep_copy(), &clock).clock_jump_max(Duration::MAX);
    let engine = SteppedEngine::open(believes).expect("opens");
    assert_eq!(engine.now_ms(), log_ms + HOUR_MS + 30 * DAY_MS);
    let accepts = options(&storage, &clock).accept_clock_jump(true);
    let engine = SteppedEngine::open(accepts).expect("opens");
    assert_eq!(engine.now_ms(), clock.wall_ms());
    assert_complete(&engine);
}

/// A wall clock that was set back while the process was down says nothing about a short downtime.
#[test]
fn within_a_boot_a_wall_clock_that_was_set_back_does_not_keep_the_folder_closed() {
    let (storage, clock, log_ms) = left();
    clock.advance(hours(1));
    clock.set_wall_ms(0);
    let engine = SteppedEngine::open(options(&storage, &clock)).expect("opens");
    assert_eq!(engine.now_ms(), log_ms + HOUR_MS);
    assert_eq!(engine.stats().clock_skew_ms, -((log_ms + HOUR_MS) as i64));
}

/// A battery is empty, or a unit is wrong: the log cannot hold such a time, and would never open again.
#[test]
fn a_wall_clock_past_the_range_of_the_log_is_refused_before_anything_is_written() {
    let (storage, clock, _) = left();
    let before = content(&storage);
    for wall_ms in [LAST_MS + 1, u64::MAX] {
        clock.set_wall_ms(wall_ms);
        for accepts in [false, true] {
            for storage in [&storage, &MemoryStorage::new()] {
                let options = options(storage, &clock).accept_clock_jump(accepts);
                let error = refusal(options);
                let words = error.to_string();
                let OpenError::ClockOutOfRange { time_ms, max_ms } = error else {
                    panic!("{error:?}");
                };
                assert_eq!((time_ms, max_ms), (wall_ms, LAST_MS));
                assert!(words.contains(&time_ms.to_string()) && words.contains("past the last"));
            }
        }
    }
    assert_eq!(content(&storage), before, "a refusal changes nothing");
    let fresh = MemoryStorage::new();
    refusal(options(&fresh, &clock));
    assert_eq!(fresh.calls(), 0, "not even a folder is made");
}

/// The same while the engine runs: engine time does not follow, and the folder opens again.
#[test]
fn a_wall_clock_that_leaves_the_range_at_run_time_is_not_followed() {
    let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::new(LAST_MS - HOUR_MS)));
    let mut engine = SteppedEngine::open(options(&storage, &clock)).expect("opens");
    for wall_ms in [LAST_MS + 1, u64::MAX] {
        clock.set_wall_ms(wall_ms);
        let before_ms = engine.now_ms();
        clock.advance_boot_only(hours(1) / 4);
        engine.step_timekeeper();
        assert_eq!(engine.now_ms(), before_ms + HOUR_MS / 4, "no lean");
    }
    // The boot clock takes engine time to its end, where it stops.
    clock.advance_boot_only(hours(48));
    engine.step_timekeeper();
    assert_eq!(engine.now_ms(), LAST_MS);
    fill(&mut engine);
    drop(engine);
    clock.set_wall_ms(LAST_MS - HOUR_MS);
    clock.reboot();
    let engine = SteppedEngine::open(options(&storage.kill(), &clock)).expect("opens");
    assert_complete(&engine);
}
