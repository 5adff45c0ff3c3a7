//! Checkpoints: how they are taken, and how they suffer.

use doorbuster::testing::CheckpointProgress;
use doorbuster::{CheckpointError, Checkpointing};

use crate::damage::Injury;
use crate::disk::Phase;
use crate::judge::{Checked, hold_to, list_checkpoints};
use crate::sim::Sim;

impl Sim {
    pub(crate) fn ask_for_checkpoint(&mut self) -> Checked {
        let Some(engine) = &self.engine else { return Ok(()) };
        match engine.checkpoint() {
            Ok(asked) => self.asked_checkpoints.push(asked),
            Err(error) => hold_to!(
                self.judge.troubles.failed,
                "a checkpoint was refused, but no call has failed: {error}"
            ),
        }
        self.tell("a checkpoint is asked for".into());
        Ok(())
    }

    /// Lets the checkpointer make a step; what it did.
    pub(crate) fn step_checkpointer(&mut self) -> Checked<CheckpointProgress> {
        let Some(mut engine) = self.engine.take() else { return Ok(CheckpointProgress::Idle) };
        let lens = self.judge.blocks.lens();
        self.set_phase(Phase::Run);
        let progress = engine.step_checkpointer();
        self.set_phase(Phase::Quiet);
        self.engine = Some(engine);
        for call in self.disk.take_checkpoint_calls() {
            self.judge.checkpoints.called(&self.storage, &call, &lens);
        }
        self.tell(format!("checkpointer: {progress:?}"));
        if self.disk.has_stopped() {
            self.tally.met("crash in a checkpoint");
            return self.stop_in_call().map(|()| progress);
        }
        self.failed_checkpoint_call |= self.note_log_errors();
        self.look_at_checkpoints()?;
        Ok(progress)
    }

    /// What became of those that were asked for.
    fn look_at_checkpoints(&mut self) -> Checked {
        let mut waiting = Vec::new();
        for asked in std::mem::take(&mut self.asked_checkpoints) {
            match asked.peek() {
                None => waiting.push(asked),
                Some(Ok(_)) => {
                    self.tally.met("checkpoint");
                    self.failed_checkpoint_call = false;
                }
                Some(Err(CheckpointError::Failed { operation, detail })) => {
                    self.tally.met("checkpoint failed");
                    hold_to!(
                        self.failed_checkpoint_call || self.judge.troubles.short,
                        "a checkpoint failed, but no call has: {operation}, {detail}"
                    );
                }
                Some(Err(error)) => hold_to!(
                    self.judge.troubles.failed,
                    "a checkpoint failed, but the log has not: {error}"
                ),
            }
        }
        self.asked_checkpoints = waiting;
        Ok(())
    }

    /// Some steps of the checkpointer, as far as it goes.
    pub(crate) fn step_checkpointer_on(&mut self, steps: u64) -> Checked<bool> {
        for step in 0..steps {
            if self.step_checkpointer()? != CheckpointProgress::Worked {
                return Ok(step > 0);
            }
        }
        Ok(true)
    }

    /// After the faults a checkpoint can be taken.
    pub(crate) fn take_last_checkpoint(&mut self) -> Checked {
        if !self.plan.checkpoints.are_taken {
            return Ok(());
        }
        self.ask_for_checkpoint()?;
        self.run_until_idle()?;
        let waiting = self.asked_checkpoints.iter().filter(|asked| is_open(asked)).count();
        hold_to!(waiting == 0, "{waiting} checkpoints are not taken though all is quiet");
        Ok(())
    }

    /// Damages checkpoints, mostly the newest one alone.
    pub(crate) fn injure_checkpoints(&mut self, injury: &mut Injury) -> String {
        let mut found = list_checkpoints(&self.storage);
        if found.is_empty() {
            return "none, there is no checkpoint".into();
        }
        if self.draw.percent(75) {
            found.drain(..found.len() - 1);
        }
        injury.checkpoints = true;
        self.judge.checkpoints.were_injured = true;
        let how = self.draw.weighted(&[6, 2, 1]);
        for (number, path) in &found {
            let mut bytes = self.storage.read_file(path).unwrap_or_default();
            // No reader knows of what lies after it.
            bytes.truncate(self.judge.checkpoints.bytes(*number));
            match how {
                0 => {
                    // No reader knows of the zeros that fill up a page.
                    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
                    let Some(at) = self.draw.pick(&used).copied() else { continue };
                    let spoiled = [bytes[at] ^ (1 << self.draw.below(8))];
                    self.storage.overwrite(path, at as u64, &spoiled).expect("it was listed");
                }
                1 => {
                    let len = self.draw.below(bytes.len() as u64);
                    self.storage.truncate(path, len).expect("it was listed");
                }
                _ => self.storage.remove_file(path).expect("it was listed"),
            }
        }
        self.tally.met(["checkpoint rot", "checkpoint cut short", "missing checkpoint"][how]);
        format!("{} of {found:?}", ["rot", "cut", "loss"][how])
    }
}

fn is_open(asked: &Checkpointing) -> bool {
    asked.peek().is_none()
}
