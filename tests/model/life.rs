//! The end of one life of the engine, and the beginning of the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use doorbuster::clock::Clock;
use doorbuster::testing::{ManualClock, MemoryStorage, Step, SteppedEngine};
use doorbuster::{
    Adjust, BatchError, CloseError, CommitError, Durability, OpenError, Options, Order, OrderError,
    OrderId, OrderState, RETENTION_MAX, RequestKey, StockError, Unavailable,
};
use fastrand::Rng;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::driver::{Checked, Counts, Driver, stop_in};
use crate::ops::{Ending, Setup};

const CLOCK_JUMP_MAX_MS: u64 = 7 * 24 * 3_600_000;

/// What a host accepts at an open that was refused without.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Consent {
    clock_jump: bool,
    cut: bool,
}

/// What the end of a life leaves open.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    /// Acknowledged records may be lost: a power loss under [`Durability::Written`].
    pub(crate) may_lose: bool,
    /// Records that were never acknowledged may have survived: a write was under way.
    pub(crate) may_gain: bool,
    /// The machine was started again.
    rebooted: bool,
}

pub(crate) fn open(
    setup: &Setup,
    storage: &MemoryStorage,
    clock: &Arc<ManualClock>,
    life: usize,
    consent: Consent,
) -> Result<SteppedEngine, OpenError> {
    let options = Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .durability(setup.durabilities[life % 2])
        .partitions(setup.partitions)
        .log_shards(setup.shards)
        .segment_bytes(Setup::SEGMENT_BYTES)
        .block_bytes_max(Setup::BLOCK_BYTES_MAX)
        .lines_max(Setup::LINES_MAX)
        .payload_bytes_max(Setup::PAYLOAD_BYTES_MAX)
        .hold_default(Setup::HOLD_DEFAULT)
        .hold_max(Setup::HOLD_MAX)
        .patience_max(Setup::PATIENCE_MAX)
        // `tests/orders/retention` has a model of its own.
        .retention(RETENTION_MAX)
        .skus_max(64)
        .orders_max(setup.orders_max)
        .log_backlog_bytes_max(setup.backlog_share() * setup.partitions as u64)
        .accept_clock_jump(consent.clock_jump)
        .cut_after_power_loss(consent.cut);
    SteppedEngine::open(options)
}

impl Driver {
    pub(crate) fn reopen(&mut self, ending: Ending) -> Checked {
        let left = self.end_life(ending)?;
        self.begin_life(left)
    }

    /// The next open is cut short too, after this number of calls.
    pub(crate) fn reopen_with_a_stop(
        &mut self,
        ending: Ending,
        calls: u64,
        then: Ending,
    ) -> Checked {
        let mut left = self.end_life(ending)?;
        let fired = stop_in(&self.storage, calls);
        let opened = open(
            &self.oracle.setup,
            &self.storage,
            &self.clock,
            self.lives,
            Consent { clock_jump: false, cut: left.may_lose },
        );
        self.storage.set_fault_hook(None);
        if fired.load(Ordering::Relaxed) {
            prop_assert!(
                matches!(opened, Err(OpenError::Io { .. })),
                "an open whose disk stopped returned {opened:?}"
            );
        } else if !matches!(
            opened,
            Err(OpenError::ClockJump { .. } | OpenError::ClockBehind { .. })
        ) {
            // This is like a kill right after the open, before any request.
            opened.map_err(|error| TestCaseError::fail(format!("open: {error}")))?;
        }
        let left_then = self.stop(then);
        left.may_lose |= left_then.may_lose;
        left.rebooted |= left_then.rebooted;
        self.begin_life(left)
    }

    /// The machine has stopped in a call: the log is latched, every commit fails, and a reopening decides what
    /// survived.
    pub(crate) fn reopen_after_a_stop(&mut self) -> Checked {
        let left = self.end_stopped_life()?;
        self.begin_life(left)
    }

    fn end_life(&mut self, ending: Ending) -> Result<Left, TestCaseError> {
        match ending {
            Ending::Close => return self.close(),
            Ending::Kill | Ending::Power { .. } => {}
        }
        self.disarm();
        self.engine = None;
        self.check_promises_at_the_end(CommitError::Closed)?;
        Ok(self.stop(ending))
    }

    fn close(&mut self) -> Result<Left, TestCaseError> {
        let Some(engine) = self.engine.take() else { return Ok(Left::default()) };
        let handle = engine.engine().clone();
        let closed = engine.close();
        self.mark_durable()?;
        if let Some(armed) = self.armed.take_if(|armed| armed.fired.load(Ordering::Relaxed)) {
            prop_assert!(matches!(closed, Err(CloseError::Latched { .. })), "{closed:?}");
            self.check_promises_at_the_end(CommitError::Unknown)?;
            drop(handle);
            let left = self.stop(armed.ending);
            return Ok(Left { may_gain: true, ..left });
        }
        self.disarm();
        prop_assert_eq!(closed, Ok(()));
        let waits = |(_, log): (_, &crate::oracle::Log)| log.records.len() > log.durable;
        prop_assert!(!self.oracle.logs.iter().any(waits), "closed, and something waits");
        self.check_promises_at_the_end(CommitError::Closed)?;
        let closed = Err(StockError::Unavailable(Unavailable::Closed));
        let add = Adjust::add(1).key(RequestKey::from_text("late"));
        prop_assert_eq!(handle.stock(1, add).map(drop), closed);
        Ok(Left::default())
    }

    fn end_stopped_life(&mut self) -> Result<Left, TestCaseError> {
        let Some(armed) = self.armed.take() else { return Ok(Left::default()) };
        let Some(mut engine) = self.engine.take() else { return Ok(Left::default()) };
        for shard in 0..engine.shards() {
            prop_assert_eq!(engine.step_writer(shard), Step::Ended);
        }
        prop_assert!(self.mark_durable()?.is_empty(), "durable after the disk stopped");
        self.check_promises_at_the_end(CommitError::Unknown)?;
        self.engine = Some(engine);
        self.check_latched()?;
        self.engine = None;
        let left = self.stop(armed.ending);
        Ok(Left { may_gain: true, ..left })
    }

    /// New verbs are refused by name, and reads still work.
    fn check_latched(&mut self) -> Checked {
        self.check_levels()?;
        let now_ms = self.now_ms();
        let engine = self.engine();
        let latched = |refused: &Unavailable| matches!(refused, Unavailable::Latched { .. });
        let add = engine.stock(1, Adjust::add(1).key(RequestKey::from_text("late")));
        prop_assert!(matches!(&add, Err(StockError::Unavailable(it)) if latched(it)), "{add:?}");
        let batch = engine.place_batch(&[Order::new(1, 200).line(1, 1)]);
        prop_assert!(
            matches!(&batch, Err(BatchError::Unavailable(it)) if latched(it)),
            "{batch:?}"
        );
        for order in self.oracle.orders.keys() {
            let id = OrderId::from_u64(*order);
            let cancel = engine.cancel(id);
            prop_assert!(
                matches!(&cancel, Err(OrderError::Unavailable(it)) if latched(it)),
                "{cancel:?}"
            );
            let viewed = engine.order(id).map(|viewed| (viewed.state, viewed.durable));
            let (state, rest) = self.oracle.state(*order);
            // That a hold is over can no longer be logged.
            if !self.oracle.is_due(*order, now_ms) {
                prop_assert_eq!(viewed, Ok((state, self.oracle.is_durable(rest))));
            }
        }
        Ok(())
    }

    fn disarm(&mut self) {
        self.storage.set_fault_hook(None);
        self.armed = None;
    }

    fn check_promises_at_the_end(&mut self, error: CommitError) -> Checked {
        for promise in &mut self.promises {
            let durable = promise.rests.iter().all(|rest| self.oracle.is_durable(*rest));
            promise.check_at_the_end(durable, error)?;
        }
        Ok(())
    }

    /// Ends the process or the machine. From now on the disk is what is left of it.
    fn stop(&mut self, ending: Ending) -> Left {
        let Ending::Power { seed, reboot } = ending else {
            self.storage = self.storage.kill();
            return Left::default();
        };
        let mut random = Rng::with_seed(seed);
        self.storage = self.storage.crash(&mut |below| random.u64(..below));
        if reboot {
            self.clock.reboot();
        }
        let durability = self.oracle.setup.durabilities[(self.lives - 1) % 2];
        let may_lose = durability == Durability::Written;
        Left { may_lose, rebooted: reboot, ..Left::default() }
    }

    fn begin_life(&mut self, left: Left) -> Checked {
        let (engine, consent) = self.open_with_consent(left)?;
        self.engine = Some(engine);
        self.lives += 1;
        self.promises.clear();
        self.counts = Counts::default();
        self.unwitnessed_since_ns.fill(None);
        self.check_time(left, consent)?;
        self.see_what_survived(left)?;
        self.check_reads()
    }

    /// Opens the folder. If the host must accept something, there must be a reason for it.
    fn open_with_consent(&self, left: Left) -> Result<(SteppedEngine, Consent), TestCaseError> {
        let mut consent = Consent::default();
        loop {
            let opened = open(&self.oracle.setup, &self.storage, &self.clock, self.lives, consent);
            match opened {
                Ok(engine) => {
                    let cut = engine.recovery().blocks_cut;
                    prop_assert!(cut == 0 || consent.cut, "{cut} blocks cut without consent");
                    return Ok((engine, consent));
                }
                Err(OpenError::ClockJump { wall_ms, log_ms, .. }) if !consent.clock_jump => {
                    prop_assert!(wall_ms > log_ms + CLOCK_JUMP_MAX_MS);
                    let lean_ms = if left.rebooted { 0 } else { self.lean_ms() };
                    prop_assert!(log_ms <= self.told_ms + lean_ms);
                    consent.clock_jump = true;
                }
                Err(OpenError::ClockBehind { wall_ms, log_ms, .. }) if !consent.clock_jump => {
                    prop_assert!(!left.rebooted, "a boot clock of another boot was believed");
                    prop_assert!(log_ms > wall_ms + CLOCK_JUMP_MAX_MS);
                    prop_assert!(log_ms <= self.told_ms + self.lean_ms());
                    consent.clock_jump = true;
                }
                Err(OpenError::Corrupt { shard: Some(_), .. }) if left.may_lose && !consent.cut => {
                    consent.cut = true;
                }
                Err(error) => {
                    let text = format!("reopening, {left:?}, {consent:?}: {error}: {error:?}");
                    return Err(TestCaseError::fail(text));
                }
            }
        }
    }

    /// The lean towards the wall clock since the last block is not in the log.
    fn lean_ms(&self) -> u64 {
        self.lived_ms / 100 + 2
    }

    /// Checks engine time after a reopening against the times that were read before.
    fn check_time(&mut self, left: Left, consent: Consent) -> Checked {
        let (before_ms, now_ms, wall_ms) =
            (self.told_ms, self.engine().now_ms(), self.clock.wall_ms());
        let lean_ms = self.lean_ms();
        if left.rebooted || consent.clock_jump {
            prop_assert!(now_ms >= wall_ms && now_ms <= before_ms.max(wall_ms) + lean_ms);
        } else {
            prop_assert!(now_ms.abs_diff(before_ms) <= lean_ms, "{} after {}", now_ms, before_ms);
        }
        self.told_ms = now_ms;
        self.lived_ms = 0;
        // An order that survived was not placed in the future.
        let placed_ms = self.oracle.orders.iter().filter(|(order, _)| {
            let lane = self.oracle.lane_of_order(**order);
            let durable = self.oracle.log(lane).floor;
            self.oracle.standing(lane, durable, **order).is_some()
        });
        let latest_ms = placed_ms.map(|(_, it)| it.deadline_ms - u64::from(it.hold_ms)).max();
        prop_assert!(latest_ms.is_none_or(|latest_ms| latest_ms <= now_ms));
        Ok(())
    }
}

/// Whether an order that is Held with this deadline reads as expired by now.
pub(crate) fn reads_as(
    standing: Option<OrderState>,
    deadline_ms: u64,
    now_ms: u64,
) -> Option<(OrderState, bool)> {
    match standing? {
        // Reading it logs that it is over, in this life.
        OrderState::Held if deadline_ms <= now_ms => Some((OrderState::Expired, false)),
        state => Some((state, true)),
    }
}
