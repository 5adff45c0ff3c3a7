//! Backups: copies of a running engine, and crashes in the midst of one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use doorbuster::storage::Storage;
use doorbuster::testing::{Fault, MemoryStorage, SteppedEngine};
use doorbuster::{OpenError, Options};

use crate::disk::Phase;
use crate::draw::Draw;
use crate::judge::{Broken, Checked, hold_to};
use crate::same::Dump;
use crate::sim::Sim;

/// Share of backups, in percent, that are taken again with a restart of their engine in the middle.
const RESTARTS_PERCENT: u64 = 5;

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
                self.check_backup(&to)?;
                self.back_up_over_a_restart()
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

    /// The story: the service is restarted while its backup runs, in any call. It has to wait: another engine
    /// would write over what the backup reads. In a world of its own, since this one goes on.
    fn back_up_over_a_restart(&mut self) -> Checked {
        let mut draw = Draw::new(self.disk.calls());
        if !draw.percent(RESTARTS_PERCENT) {
            return Ok(());
        }
        let world = self.storage.deep_copy();
        world.set_capacity_bytes(None);
        let options = self.options(&world).accept_clock_jump(true);
        let broken =
            |what: &str, error: &dyn std::fmt::Debug| Err(Broken(format!("{what}: {error:?}")));
        let mut before = match SteppedEngine::open(options.clone()) {
            Ok(engine) => engine,
            Err(error) => return broken("an open before a restart", &error),
        };
        before.run_until_idle();
        let expected = Dump::of(&before);
        let to = MemoryStorage::new();
        let engine = before.engine().clone();
        let restarted = restart_in_call(&to, draw.below(24), before, options.clone());
        let backed_up = engine.backup_to(&(Arc::new(to.clone()) as Arc<dyn Storage>));
        to.set_fault_hook(None);
        drop(engine);
        if let Err(error) = backed_up {
            return broken("a backup over a restart", &error);
        }
        match restarted.lock().expect("no panic").take() {
            Some(Err(OpenError::InUse { .. })) => self.tally.met("restart in a backup"),
            Some(other) => return broken("an open while a backup reads the folder", &other.err()),
            // The backup was over before that call.
            None => return Ok(()),
        }
        let found = self.dump_of(&to.crash(&mut |_| 0), "of a backup over a restart")?;
        let differ = self.differ(&expected, &found);
        hold_to!(differ.is_empty(), "a backup over a restart differs: {differ}");
        match SteppedEngine::open(options) {
            Ok(_) => Ok(()),
            Err(error) => broken("an open after a backup over a restart", &error),
        }
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

/// What came of the restart, if that call was made.
type Restarted = Arc<Mutex<Option<Result<(), OpenError>>>>;

/// Closes the engine before a call of a backup, and opens its folder again.
fn restart_in_call(
    to: &MemoryStorage,
    nth: u64,
    engine: SteppedEngine,
    options: Options,
) -> Restarted {
    let restarted = Restarted::default();
    let (told, calls) = (restarted.clone(), AtomicU64::new(0));
    let engine = Mutex::new(Some(engine));
    to.set_fault_hook(Some(Arc::new(move |_| {
        if calls.fetch_add(1, Ordering::Relaxed) == nth {
            let closed = engine.lock().expect("no panic").take().map(SteppedEngine::close);
            assert!(matches!(closed, Some(Ok(()))), "a disk without faults: {closed:?}");
            let opened = SteppedEngine::open(options.clone()).map(drop);
            *told.lock().expect("no panic") = Some(opened);
        }
        Fault::None
    })));
    restarted
}
