//! What one calling thread measures.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use hdrhistogram::Histogram;

use crate::shared::timer::histogram;

type Failure = Box<dyn Error + Send + Sync>;

/// How many answers a thread gathers before it reports them.
const ANSWERS_PER_TELLING: u64 = 256;

/// What was measured.
pub(crate) struct Recorder {
    /// Calls that place.
    pub(crate) place_ns: Histogram<u64>,
    /// Calls that confirm, cancel and fulfil.
    pub(crate) verb_ns: Histogram<u64>,
    /// From a call, or the moment at which it was due, to the moment the caller saw its answer durable.
    /// Refusals rest on nothing that must be durable; they are left out.
    pub(crate) commit_ns: Histogram<u64>,
    pub(crate) verbs: u64,
    /// How often a request waited until the log had room.
    pub(crate) backlogged: u64,
    /// Verbs that were answered with something else than planned.
    pub(crate) unplanned: u64,
    /// When the last answer was durable.
    pub(crate) end_ns: u64,
}

impl Recorder {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            place_ns: histogram()?,
            verb_ns: histogram()?,
            commit_ns: histogram()?,
            verbs: 0,
            backlogged: 0,
            unplanned: 0,
            end_ns: 0,
        })
    }

    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Failure> {
        self.place_ns.add(&other.place_ns)?;
        self.verb_ns.add(&other.verb_ns)?;
        self.commit_ns.add(&other.commit_ns)?;
        self.verbs += other.verbs;
        self.backlogged += other.backlogged;
        self.unplanned += other.unplanned;
        self.end_ns = self.end_ns.max(other.end_ns);
        Ok(())
    }
}

/// How many requests are answered, told by many threads and watched by one.
#[derive(Default)]
pub(crate) struct Answered {
    /// A counter only: nothing else is published by it, so its accesses are relaxed.
    total: CachePadded<AtomicU64>,
}

impl Answered {
    pub(crate) fn get(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, answers: u64) {
        self.total.fetch_add(answers, Ordering::Relaxed);
    }

    /// One thread's tally of what it has not told yet.
    pub(crate) fn teller(&self) -> Teller<'_> {
        Teller { answered: self, untold: 0 }
    }
}

/// Tells now and then, so that threads do not meet at the counter.
pub(crate) struct Teller<'a> {
    answered: &'a Answered,
    untold: u64,
}

impl Teller<'_> {
    pub(crate) fn add(&mut self, answers: u64) {
        self.untold += answers;
        if self.untold >= ANSWERS_PER_TELLING {
            self.answered.add(self.untold);
            self.untold = 0;
        }
    }
}

impl Drop for Teller<'_> {
    fn drop(&mut self) {
        self.answered.add(self.untold);
    }
}
