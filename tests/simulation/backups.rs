//! Backups: copies of a running engine, and crashes in the midst of one.

use std::sync::Arc;

use doorbuster::storage::Storage;
use doorbuster::testing::{MemoryStorage, SteppedEngine};

use crate::disk::Phase;
use crate::judge::{Checked, hold_to};
use crate::sim::Sim;

impl Sim {
    /// Backs the engine up, to another disk that has its own faults.
    pub(crate) fn back_up(&mut self) -> Checked {
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let to = MemoryStorage::new();
        self.disk.watch(&to);
        let before = self.disk.errors().len();
        self.set_phase(Phase::Backup);
        let backed_up = engine.backup_to(&(Arc::new(to.clone()) as Arc<dyn Storage>));
        self.set_phase(Phase::Quiet);
        self.engine = Some(engine);
        let failed = self.disk.take_errors_from(before);
        self.tell(format!("backup: {backed_up:?}"));
        if self.disk.has_stopped() {
            self.tally.met("crash in a backup");
            self.check_partial_backup(&to)?;
            return self.stop_in_call();
        }
        // What was damaged where no open has read it since is named by a backup that reads it.
        let is_sound = !self.judge.blocks.has_lied();
        match backed_up {
            Ok(_) if is_sound && !self.judge.troubles.failed => {
                hold_to!(failed.is_empty(), "a backup is said to be whole, although {failed:?}");
                self.check_backup(&to)
            }
            Ok(_) => Ok(()),
            Err(error) => {
                self.tally.met("backup failed");
                hold_to!(
                    !failed.is_empty() || !is_sound || self.judge.troubles.failed,
                    "backup: {error}, but no call has failed"
                );
                self.check_partial_backup(&to)
            }
        }
    }

    /// It has all that is durable now, and nothing else, since nothing else went on.
    fn check_backup(&self, to: &MemoryStorage) -> Checked {
        let copy = self.storage.deep_copy();
        copy.set_capacity_bytes(None);
        let expected = self.dump_of(&copy, "of a copy")?;
        let lost_power = to.crash(&mut |_| 0);
        let found = self.dump_of(&lost_power, "of a backup")?;
        let differ = self.differ(&expected, &found);
        hold_to!(differ.is_empty(), "a backup differs from what was backed up: {differ}");
        self.tally.met("backup");
        Ok(())
    }

    /// What is left of one that was cut short is no engine's; or nothing is left, or all of it.
    fn check_partial_backup(&mut self, to: &MemoryStorage) -> Checked {
        let left = to.crash(&mut |n| self.draw.below(n));
        if left.list_files().is_empty() {
            return Ok(());
        }
        if let Ok(engine) = SteppedEngine::open(self.options(&left).accept_clock_jump(true)) {
            drop(engine);
            let is_sound = !self.judge.blocks.has_lied() && !self.judge.troubles.failed;
            return if is_sound { self.check_backup(&left) } else { Ok(()) };
        }
        Ok(())
    }
}
