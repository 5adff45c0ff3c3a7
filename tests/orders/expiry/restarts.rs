//! Deadlines across restarts, in the same boot and in another, and a replay that reads no clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorbuster::clock::Clock;
use doorbuster::testing::{Fault, ManualClock, MemoryStorage, Operation, Step, SteppedEngine};
use doorbuster::{HOLD_MAX, Options, OrderState};

use super::{CONFIRMED, TOO_LATE, ms};
use crate::seeds::{Rerun, seeds, stream};
use crate::shop::{SKU, Shop};

#[test]
fn a_deadline_is_the_same_after_a_restart_in_the_same_boot() {
    for hold in [ms(1), ms(900_000), HOLD_MAX] {
        let mut shop = Shop::selling(2);
        let (first, second) = (shop.hold_for(1, hold), shop.hold_for(2, hold));
        // The wall clock does not matter within a boot, unless it is further off than the host allows.
        shop.clock.set_wall_ms(5);
        shop.adapt = Box::new(|options| options.clock_jump_max(Duration::MAX));
        shop.kill();
        let view = shop.engine.order(first.order).expect("known");
        assert_eq!((view.state, view.deadline_ms), (OrderState::Held, first.deadline_ms));
        shop.advance_to(first.deadline_ms - 1);
        shop.kill();
        assert_eq!(shop.confirm(first.order), CONFIRMED);
        shop.advance_to(second.deadline_ms);
        shop.kill();
        assert_eq!(shop.levels(SKU).held, 1, "the stock is not available yet");
        assert_eq!(shop.confirm(second.order), TOO_LATE);
    }
}

/// The process is down for a while; the boot clock says how long.
#[test]
fn time_goes_on_while_the_process_is_down() {
    let mut shop = Shop::selling(1);
    let held = shop.hold_for(1, ms(10_000));
    let before_ms = shop.engine.now_ms();
    shop.clock.advance(ms(9_999));
    shop.kill();
    assert_eq!(shop.engine.now_ms(), before_ms + 9_999);
    shop.clock.advance(ms(1));
    shop.kill();
    assert_eq!(shop.confirm(held.order), TOO_LATE);
}

#[test]
fn in_another_boot_time_goes_on_at_the_later_of_wall_clock_and_log() {
    // The wall clock went on.
    let mut shop = Shop::selling(2);
    let (over, not_over) = (shop.hold_for(1, ms(60_000)), shop.hold_for(2, ms(60_001)));
    shop.clock.advance(ms(60_000));
    shop.clock.reboot();
    shop.kill();
    assert_eq!(shop.engine.now_ms(), shop.clock.wall_ms());
    assert_eq!(shop.confirm(over.order), TOO_LATE);
    assert_eq!(shop.confirm(not_over.order), CONFIRMED);

    // The wall clock was set back: the hold loses only the time that had passed.
    let mut shop = Shop::selling(2);
    let held = shop.hold_for(1, ms(60_000));
    shop.advance_to(held.deadline_ms - 10_000);
    shop.hold_for(2, ms(60_000));
    let log_ms = shop.engine.now_ms();
    shop.clock.set_wall_ms(1_000);
    shop.clock.reboot();
    shop.kill();
    assert_eq!(shop.engine.now_ms(), log_ms);
    shop.clock.advance_boot_only(ms(9_999));
    assert_eq!(shop.engine.now_ms(), log_ms + 9_999);
    assert_eq!(shop.confirm(held.order), CONFIRMED);
}

/// The story: after a boot whose wall clock was behind, engine time begins where the checkpoint of the boot before
/// says. The process is down for a while, in the same boot. The marks of this boot say how much time has passed,
/// not the checkpoint, although that has the same engine time.
#[test]
fn time_goes_on_in_a_boot_that_began_with_the_time_of_a_checkpoint() {
    let mut shop = Shop::selling(1);
    let held = shop.hold_for(1, ms(60_000));
    shop.checkpoint();
    let log_ms = shop.engine.now_ms();
    shop.clock.set_wall_ms(1_000);
    shop.clock.reboot();
    shop.kill();
    assert_eq!((shop.engine.now_ms(), shop.engine.recovery().checkpoint), (log_ms, Some(0)));
    shop.clock.advance_boot_only(ms(60_000));
    shop.kill();
    assert_eq!(shop.engine.now_ms(), log_ms + 60_000);
    assert_eq!(shop.confirm(held.order), TOO_LATE);
}

/// The story: the wall clock is set back, and engine time leans towards it between two checkpoints, so that the
/// older one says a little more. A boot with a wall clock that is behind begins where the newer one says. Then the
/// newer one is lost while the process is down. The marks of this boot say how much time has passed in it. Found by
/// the simulation, seed 9754849518415774678.
#[test]
fn time_goes_on_though_an_older_checkpoint_of_the_boot_before_says_a_little_more() {
    let mut shop = Shop::selling(1);
    let held = shop.hold_for(1, ms(60_000));
    shop.clock.set_wall_ms(1_000);
    shop.clock.advance_boot_only(Duration::from_micros(200_700));
    for _ in 0..2 {
        let asked = shop.engine.checkpoint().expect("open");
        while asked.peek().is_none() {
            shop.engine.step_checkpointer();
        }
        asked.wait().expect("the checkpoint is taken");
        shop.engine.step_timekeeper();
    }
    shop.clock.reboot();
    shop.kill();
    assert_eq!(shop.engine.recovery().checkpoint, Some(1));
    let log_ms = shop.engine.now_ms();
    shop.storage.remove_file("checkpoints/0000000001.checkpoint").expect("it was taken");
    shop.clock.advance_boot_only(ms(60_000));
    shop.kill();
    assert_eq!(shop.engine.recovery().checkpoint, Some(0));
    assert_eq!(shop.engine.now_ms(), log_ms + 60_000);
    assert_eq!(shop.confirm(held.order), TOO_LATE);
}

/// After a restart within the boot, no read of engine time returns an earlier one than a read before.
#[test]
fn engine_time_never_runs_backwards_across_restarts() {
    for seed in seeds("RESTART_SEED", 8) {
        let _rerun = Rerun::new("RESTART_SEED", seed, "--test orders engine_time_never");
        let mut random = stream(seed, 1);
        let mut shop = Shop::selling(1_000);
        let (start_ms, start_ns) = (shop.engine.now_ms(), shop.clock.boot_ns());
        for buyer in 0..60 {
            let step_us = random.u64(..3_000);
            shop.clock.advance(Duration::from_micros(step_us));
            match random.u64(..3) {
                0 => {
                    shop.hold_for(buyer, ms(500));
                }
                1 => drop(shop.place_for(buyer, ms(500))),
                _ => {}
            }
            let told_ms = shop.engine.now_ms();
            if random.u64(..100) < 30 {
                shop.kill();
                let now_ms = shop.engine.now_ms();
                assert!(now_ms >= told_ms, "{now_ms} after {told_ms} was read");
            }
            let passed_ms = (shop.clock.boot_ns() - start_ns) / 1_000_000;
            assert_eq!(shop.engine.now_ms() - start_ms, passed_ms, "engine time is exact again");
        }
    }
}

/// The block that the log ends with was written late in a millisecond; the host has read the next millisecond
/// since.
#[test]
fn a_restart_within_a_millisecond_takes_no_time_back() {
    let mut shop = Shop::selling(1);
    let start_ms = shop.engine.now_ms();
    shop.clock.advance(Duration::from_micros(900));
    shop.hold_for(1, ms(500));
    shop.clock.advance(Duration::from_micros(200));
    assert_eq!(shop.engine.now_ms(), start_ms + 1);
    shop.kill();
    assert_eq!(shop.engine.now_ms(), start_ms + 1);
}

/// Records carry the low 32 bits of their time, which wrap around every 49 days.
#[test]
fn deadlines_survive_the_turn_of_the_low_bits() {
    let turn_ms = 412 << 32;
    for (before_ms, hold) in [(1, ms(1)), (1, ms(2)), (500, ms(1_000)), (1 << 30, HOLD_MAX)] {
        let mut shop = Shop::selling_at(ManualClock::new(turn_ms - before_ms), 1);
        let held = shop.hold_for(1, hold);
        assert_eq!(held.deadline_ms, turn_ms - before_ms + hold.as_millis() as u64);
        shop.pass(hold / 2);
        shop.kill();
        let view = shop.engine.order(held.order).expect("known");
        assert_eq!(view.deadline_ms, held.deadline_ms);
        shop.advance_to(held.deadline_ms);
        assert_eq!(shop.confirm(held.order), TOO_LATE);
    }
}

/// The machine sleeps, or the disk stands still, for a month between an order and its block. The block has the
/// upper half of the record's time.
#[test]
fn a_deadline_is_the_same_however_late_the_record_was_written() {
    for days in [1, 24, 25, 30, 49] {
        let mut shop = Shop::selling(1);
        let held = shop.place_for(1, HOLD_MAX);
        shop.clock.advance(ms(days * 24 * 3_600_000));
        for shard in 0..shop.engine.shards() {
            while shop.engine.step_writer(shard) == Step::Wrote {}
        }
        shop.kill();
        let view = shop.engine.order(held.order).expect("it was written");
        assert_eq!(view.deadline_ms, held.deadline_ms, "written {days} days later");
    }
}

/// Notes before which call to the storage the clock was read.
#[derive(Debug)]
struct WatchedClock {
    hands: ManualClock,
    storage: MemoryStorage,
    reads: Mutex<Vec<u64>>,
}

impl WatchedClock {
    fn look(&self) -> &ManualClock {
        self.reads.lock().expect("no panic").push(self.storage.calls());
        &self.hands
    }
}

impl Clock for WatchedClock {
    fn wall_ms(&self) -> u64 {
        self.look().wall_ms()
    }
    fn boot_ns(&self) -> u64 {
        self.look().boot_ns()
    }
    fn boot_id(&self) -> u64 {
        self.look().boot_id()
    }
}

/// Holds in every state, some of them over. Then the folder is opened under a clock of another century that notes
/// when it is read.
#[test]
fn a_replay_reads_no_clock_and_applies_what_was_logged() {
    let mut shop = Shop::selling(100);
    let held: Vec<_> = (0..20).map(|buyer| shop.hold_for(buyer, ms(100 * buyer + 1))).collect();
    for nth in [3, 9, 15] {
        assert_eq!(shop.confirm(held[nth].order), CONFIRMED);
        drop(shop.engine.cancel(held[nth + 1].order).expect("known"));
    }
    shop.pass(ms(700));
    // Due and not logged.
    shop.clock.advance(ms(700));
    let before = shop.levels(SKU);
    assert!(before.held > 0 && before.sold == 3 && before.available > 80);
    let image = shop.storage.kill();

    let log_reads = Arc::new(Mutex::new(Vec::new()));
    let hook = log_reads.clone();
    image.set_fault_hook(Some(Arc::new(move |call| {
        if call.operation == Operation::Read && call.path.starts_with("log") {
            hook.lock().expect("no panic").push(call.sequence);
        }
        Fault::None
    })));
    let clock = Arc::new(WatchedClock {
        hands: ManualClock::new(4_500_000_000_000),
        storage: image.clone(),
        reads: Mutex::default(),
    });
    clock.hands.reboot();
    let options = Options::on_storage(Arc::new(image.clone()))
        .clock(clock.clone())
        .segment_bytes(1 << 20)
        .accept_clock_jump(true);
    let engine = SteppedEngine::open(options).expect("opens");
    let log_reads = log_reads.lock().expect("no panic").clone();
    let (first, last) = (log_reads[0], log_reads[log_reads.len() - 1]);
    let reads = clock.reads.lock().expect("no panic").clone();
    assert!(!reads.is_empty(), "engine time was started");
    let during: Vec<_> = reads.iter().filter(|at| first < **at && **at <= last).collect();
    assert!(during.is_empty(), "a clock was read between reads of the log: {during:?}");
    assert_eq!(engine.levels(SKU), Some(before), "no hold ended in the replay");
}
