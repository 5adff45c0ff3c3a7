//! Wall clocks that jump while the engine runs.

use doorbuster::clock::Clock;

use crate::bench::{Bench, CONFIRMED, TOO_LATE, ms};
use crate::seed::{Random, Rerun, seeds};

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

#[test]
fn a_wall_clock_that_jumps_moves_no_deadline_by_more_than_one_per_cent() {
    for (jump, hold_ms) in [("ahead", 100_000), ("back", 100_000), ("ahead", 10), ("back", 10)] {
        let mut bench = Bench::new(2);
        let (first, second) = (bench.hold(1, ms(hold_ms)), bench.hold(2, ms(hold_ms)));
        let wall_ms = bench.clock.wall_ms();
        bench.clock.set_wall_ms(match jump {
            "ahead" => wall_ms + 10 * YEAR_MS,
            _ => wall_ms - 10 * YEAR_MS,
        });
        bench.engine.step_timekeeper();
        // The lean is paid out as time passes.
        let in_time_ms = hold_ms * 99 / 100 - 2;
        for _ in 0..in_time_ms {
            bench.clock.advance_boot_only(ms(1));
            bench.engine.step_timekeeper();
        }
        assert_eq!(bench.confirm(first.order), CONFIRMED, "{jump}: not before 99 % of its time");
        for _ in in_time_ms..hold_ms + hold_ms / 99 + 2 {
            bench.clock.advance_boot_only(ms(1));
            bench.engine.step_timekeeper();
        }
        assert_eq!(bench.confirm(second.order), TOO_LATE, "{jump}: not after 101 % of its time");
    }
}

#[test]
fn engine_time_leans_towards_the_wall_clock_and_gets_there() {
    let mut bench = Bench::new(1);
    let ahead_ms = |bench: &Bench| bench.engine.now_ms() as i64 - bench.clock.wall_ms() as i64;
    for offset_ms in [5_000_i64, -5_000] {
        let wall_ms = bench.clock.wall_ms().saturating_add_signed(offset_ms);
        bench.clock.set_wall_ms(wall_ms);
        let mut behind = ahead_ms(&bench).abs();
        assert!(behind >= 4_999);
        for _ in 0..600 {
            bench.clock.advance(ms(1_000));
            bench.engine.step_timekeeper();
            assert!(ahead_ms(&bench).abs() <= behind);
            behind = ahead_ms(&bench).abs();
        }
        assert!(behind <= 1, "{behind} ms left after ten minutes");
    }
}

/// However the wall clock jumps and however often the timekeeper looks: engine time never runs
/// backwards, and no stretch of it differs from the boot clock's by more than 1 %.
#[test]
fn engine_time_keeps_to_the_boot_clock() {
    for seed in seeds("CLOCK_SEED", 40) {
        let _rerun = Rerun::new("CLOCK_SEED", seed, "--test expiry engine_time_keeps");
        let mut random = Random::new(seed);
        let mut bench = Bench::new(1);
        let (start_ms, start_ns) = (bench.engine.now_ms(), bench.clock.boot_ns());
        let mut told_ms = start_ms;
        for _ in 0..400 {
            match random.below(6) {
                0 => bench.clock.set_wall_ms(random.below(4_000_000_000_000)),
                1 => {
                    bench.engine.step_timekeeper();
                }
                2 => bench.clock.advance_boot_only(ms(random.below(500))),
                _ => {
                    let bits = 1 + random.below(24);
                    let step_us = random.below(1 << bits);
                    bench.clock.advance(std::time::Duration::from_micros(step_us));
                }
            }
            let now_ms = bench.engine.now_ms();
            assert!(now_ms >= told_ms, "{now_ms} after {told_ms}");
            told_ms = now_ms;
            let passed_ms = (bench.clock.boot_ns() - start_ns) as f64 / 1e6;
            let engine_ms = (now_ms - start_ms) as f64;
            assert!(
                engine_ms <= passed_ms * 1.01 + 1.0 && engine_ms >= passed_ms * 0.99 - 1.0,
                "{engine_ms} ms of engine time in {passed_ms} ms"
            );
        }
    }
}
