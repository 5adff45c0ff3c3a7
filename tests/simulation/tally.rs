//! What the seeds have met, so that a test can see that the net has no hole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often what was met. A clone counts to the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    counts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Tally {
    pub(crate) fn met(&self, what: &'static str) {
        self.met_times(what, 1);
    }

    pub(crate) fn met_times(&self, what: &'static str, times: u64) {
        if times > 0 {
            *self.counts().entry(what).or_default() += times;
        }
    }

    pub(crate) fn add(&self, other: &Self) {
        for (what, times) in other.counts().iter() {
            self.met_times(what, *times);
        }
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.counts().get(what).copied().unwrap_or(0)
    }

    pub(crate) fn print(&self) {
        self.counts().iter().for_each(|(what, times)| println!("{times:>10} {what}"));
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thousand seeds must have met.
pub(crate) const MUST_BE_MET: &[&str] = &[
    "adjusted",
    "bit rot",
    "clean close",
    "clock jump refused",
    "crash in a close",
    "crash in a step",
    "crash in an open",
    "ended",
    "expired",
    "failed sync",
    "failed write",
    "hold over when a verb came",
    "held",
    "key reused",
    "lost write",
    "manifest rot",
    "misdirected write",
    "missing segment",
    "next segment",
    "no room for a block",
    "open refused for damage",
    "open refused for lies",
    "opened in spite of damage",
    "opened with other bounds",
    "over a bound",
    "over a limit",
    "power loss",
    "process killed",
    "read error",
    "refused: at capacity",
    "refused: backlogged",
    "refused: disk full",
    "refused: latched",
    "renamed segment",
    "repeated",
    "sector rot",
    "shard rolled back",
    "shards exchanged",
    "short write",
    "sold out",
    "unacknowledged and lost",
    "unacknowledged and survived",
    "wall clock set",
    "window of R13: acknowledged and gone",
    "written: opened after a power loss",
    "written: refused after a power loss",
];

/// With `CHECKPOINTS=1`.
pub(crate) const MUST_BE_MET_BY_CHECKPOINTS: &[&str] = &[
    "checkpoint",
    "checkpoint cut short",
    "checkpoint failed",
    "checkpoint rot",
    "crash in a checkpoint",
    "crash in an open from a checkpoint",
    "crash in recycling",
    "fell back to the older checkpoint",
    "fell back to the whole log",
    "missing checkpoint",
    "open refused for damaged checkpoints",
    "opened from a checkpoint",
    "segment recycled",
];
