//! The ceiling of order ids (rule R3): an id is used only below a ceiling that was durable before.
//!
//! 1. The open writes a manifest with a ceiling a million sequences above all that may have been used.
//! 2. A request that finds less than half of that left asks for more. It never waits: half is left.
//! 3. An engine thread writes the manifest anew with a higher ceiling, and only then raises it in memory.
//!
//! A crash loses what was reserved and not used: at most a million sequences of each partition. A clean close loses
//! nothing. Nothing that was acknowledged rests on step 3: if it fails, it is tried again, and the manifest that
//! stands there, the old one or the new one, is true.

use crate::error::{Capacity, OpenError, Unavailable, at_capacity};
use crate::ids::SEQUENCE_END;
use crate::log::Manifest;
use crate::storage::Storage;
use crate::sync::{AtomicBool, AtomicU64, Mutex, OnceLock, Ordering, Unparker};

#[derive(Debug)]
pub(crate) struct IdCeiling {
    /// Requests from this sequence on ask for a higher ceiling. Read by every order, under its partition's lock;
    /// written with `end`, and never above it.
    ask_from: AtomicU64,
    /// Sequences below it may be used: a manifest with this ceiling is durable. Written by the raising thread.
    end: AtomicU64,
    /// Set by a request, cleared once the ceiling is raised.
    is_asked: AtomicBool,
    /// Half of what is reserved at a time.
    step: u64,
    /// Held while the manifest is replaced: a close replaces it too.
    pub(crate) replacing: Mutex<()>,
    pub(crate) raised: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// The raising thread's; not set where it is stepped.
    raiser: OnceLock<Unparker>,
}

impl IdCeiling {
    /// `floor` is the manifest's, which is durable.
    pub(crate) fn new(floor: u64, reserved: u64) -> Self {
        let (end, step) = (floor.min(SEQUENCE_END), (reserved / 2).max(1));
        Self {
            ask_from: AtomicU64::new(ask_from(end, step)),
            end: AtomicU64::new(end),
            is_asked: AtomicBool::new(false),
            step,
            replacing: Mutex::new(()),
            raised: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            raiser: OnceLock::new(),
        }
    }

    pub(crate) fn set_raiser(&self, unparker: Unparker) {
        // It is set once, before any request.
        drop(self.raiser.set(unparker));
    }

    /// Checks that a partition may use this sequence, its next one.
    #[inline]
    pub(crate) fn check(&self, sequence: u64) -> Result<(), Unavailable> {
        if sequence < self.ask_from.load(Ordering::Acquire) { Ok(()) } else { self.ask(sequence) }
    }

    #[cold]
    fn ask(&self, sequence: u64) -> Result<(), Unavailable> {
        let end = self.end.load(Ordering::Acquire);
        let is_asked = self.is_asked.load(Ordering::Relaxed);
        if end < SEQUENCE_END && !is_asked && !self.is_asked.swap(true, Ordering::AcqRel) {
            self.raiser.get().into_iter().for_each(Unparker::unpark);
        }
        match sequence < end {
            true => Ok(()),
            false => Err(at_capacity(Capacity::OrderIds, end)),
        }
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Acquire)
    }

    /// The ceiling that is durable.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Step 3, by one thread at a time, which holds `replacing`.
    pub(crate) fn raise(
        &self,
        manifest: &Manifest,
        storage: &dyn Storage,
    ) -> Result<(), OpenError> {
        let end = (self.end() + self.step).min(SEQUENCE_END);
        let manifest = Manifest { sequence_floor: end, ..manifest.clone() };
        if let Err(error) = manifest.write(storage) {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        self.end.store(end, Ordering::Release);
        self.ask_from.store(ask_from(end, self.step), Ordering::Release);
        self.is_asked.store(false, Ordering::Release);
        self.raised.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// From the last one on nothing is left to ask for.
fn ask_from(end: u64, step: u64) -> u64 {
    if end == SEQUENCE_END { end } else { end.saturating_sub(step) }
}
