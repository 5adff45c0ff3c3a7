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
    "asked for a retired order",
    "back in memory after a crash",
    "backup failed",
    "backup",
    "bit rot",
    "checkpoint cut short",
    "checkpoint failed",
    "checkpoint rot",
    "checkpoint",
    "clean close",
    "block begun",
    "boot clock refused",
    "clock jump refused",
    "closed",
    "crash in a backup",
    "crash in a checkpoint",
    "crash in a close",
    "crash in a step",
    "crash in an open from a checkpoint",
    "crash in an open",
    "crash in recycling",
    "ended",
    "expired",
    "failed sync",
    "failed write",
    "fell back to the older checkpoint",
    "fell back to the whole log",
    "halted",
    "held",
    "held for as long as its rules say",
    "hold over under a halt",
    "hold over when a verb came",
    "kept back",
    "key reused",
    "key reused, of a refusal",
    "key too new",
    "key too old",
    "lost write",
    "manifest rot",
    "misdirected write",
    "missing checkpoint",
    "missing segment",
    "new again when its refusal was forgotten",
    "new again when its refusal was over",
    "next segment",
    "no room for a block",
    "not open yet",
    "open refused for damage",
    "open refused for damaged checkpoints",
    "open refused for lies",
    "opened from a checkpoint",
    "opened in spite of damage",
    "opened with other bounds",
    "others wait",
    "over a bound",
    "over a limit",
    "over a limit, of a partial order",
    "partly held",
    "power loss",
    "process killed",
    "read error",
    "rate limited",
    "refusal forgotten for another",
    "refusal remembered",
    "refused before",
    "refused before a crash",
    "refused: at capacity",
    "refused: backlogged",
    "refused: disk full",
    "refused: latched",
    "refused: order ids used up",
    "refused: too many buyers to count",
    "renamed segment",
    "repeated",
    "repeated, of an order that waited",
    "repeated, partly held",
    "restart in a backup",
    "retired",
    "rules refused",
    "sale ended",
    "sector rot",
    "segment recycled after it was kept",
    "segment recycled",
    "served",
    "served at an open",
    "served in turn, the log says",
    "shard rolled back",
    "shards exchanged",
    "short write",
    "sold out",
    "sold out for a partial order",
    "switched off",
    "the older checkpoint gave the same",
    "the whole log gave the same",
    "unacknowledged and lost",
    "unacknowledged and survived",
    "waiting list full",
    "waits",
    "wall clock set",
    "who watched heard",
    "who watched heard of the end",
    "window of R13: acknowledged and gone",
    "written: opened after a power loss",
    "written: refused after a power loss",
];
