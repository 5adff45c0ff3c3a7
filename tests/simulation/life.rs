//! How a life of the engine ends and the next begins, and the end of a seed.

use std::time::Duration;

use doorbuster::testing::{MemoryStorage, SteppedEngine};
use doorbuster::{Durability, OpenError, Options};

use crate::disk::Phase;
use crate::judge::{
    Adjusting, Asked, Broken, Checked, Damage, Filling, Kind, Policy, Verb, hold_to,
};
use crate::plan::Shape;
use crate::same::Dump;
use crate::sim::Sim;

/// After this many failed opens in a row, the next one meets no fault.
const FAILED_OPENS_MAX: u32 = 6;
/// After this many rounds no hold and no patience is left.
const EXPIRIES_MAX: u32 = 4;
/// More than there are.
const SWITCHES_MAX: u32 = 40;

impl Sim {
    /// The process or the machine stops between two calls.
    pub(crate) fn stop(&mut self, what: &str, power: bool) -> Checked {
        self.tell(what.into());
        self.end_life()?;
        self.take_image(power);
        Ok(())
    }

    /// It stopped in a call.
    pub(crate) fn stop_in_call(&mut self) -> Checked {
        self.end_life()?;
        let power = self.draw.percent(self.plan.faults.power_percent);
        self.take_image(power);
        self.tell(format!("stopped in call {}, power lost: {power}", self.disk.calls()));
        Ok(())
    }

    fn end_life(&mut self) -> Checked {
        self.engine = None;
        self.forget_checkpoints();
        self.judge.engine_ended()
    }

    /// No caller waits for checkpoints of an engine that is gone.
    fn forget_checkpoints(&mut self) {
        self.asked_checkpoints.clear();
        self.failed_checkpoint_call = false;
        self.judge.checkpoints.engine_ended();
    }

    /// What the next process finds.
    fn take_image(&mut self, power: bool) {
        self.tally.met(if power { "power loss" } else { "process killed" });
        if power {
            let (survival, draw) = (self.plan.faults.survival, &mut self.draw);
            self.storage = self.storage.crash(&mut |n| match survival {
                2 => draw.below(n),
                whole => whole,
            });
            self.clock.reboot();
            self.lost_written |= self.plan.shape.durability == Durability::Written;
        } else {
            self.storage = self.storage.kill();
        }
        self.disk.attach(&self.storage);
    }

    pub(crate) fn close(&mut self) -> Checked {
        let Some(engine) = self.engine.take() else { return Ok(()) };
        self.judge.settle_due(&engine)?;
        self.set_phase(Phase::Write);
        let closed = engine.close();
        self.set_phase(Phase::Quiet);
        self.note_writes()?;
        self.tell(format!("close: {closed:?}"));
        self.forget_checkpoints();
        self.judge.engine_ended()?;
        if self.disk.has_stopped() {
            self.tally.met("crash in a close");
            return self.stop_in_call();
        }
        let troubled = !self.disk.errors().is_empty() || self.judge.troubles.failed;
        match closed {
            Ok(()) => {
                // On a full disk a failed call may have been tried again with less.
                hold_to!(
                    !troubled || self.judge.troubles.short,
                    "a close without an error, although {:?}",
                    self.disk.errors()
                );
                self.tally.met("clean close");
                self.judge.closed()?;
                self.judge.blocks.named_by_manifest();
            }
            Err(error) => {
                let may_fail = troubled || self.judge.troubles.short;
                hold_to!(may_fail, "close: {error}, but no call has failed");
            }
        }
        Ok(())
    }

    /// Opens the folder, after as many crashes and errors on the way as the seed has.
    pub(crate) fn open(&mut self) -> Checked {
        self.between_lives();
        let mut accept_jump = false;
        for failed in 0.. {
            let is_quiet = self.is_quiet;
            self.is_quiet |= failed >= FAILED_OPENS_MAX;
            let done = self.try_open(accept_jump);
            self.is_quiet = is_quiet;
            match done? {
                Opening::Open | Opening::Over => return Ok(()),
                Opening::ClockJump => accept_jump = true,
                Opening::Failed => {}
            }
            hold_to!(failed < 3 * FAILED_OPENS_MAX, "the folder cannot be opened any more");
            if failed >= FAILED_OPENS_MAX {
                self.make_room();
            }
        }
        Ok(())
    }

    /// Clocks are set and media suffer while no engine runs.
    fn between_lives(&mut self) {
        self.disk.attach(&self.storage);
        if self.is_quiet {
            return;
        }
        if self.draw.percent(self.plan.faults.vary_percent) {
            let bound = |shape: &Shape| shape.remember.map(|remember| remember.count_max);
            let before = bound(&self.plan.shape);
            self.plan.shape.vary(&mut self.draw);
            self.has_varied_refusals |= bound(&self.plan.shape) != before;
            self.disk.note_segment_bytes(self.plan.shape.segment_bytes);
            self.judge.shape = self.plan.shape.clone();
            self.tally.met("opened with other bounds");
            self.tell(format!("{:?}", self.plan.shape));
        }
        if self.draw.percent(self.plan.faults.wall_percent) {
            self.jump_wall();
            if self.draw.percent(20) {
                // Another time namespace.
                let ms = self.draw.below(40 * 86_400_000);
                self.clock.advance_boot_only(Duration::from_millis(ms));
            }
        }
        if self.draw.percent(30) {
            let ms = self.draw.below(5_000);
            self.clock.advance(Duration::from_millis(ms));
        }
        if self.injury.is_none() && self.draw.percent(self.plan.faults.damage_percent) {
            self.injure();
        }
    }

    fn try_open(&mut self, accept_jump: bool) -> Checked<Opening> {
        let damage = self.assess();
        self.disk.forget_errors();
        let cuts = self.lost_written && self.draw.percent(60);
        let options = self.options(&self.storage).cut_after_power_loss(cuts);
        self.set_phase(Phase::Open);
        let opened = SteppedEngine::open(options.accept_clock_jump(accept_jump));
        self.set_phase(Phase::Quiet);
        self.disk.take_writes();
        let errors = self.disk.errors();
        let found = opened.as_ref().map(|engine| engine.recovery());
        let found = found.map(|found| (found.blocks, found.checkpoint, found.checkpoints_damaged));
        self.tell(format!("open: {found:?}"));
        let error = match opened {
            Ok(engine) => {
                hold_to!(
                    errors.is_empty() || self.judge.troubles.short,
                    "opened although {errors:?}"
                );
                return self.opened(engine, &damage, accept_jump);
            }
            Err(error) => error,
        };
        self.judge.time.tries_to_open(accept_jump, &self.clock);
        if self.disk.has_stopped() {
            self.tally.met("crash in an open");
            if damage.base.number.is_some() {
                self.tally.met("crash in an open from a checkpoint");
            }
            let power = self.draw.percent(self.plan.faults.power_percent);
            self.take_image(power);
            self.tell(format!("stopped in an open, power lost: {power}"));
            return Ok(Opening::Failed);
        }
        if !errors.is_empty() {
            let is_full = matches!(error, OpenError::DiskFull { .. }) && self.judge.troubles.short;
            let is_io = is_full || matches!(error, OpenError::Io { .. });
            hold_to!(is_io, "open: {error}, although what happened is {errors:?}");
            return Ok(Opening::Failed);
        }
        match error {
            OpenError::ClockJump { wall_ms, max_ms, .. } => {
                self.tally.met("clock jump refused");
                let log_ms = self.judge.log_ms(&damage);
                self.judge.time.check_jump(wall_ms, max_ms, log_ms, &self.clock)?;
                Ok(Opening::ClockJump)
            }
            OpenError::ClockBehind { wall_ms, max_ms, .. } => {
                self.tally.met("boot clock refused");
                self.judge.time.check_behind(wall_ms, max_ms, &self.clock)?;
                Ok(Opening::ClockJump)
            }
            OpenError::DiskFull { .. } if self.judge.troubles.short => {
                if self.draw.percent(50) {
                    self.make_room();
                }
                Ok(Opening::Failed)
            }
            error => {
                hold_to!(!cuts, "open that may cut after a power loss: {error}");
                self.judge.check_refused(&error, &damage)?;
                if self.lost_written {
                    self.tally.met("written: refused after a power loss");
                    return Ok(Opening::Failed);
                }
                if damage.is_beyond_repair {
                    self.is_over = true;
                    return Ok(Opening::Over);
                }
                self.heal();
                Ok(Opening::Failed)
            }
        }
    }

    pub(crate) fn options(&self, storage: &MemoryStorage) -> Options {
        let options = self.plan.shape.options(storage, &self.clock);
        options.checkpoint_bytes(self.plan.checkpoints.bytes)
    }

    fn opened(
        &mut self,
        engine: SteppedEngine,
        damage: &Damage,
        accept_jump: bool,
    ) -> Checked<Opening> {
        if let Some(why) = &damage.must_refuse {
            return Err(Broken(format!("opened, although {why}")));
        }
        self.check_base(&engine, damage)?;
        let max_ms = self.plan.shape.clock_jump_max_ms;
        if !accept_jump {
            self.judge.time.check_no_jump(max_ms, &self.clock)?;
        }
        self.new_troubles();
        let mut is_last = false;
        if let Some(injury) = self.injury.take() {
            self.tally.met("opened in spite of damage");
            // Before the begin of a checkpoint no open misses a segment, nor looks whose it is, until it must be
            // recycled: then the log is latched, or the next open refused. There the seed ends.
            is_last = injury.has_moved() && damage.base.number.is_some();
        }
        if std::mem::take(&mut self.lost_written) {
            self.tally.met("written: opened after a power loss");
            self.judge.blocks.cut_back();
        } else {
            self.judge.blocks.accepted(&self.storage, damage);
        }
        self.judge.checkpoints.cut_to(&self.judge.blocks.lens());
        if !damage.is_any() && (self.is_quiet || self.draw.percent(25)) {
            self.compare_replays(&engine)?;
        }
        let done = self.judge.reopened(&engine, damage, accept_jump, &self.clock);
        self.engine = Some(engine);
        let done = done.and_then(|()| match damage.is_any() || damage.base.is_recycled {
            true => Ok(()),
            false => self.check_turns_of_log(),
        });
        self.is_over |= is_last;
        done.map(|()| if is_last { Opening::Over } else { Opening::Open })
    }

    fn check_base(&mut self, engine: &SteppedEngine, damage: &Damage) -> Checked {
        let (found, base) = (engine.recovery(), &damage.base);
        let damaged = usize::from(found.checkpoints_damaged);
        self.judge.checkpoints.check_opened(base, found.checkpoint, damaged)?;
        if found.checkpoint.is_some() {
            self.tally.met("opened from a checkpoint");
        }
        if base.damaged > 0 {
            self.tally.met(match found.checkpoint {
                Some(_) => "fell back to the older checkpoint",
                None => "fell back to the whole log",
            });
        }
        Ok(())
    }

    /// The faults are over: the engine makes progress again, keeps its promises to the end, and a last
    /// close and open leave everything as it was.
    pub(crate) fn finish(&mut self) -> Checked {
        self.is_quiet = true;
        self.tell("the faults are over".into());
        self.make_room();
        if self.engine.is_some() && self.judge.troubles.failed {
            self.stop("restart", false)?;
        }
        if self.engine.is_none() {
            self.open()?;
        }
        if self.is_over {
            return Ok(());
        }
        self.run_until_idle()?;
        self.judge.troubles.short = false;
        hold_to!(
            self.judge.waiting() == 0,
            "{} commits wait though all is quiet",
            self.judge.waiting()
        );
        self.switch_all_on()?;
        self.sell_one()?;
        self.expire_all()?;
        self.retire_all()?;
        self.take_last_checkpoint()?;
        let Some(engine) = &self.engine else { return Ok(()) };
        let before = Dump::of(engine);
        self.close()?;
        self.open()?;
        if self.is_over {
            return Ok(());
        }
        let Some(engine) = &self.engine else { return Ok(()) };
        let after = Dump::of(engine);
        hold_to!(before.floor() == after.floor(), "a close and an open changed the floor");
        let numbers = [before.list_numbers(), after.list_numbers()];
        hold_to!(numbers[0] == numbers[1], "a close and an open changed lists: {numbers:?}");
        let differ = self.differ(&before, &after);
        hold_to!(differ.is_empty(), "a close and an open changed the state: {differ}");
        Ok(())
    }

    /// Nothing keeps orders as they are any more.
    fn switch_all_on(&mut self) -> Checked {
        for _ in 0..SWITCHES_MAX {
            let Some(engine) = &self.engine else { return Ok(()) };
            if !self.judge.switch_one_on(engine)? {
                return Ok(());
            }
            self.run_until_idle()?;
        }
        Err(Broken("what was switched off cannot be switched on any more".into()))
    }

    /// An order of a SKU that has stock goes all its way.
    fn sell_one(&mut self) -> Checked {
        let Some(engine) = self.engine.take() else { return Ok(()) };
        // A reservation of order ids that failed rests for a while.
        self.clock.advance(Duration::from_millis(200));
        self.judge.time.saw(engine.now_ms(), &self.clock, false)?;
        let (sku, key) = (7_777, u128::MAX);
        let add = Adjusting { sku, key, kind: Kind::Add, units: 1, reference: 0 };
        self.judge.adjust(&engine, &add)?;
        self.engine = Some(engine);
        self.run_until_idle()?;
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let lines = vec![(sku, 1)];
        let (dated_ms, hold_ms, policy) = (None, None, Policy::AllOrNone);
        let (buyer, class, payload) = (7_777, 0, Filling::NONE);
        let asked = Asked { buyer, key, dated_ms, lines, policy, class, hold_ms, payload };
        let before = self.judge.known_orders();
        self.judge.place(&engine, &asked)?;
        let order = self.judge.known_orders().into_iter().find(|order| !before.contains(order));
        let is_full = self.plan.shape.orders_max < 1_000;
        hold_to!(order.is_some() || is_full, "no order can be placed any more");
        if let Some(order) = order {
            self.judge.end(&engine, Verb::Confirm, order)?;
            self.judge.end(&engine, Verb::Fulfil, order)?;
        }
        self.engine = Some(engine);
        self.run_until_idle()
    }

    fn expire_all(&mut self) -> Checked {
        // Orders that waited may be held when the first are over, for a while more.
        for _ in 0..EXPIRIES_MAX {
            let Some(last_ms) = self.judge.deadlines().into_iter().max() else { break };
            self.pass_until(last_ms)?;
            self.run_until_idle()?;
            self.run_until_idle()?;
        }
        let Some(engine) = &self.engine else { return Ok(()) };
        hold_to!(self.judge.deadlines().is_empty(), "holds are left though all deadlines are past");
        hold_to!(self.judge.waiting() == 0, "{} commits wait at the end", self.judge.waiting());
        self.judge.check_levels(engine, "at the end")
    }

    /// Engine time may lean away from the clock by one part in a hundred, and stand still until it has
    /// caught up.
    fn pass_until(&mut self, engine_ms: u64) -> Checked {
        for round in 0..40 {
            let now_ms = self.engine.as_ref().map_or(u64::MAX, |engine| engine.now_ms());
            if now_ms >= engine_ms {
                break;
            }
            self.clock.advance(Duration::from_millis(2 * (engine_ms - now_ms) + (1_000 << round)));
            self.step_timekeeper()?;
        }
        Ok(())
    }

    /// All that are finished leave memory when their time is over; what they sold stays.
    fn retire_all(&mut self) -> Checked {
        if self.plan.shape.retention_ms > 86_400_000 {
            return Ok(());
        }
        let Some(last_ms) = self.judge.last_left_ms() else { return Ok(()) };
        self.pass_until(last_ms)?;
        self.run_until_idle()?;
        self.run_until_idle()?;
        let Some(engine) = &self.engine else { return Ok(()) };
        self.judge.check_levels(engine, "when all have left memory")
    }
}

enum Opening {
    Open,
    /// The wall clock is too far from the log's time; the host accepts it.
    ClockJump,
    /// It failed for a reason that is known.
    Failed,
    Over,
}
