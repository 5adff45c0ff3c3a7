//! One seed: a world of a disk, a clock and an engine, what the clients ask and what goes wrong.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use doorbuster::Checkpointing;
use doorbuster::clock::Clock;
use doorbuster::testing::{ManualClock, MemoryStorage, Step, SteppedEngine};

use crate::damage::{Injury, Snapshot};
use crate::disk::{Disk, Phase};
use crate::draw::Draw;
use crate::judge::{Asked, At, Broken, Checked, Judge, Troubles, Verb, hold_to};
use crate::plan::{Action, Plan};
use crate::tally::Tally;
use crate::workload::Workload;

/// How many lines of the story are printed when a promise is broken.
const STORY_LINES: usize = 40;

pub(crate) struct Sim {
    pub(crate) plan: Plan,
    pub(crate) draw: Draw,
    pub(crate) workload: Workload,
    pub(crate) disk: Disk,
    pub(crate) storage: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    /// `None` between two lives.
    pub(crate) engine: Option<SteppedEngine>,
    pub(crate) judge: Judge,
    pub(crate) tally: Tally,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) injury: Option<Injury>,
    /// The folder was refused for damage that cannot be undone: there the seed ends.
    pub(crate) is_over: bool,
    /// Power was lost under [`Durability::Written`]: what was acknowledged may be gone.
    ///
    /// [`Durability::Written`]: doorbuster::Durability::Written
    pub(crate) lost_written: bool,
    /// Refusals were remembered under another bound.
    pub(crate) has_varied_refusals: bool,
    /// The disk's room has a bound now.
    is_bounded: bool,
    pub(crate) asked_checkpoints: Vec<Checkpointing>,
    /// A call of a checkpoint failed, or lied, since the last one was taken.
    pub(crate) failed_checkpoint_call: bool,
    /// No faults any more.
    pub(crate) is_quiet: bool,
    story: VecDeque<String>,
    /// A hash of all that happened: two runs of one seed have the same.
    trail: u64,
}

/// What a seed came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) trail: u64,
    pub(crate) broken: Option<Broken>,
    pub(crate) story: Vec<String>,
}

/// Runs a seed to its end, or to the first promise that is broken.
pub(crate) fn run(seed: u64) -> Outcome {
    let mut sim = Sim::new(seed);
    let broken = sim.live().err();
    // An engine that is half gone must not be looked at.
    sim.engine = None;
    Outcome { tally: sim.tally, trail: sim.trail, broken, story: sim.story.into() }
}

impl Sim {
    fn new(seed: u64) -> Self {
        let plan = Plan::draw(seed);
        let mut draw = Draw::new(seed ^ 0x5eed);
        let (clock, tally) = (Arc::new(ManualClock::default()), Tally::default());
        let storage = MemoryStorage::new().direct(plan.shape.direct);
        Self {
            workload: Workload::new(draw.split(), &plan.work),
            disk: Disk::new(draw.split(), &plan, &tally),
            judge: Judge::new(&plan.shape, &clock, &tally),
            clock,
            tally,
            engine: None,
            snapshots: Vec::new(),
            injury: None,
            is_over: false,
            asked_checkpoints: Vec::new(),
            failed_checkpoint_call: false,
            is_quiet: false,
            is_bounded: false,
            has_varied_refusals: false,
            lost_written: false,
            story: VecDeque::new(),
            trail: 0,
            storage,
            draw,
            plan,
        }
    }

    pub(crate) fn tell(&mut self, what: String) {
        for byte in what.bytes() {
            self.trail = (self.trail ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if std::env::var_os("STORY").is_some() {
            println!("{what}");
        }
        if self.story.len() == STORY_LINES {
            self.story.pop_front();
        }
        self.story.push_back(what);
    }

    fn live(&mut self) -> Checked {
        let shape = &self.plan.shape;
        self.tell(format!("{shape:?}"));
        self.open()?;
        self.stock_up()?;
        self.open_lists()?;
        self.limit_rates()?;
        for _ in 0..self.plan.steps {
            if self.is_over {
                return Ok(());
            }
            if self.engine.is_none() {
                self.open()?;
                continue;
            }
            let action = Action::ALL[self.draw.weighted(&self.plan.work.weights)];
            self.act(action)?;
            self.look(action)?;
        }
        self.finish()
    }

    /// Everything that a SKU's first buyers need.
    fn stock_up(&mut self) -> Checked {
        for _ in 0..self.plan.work.skus {
            let Some(engine) = &self.engine else { return Ok(()) };
            let asked = self.workload.adjusting(0);
            self.judge.adjust(engine, &asked)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Checked {
        match action {
            Action::Place | Action::Batch | Action::Invalid => self.place(action),
            Action::End | Action::View => self.end_or_view(action),
            Action::Adjust | Action::Rule | Action::EndSale => self.change_sku(action),
            Action::Throttle | Action::Switch => self.switch(action),
            Action::Watch => self.watch(),
            Action::Writer => {
                let shard = self.draw.weighted(&nonzero(&self.plan.work.writers));
                self.step_writer(shard).map(drop)
            }
            Action::BeginBlock => {
                self.begin_block();
                Ok(())
            }
            Action::Timekeeper => self.step_timekeeper().map(drop),
            Action::Segments => self.step_segments(),
            Action::Idle => self.run_until_idle(),
            Action::Advance | Action::WallJump => self.move_clock(action),
            Action::Close => self.close(),
            Action::Kill => self.stop("kill", false),
            Action::PowerLoss => {
                let power = self.plan.faults.power_percent > 0;
                self.stop(if power { "power loss" } else { "kill" }, power)
            }
            Action::Room => {
                self.change_room();
                Ok(())
            }
            Action::Snapshot => {
                self.take_snapshot();
                Ok(())
            }
            Action::Checkpointer => {
                let steps = self.draw.between(1, self.plan.checkpoints.steps_max);
                self.step_checkpointer_on(steps).map(drop)
            }
            Action::AskForCheckpoint => self.ask_for_checkpoint(),
            Action::BackUp => self.back_up(),
        }
    }

    fn place(&mut self, action: Action) -> Checked {
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let now_ms = engine.now_ms();
        let asked = self.workload.order(&self.plan.shape, now_ms);
        let done = match action {
            Action::Place => {
                self.tell(format!("place {asked:?}"));
                self.place_one(&engine, &asked)
            }
            Action::Batch => {
                let mut batch = vec![asked];
                for _ in 0..self.draw.below(6) {
                    batch.push(self.workload.order(&self.plan.shape, now_ms));
                }
                self.tell(format!("batch {batch:?}"));
                self.judge.place_batch(&engine, &batch)
            }
            _ => self.judge.place_invalid(&engine, &asked, self.draw.next()),
        };
        self.engine = Some(engine);
        done
    }

    #[cfg(not(doorbuster_mutants))]
    fn place_one(&mut self, engine: &SteppedEngine, asked: &Asked) -> Checked {
        self.judge.place(engine, asked)
    }

    #[cfg(doorbuster_mutants)]
    fn place_one(&mut self, engine: &SteppedEngine, asked: &Asked) -> Checked {
        self.place_interrupted(engine, asked)
    }

    fn end_or_view(&mut self, action: Action) -> Checked {
        let known = self.judge.known_orders();
        let lost = self.judge.lost_orders();
        let now_ms = self.engine.as_ref().map_or(0, |engine| engine.now_ms());
        let due = self.judge.due_orders(now_ms);
        // Now and then an order that a crash took, or that never was.
        let order = match self.draw.below(20) {
            2..=7 if !due.is_empty() => self.draw.pick(&due).copied(),
            0 => self.draw.pick(&lost).copied(),
            1 => Some(doorbuster::OrderId::from_u64(self.draw.next())),
            _ => self.draw.pick(&known).copied(),
        };
        let verb = [Verb::Confirm, Verb::Confirm, Verb::Cancel, Verb::Fulfil];
        let verb = verb[self.draw.below(4) as usize];
        let (Some(engine), Some(order)) = (&self.engine, order) else { return Ok(()) };
        match action {
            Action::End => {
                let told = format!("{verb:?} {order}");
                self.judge.end(engine, verb, order)?;
                self.tell(told);
            }
            _ => {
                self.judge.view(engine, order)?;
                self.tell(format!("view {order}"));
            }
        }
        Ok(())
    }

    fn change_sku(&mut self, action: Action) -> Checked {
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let done = if action == Action::Adjust {
            let sku = self.workload.sku();
            let stocked = engine.levels(sku).map_or(0, |levels| levels.stocked);
            let asked = self.workload.adjusting(stocked);
            self.tell(format!("{asked:?}"));
            self.judge.adjust(&engine, &asked)
        } else if action == Action::EndSale {
            let sku = self.workload.sku();
            self.tell(format!("the sale of SKU {sku} ends"));
            self.judge.end_sale(&engine, sku)
        } else {
            let sku = self.workload.sku();
            let ruling = self.workload.ruling(&self.plan.shape, engine.now_ms());
            self.tell(format!("SKU {sku}: {ruling:?}"));
            self.judge.rule(&engine, sku, &ruling)
        };
        self.engine = Some(engine);
        done
    }

    fn switch(&mut self, action: Action) -> Checked {
        let Some(engine) = &self.engine else { return Ok(()) };
        if action == Action::Switch {
            let to = self.workload.switch();
            self.judge.switch(engine, to)?;
            self.tell(format!("the engine is switched to {to:?}"));
        } else {
            let (merchant, throttle) = (self.workload.merchant(), self.workload.throttle());
            self.judge.throttle(engine, merchant, throttle)?;
            self.tell(format!("merchant {merchant}: {throttle:?}"));
        }
        Ok(())
    }

    /// Lets a writer write a block; returns what it did. Holds that are over are looked at before, so that the judge
    /// knows what the block may return to stock.
    pub(crate) fn step_writer(&mut self, shard: usize) -> Checked<Step> {
        let Some(mut engine) = self.engine.take() else { return Ok(Step::Idle) };
        self.judge.settle_due(&engine)?;
        self.set_phase(Phase::Write);
        let step = engine.step_writer(shard);
        self.set_phase(Phase::Quiet);
        self.engine = Some(engine);
        let at = self.note_writes()?;
        self.tell(format!("writer {shard}: {step:?} {at:?}"));
        if self.disk.has_stopped() {
            self.tally.met("crash in a step");
            return self.stop_in_call().map(|()| step);
        }
        let failed = !self.disk.errors().is_empty();
        self.judge.troubles.failed |= failed;
        match step {
            Step::Wrote => {
                self.judge.resolve(at, false)?;
                self.judge.hear(false)?;
            }
            Step::Full => {
                self.tally.met("no room for a block");
                hold_to!(self.judge.troubles.short, "a full disk, but it has room");
            }
            Step::Ended => {
                let why = self.engine.as_ref().map(|engine| engine.place_batch(&[]).err());
                hold_to!(self.judge.troubles.failed, "latched, but no call has failed: {why:?}");
                self.judge.troubles.latched = true;
            }
            _ => {}
        }
        Ok(step)
    }

    /// A writer takes what waits into its next block: what is logged before it is written is in a later one.
    fn begin_block(&mut self) {
        let shard = self.draw.weighted(&nonzero(&self.plan.work.writers));
        if let Some(engine) = &mut self.engine {
            engine.begin_block(shard);
        }
        self.tally.met("block begun");
        self.tell(format!("writer {shard} begins a block"));
    }

    pub(crate) fn note_writes(&mut self) -> Checked<At> {
        let now_ms = self.engine.as_ref().map(|engine| engine.now_ms());
        for recycled in self.disk.take_recycled() {
            self.tell(format!("{recycled} is recycled"));
            self.judge.recycled(&recycled, now_ms)?;
        }
        let mut at = At::Somewhere;
        for write in self.disk.take_writes() {
            if write.offset == 0 && !write.path.ends_with("0000000000.segment") {
                self.tally.met("next segment");
            }
            at = self.judge.blocks.wrote(&self.storage, &write, now_ms);
        }
        Ok(at)
    }

    /// One round of the timekeeper; whether more holds are due.
    pub(crate) fn step_timekeeper(&mut self) -> Checked<bool> {
        let Some(mut engine) = self.engine.take() else { return Ok(false) };
        let more = engine.step_timekeeper();
        self.tell(format!("timekeeper: more {more}"));
        let now_ms = engine.now_ms();
        let done = self.judge.time.saw(now_ms, &self.clock, true);
        let done = done.and_then(|()| self.judge.settle_served(&engine, more));
        let done = done.and_then(|()| match more {
            true => Ok(()),
            false => self.judge.check_deadlines(&engine),
        });
        let done = done.and_then(|()| self.judge.settle_due(&engine));
        let done = done.and_then(|()| self.judge.settle_retired(&engine, more));
        let done = done.and_then(|()| self.judge.hear(false));
        self.engine = Some(engine);
        done.map(|()| more)
    }

    pub(crate) fn step_segments(&mut self) -> Checked {
        let Some(mut engine) = self.engine.take() else { return Ok(()) };
        self.set_phase(Phase::Run);
        engine.step_segments();
        self.set_phase(Phase::Quiet);
        self.engine = Some(engine);
        self.note_writes()?;
        self.tell("segments".into());
        if self.disk.has_stopped() {
            return self.stop_in_call();
        }
        // The manifest, too, is replaced here, with a higher ceiling of order ids.
        self.note_log_errors();
        Ok(())
    }

    /// Only an error in the log is one for the engine: all else is tried again. Returns whether any call failed.
    pub(crate) fn note_log_errors(&mut self) -> bool {
        let others = self.disk.forget_errors_outside_log();
        let log_failed = !self.disk.errors().is_empty();
        self.judge.troubles.failed |= log_failed;
        log_failed || others > 0
    }

    pub(crate) fn run_until_idle(&mut self) -> Checked {
        loop {
            let due = self.step_timekeeper()?;
            self.step_segments()?;
            let mut wrote = false;
            for shard in 0..self.plan.shape.shards {
                wrote |= self.step_writer(shard)? == Step::Wrote;
            }
            let went_on = self.plan.checkpoints.are_taken && self.step_checkpointer_on(u64::MAX)?;
            let Some(engine) = &self.engine else { return Ok(()) };
            if !due && !wrote && !went_on {
                return self.judge.check_all_heard(engine);
            }
        }
    }

    fn move_clock(&mut self, action: Action) -> Checked {
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let now_ms = engine.now_ms();
        if action == Action::Advance {
            let mut moments = self.judge.deadlines();
            moments.extend(self.judge.turns_of_sales());
            moments.extend(self.judge.ends_of_refusals(now_ms));
            let ms = self.workload.advance_ms(now_ms, &moments);
            let nanos = self.draw.below(1_000_000);
            self.clock.advance(Duration::from_millis(ms) + Duration::from_nanos(nanos));
            self.tell(format!("{ms} ms pass"));
        } else {
            self.jump_wall();
        }
        let done = self.judge.time.saw(engine.now_ms(), &self.clock, false);
        self.engine = Some(engine);
        done
    }

    /// The wall clock is set, forward or back; the boot clock does not notice.
    pub(crate) fn jump_wall(&mut self) {
        let far_ms = [100, 60_000, 3_600_000, 40 * 86_400_000][self.draw.below(4) as usize];
        let wall_ms = self.clock.wall_ms();
        let by_ms = self.draw.below(far_ms);
        let wall_ms = match self.draw.percent(50) {
            true => wall_ms + by_ms,
            false => wall_ms.saturating_sub(by_ms),
        };
        self.clock.set_wall_ms(wall_ms);
        self.tally.met("wall clock set");
        self.tell(format!("the wall clock is set to {wall_ms}"));
    }

    pub(crate) fn make_room(&mut self) {
        self.storage.set_capacity_bytes(None);
        self.is_bounded = false;
    }

    /// The disk runs full, or gets room again.
    fn change_room(&mut self) {
        if std::mem::take(&mut self.is_bounded) {
            self.storage.set_capacity_bytes(None);
            self.tell("the disk has room again".into());
            return;
        }
        let used: usize = self.storage.list_files().iter().map(|path| self.file_bytes(path)).sum();
        let left = self.draw.below(3 * self.plan.shape.segment_bytes);
        self.storage.set_capacity_bytes(Some(used as u64 + left));
        (self.judge.troubles.short, self.is_bounded) = (true, true);
        self.tell(format!("the disk has {left} bytes left"));
    }

    fn file_bytes(&self, path: &str) -> usize {
        self.storage.read_file(path).map_or(0, |bytes| bytes.len())
    }

    /// What a host can see after each action. Holds that are over are left alone where nothing can have
    /// ended them unseen, so that verbs meet them too.
    fn look(&mut self, action: Action) -> Checked {
        let Some(engine) = &self.engine else { return Ok(()) };
        if matches!(action, Action::Place | Action::Batch) {
            self.judge.settle_due(engine)?;
        }
        self.judge.check_levels(engine, "after this action")?;
        self.judge.check_positions(engine, "after this action")
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.disk.set_phase(if self.is_quiet { Phase::Quiet } else { phase });
    }

    /// Troubles of a life end with it, but for a disk without room.
    pub(crate) fn new_troubles(&mut self) {
        let short = self.is_bounded;
        self.judge.troubles = Troubles { short, ..Troubles::default() };
    }
}

/// Where every disk hangs, one is stepped all the same.
fn nonzero(weights: &[u32]) -> Vec<u32> {
    match weights.iter().all(|weight| *weight == 0) {
        true => vec![1; weights.len()],
        false => weights.to_vec(),
    }
}
