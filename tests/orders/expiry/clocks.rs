//! Wall clocks that jump while the engine runs.

use doorbuster::clock::Clock;
use fastrand::Rng;

use super::{CONFIRMED, TOO_LATE, ms};
use crate::seeds::{Rerun, seeds};
use crate::shop::Shop;

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

#[test]
fn a_wall_clock_that_jumps_moves_no_deadline_by_more_than_one_per_cent() {
    for (jump, hold_ms) in [("ahead", 100_000), ("back", 100_000), ("ahead", 10), ("back", 10)] {
        let mut shop = Shop::selling(2);
        let (first, second) = (shop.hold_for(1, ms(hold_ms)), shop.hold_for(2, ms(hold_ms)));
        let wall_ms = shop.clock.wall_ms();
        shop.clock.set_wall_ms(match jump {
            "ahead" => wall_ms + 10 * YEAR_MS,
            _ => wall_ms - 10 * YEAR_MS,
        });
        shop.engine.step_timekeeper();
        // As time passes, engine time catches up with the lean.
        let in_time_ms = hold_ms * 99 / 100 - 2;
        for _ in 0..in_time_ms {
            shop.clock.advance_boot_only(ms(1));
            shop.engine.step_timekeeper();
        }
        assert_eq!(shop.confirm(first.order), CONFIRMED, "{jump}: not before 99 % of its time");
        for _ in in_time_ms..hold_ms + hold_ms / 99 + 2 {
            shop.clock.advance_boot_only(ms(1));
            shop.engine.step_timekeeper();
        }
        assert_eq!(shop.confirm(second.order), TOO_LATE, "{jump}: not after 101 % of its time");
    }
}

#[test]
fn engine_time_leans_towards_the_wall_clock_and_gets_there() {
    let mut shop = Shop::selling(1);
    let ahead_ms = |shop: &Shop| shop.engine.now_ms() as i64 - shop.clock.wall_ms() as i64;
    for offset_ms in [5_000_i64, -5_000] {
        let wall_ms = shop.clock.wall_ms().saturating_add_signed(offset_ms);
        shop.clock.set_wall_ms(wall_ms);
        let mut behind = ahead_ms(&shop).abs();
        assert!(behind >= 4_999);
        for _ in 0..600 {
            shop.clock.advance(ms(1_000));
            shop.engine.step_timekeeper();
            assert!(ahead_ms(&shop).abs() <= behind);
            behind = ahead_ms(&shop).abs();
        }
        assert!(behind <= 1, "{behind} ms left after ten minutes");
    }
}

/// However the wall clock jumps and however often the timekeeper runs, engine time never runs backwards, and no
/// stretch of it differs from the boot clock's by more than 1 %.
#[test]
fn engine_time_keeps_to_the_boot_clock() {
    for seed in seeds("CLOCK_SEED", 40) {
        let _rerun = Rerun::new("CLOCK_SEED", seed, "--test orders engine_time_keeps");
        let mut random = Rng::with_seed(seed);
        let mut shop = Shop::selling(1);
        let (start_ms, start_ns) = (shop.engine.now_ms(), shop.clock.boot_ns());
        let mut told_ms = start_ms;
        for _ in 0..400 {
            match random.u64(..6) {
                0 => shop.clock.set_wall_ms(random.u64(..4_000_000_000_000)),
                1 => {
                    shop.engine.step_timekeeper();
                }
                2 => shop.clock.advance_boot_only(ms(random.u64(..500))),
                _ => {
                    let bits = 1 + random.u64(..24);
                    let step_us = random.u64(..1 << bits);
                    shop.clock.advance(std::time::Duration::from_micros(step_us));
                }
            }
            let now_ms = shop.engine.now_ms();
            assert!(now_ms >= told_ms, "{now_ms} after {told_ms} was read");
            told_ms = now_ms;
            let passed_ms = (shop.clock.boot_ns() - start_ns) as f64 / 1e6;
            let engine_ms = (now_ms - start_ms) as f64;
            assert!(
                engine_ms <= passed_ms * 1.01 + 1.0 && engine_ms >= passed_ms * 0.99 - 1.0,
                "{engine_ms} ms of engine time in {passed_ms} ms"
            );
        }
    }
}
