//! A checkpoint and the log behind it, an older one, and the log from its beginning come to the same state,
//! byte for byte in a canonical dump.

use doorbuster::testing::{MemoryStorage, SteppedEngine};

use crate::judge::{Broken, Checked, hold_to, list_checkpoints};
use crate::sim::Sim;

impl Sim {
    /// An engine was just opened from a medium that is as it should be: opens copies of it without the newest
    /// checkpoint, and without any.
    pub(crate) fn compare_replays(&mut self, engine: &SteppedEngine) -> Checked {
        let Some(used) = engine.recovery().checkpoint else { return Ok(()) };
        let expected = engine.dump();
        for keeps_older in [true, false] {
            let copy = self.storage.deep_copy();
            copy.set_capacity_bytes(None);
            // Those before it are left over, and their log may be gone.
            let checkpoints = list_checkpoints(&copy);
            let older = checkpoints.iter().map(|(number, _)| *number).filter(|it| *it < used).max();
            for (number, path) in checkpoints {
                if Some(number) != older || !keeps_older {
                    copy.remove_file(&path).expect("it was listed");
                }
            }
            let base = self.judge.checkpoints.base(&copy, self.plan.shape.shards);
            // What the newest does not need may have rotted.
            if !self.judge.blocks.are_intact(&copy) {
                return Ok(());
            }
            if base.is_given_up || base.is_missing() || keeps_older != base.number.is_some() {
                continue;
            }
            let found = self.dump_of(&copy, &format!("from {:?}", base.number))?;
            let differ = differ(without_floor(&expected), without_floor(&found));
            hold_to!(differ.is_empty(), "from {used} and from {:?}: {differ}", base.number);
            self.tally.met(match keeps_older {
                true => "the older checkpoint gave the same",
                false => "the whole log gave the same",
            });
        }
        Ok(())
    }

    /// What an open of this storage comes to.
    pub(crate) fn dump_of(&self, storage: &MemoryStorage, what: &str) -> Checked<String> {
        match SteppedEngine::open(self.options(storage).accept_clock_jump(true)) {
            Ok(engine) => Ok(engine.dump()),
            Err(error) => Err(Broken(format!("an open {what}: {error}"))),
        }
    }
}

/// Every open raises the floor of order ids.
pub(crate) fn without_floor(dump: &str) -> &str {
    dump.split_once('\n').map_or("", |(_, rest)| rest)
}

/// The lines that only one of two dumps has; empty if they are the same.
pub(crate) fn differ(one: &str, other: &str) -> String {
    if one == other {
        return String::new();
    }
    let only = |one: &str, other: &str| -> Vec<String> {
        let others: std::collections::BTreeSet<&str> = other.lines().collect();
        one.lines().filter(|line| !others.contains(line)).map(str::to_owned).collect()
    };
    format!("only the one has {:?}, only the other {:?}", only(one, other), only(other, one))
}
