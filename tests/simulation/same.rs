//! A checkpoint and the log behind it, an older one, and the log from its beginning come to the same state,
//! byte for byte in a canonical dump.

use doorbuster::OpenError;
use doorbuster::testing::{MemoryStorage, SteppedEngine};

use crate::judge::{Broken, Checked, hold_to, list_checkpoints};
use crate::sim::Sim;

impl Sim {
    /// An engine was just opened from a medium that is as it should be: opens copies of it without the newest
    /// checkpoint, and without any.
    pub(crate) fn compare_replays(&mut self, engine: &SteppedEngine) -> Checked {
        let Some(used) = engine.recovery().checkpoint else { return Ok(()) };
        let expected = Dump::of(engine);
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
            let differ = self.differ(&expected, &found);
            hold_to!(differ.is_empty(), "from {used} and from {:?}: {differ}", base.number);
            self.tally.met(match keeps_older {
                true => "the older checkpoint gave the same",
                false => "the whole log gave the same",
            });
        }
        Ok(())
    }

    /// What an open of this storage comes to.
    pub(crate) fn dump_of(&self, storage: &MemoryStorage, what: &str) -> Checked<Dump> {
        let opened = match SteppedEngine::open(self.options(storage)) {
            Err(OpenError::ClockJump { .. } | OpenError::ClockBehind { .. }) => {
                SteppedEngine::open(self.options(storage).accept_clock_jump(true))
            }
            opened => opened,
        };
        match opened {
            Ok(engine) => Ok(Dump::of(&engine)),
            Err(error) => Err(Broken(format!("an open {what}: {error}"))),
        }
    }

    /// The lines that only one of two dumps has; empty if they are the same.
    ///
    /// Every open raises the floor of order ids, the first line. What is over by now may have been forgotten, or not;
    /// the same of all refusals once they were remembered under another bound. An open serves waiting orders, as of
    /// its time. Of a list's last number, see [`Dump::list_numbers`].
    pub(crate) fn differ(&self, one: &Dump, other: &Dump) -> String {
        if one.now_ms != other.now_ms && self.judge.may_wait_in_log() {
            return String::new();
        }
        let now_ms = one.now_ms.max(other.now_ms).max(self.judge.time.latest_ms);
        let is_open = |line: &&str| match until_ms(line) {
            Some(until_ms) => until_ms > now_ms && !self.has_varied_refusals,
            None => !line.starts_with(LIST),
        };
        let lines = |dump: &'_ Dump| -> Vec<String> {
            dump.text.lines().skip(1).filter(is_open).map(str::to_owned).collect()
        };
        let (one, other) = (lines(one), lines(other));
        if one == other {
            return String::new();
        }
        let only = |one: &[String], other: &[String]| -> Vec<String> {
            one.iter().filter(|line| !other.contains(line)).cloned().collect()
        };
        format!(
            "only the one has {:?}, only the other {:?}",
            only(&one, &other),
            only(&other, &one)
        )
    }
}

/// What an engine has, in words, at a time.
pub(crate) struct Dump {
    text: String,
    now_ms: u64,
}

impl Dump {
    pub(crate) fn of(engine: &SteppedEngine) -> Self {
        Self { text: engine.dump(), now_ms: engine.now_ms() }
    }

    /// Above which order ids are given.
    pub(crate) fn floor(&self) -> Option<&str> {
        self.text.lines().next()
    }

    /// The last number of every list. A checkpoint may know of more than the log: of one that was given while it
    /// was taken, by a record that a crash then took.
    pub(crate) fn list_numbers(&self) -> Vec<&str> {
        self.text.lines().filter(|line| line.starts_with(LIST)).collect()
    }
}

const LIST: &str = "list ";

/// Of the line of a refusal: until when it is remembered.
fn until_ms(line: &str) -> Option<u64> {
    let (_, rest) = line.strip_prefix("refused ")?.split_once("until=")?;
    rest.split(' ').next()?.parse().ok()
}
