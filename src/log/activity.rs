//! Lets the engine's helper threads rest while nothing is written, and brings them back with the first block.
//!
//! Whatever an engine has to do beside its verbs follows from a record, so from a block: a deadline comes with
//! an order, a spare segment and a checkpoint become due as the log grows. A helper works at its own pace
//! while blocks are written, and rests once a whole round passes without one.
//!
//! Invariant: a helper looks at the count after it said that it rests, and a writer looks whether a helper
//! rests after it counted its block (all `SeqCst`). So the helper sees the block, or the writer sees the helper.
//! No verb touches any of this.

use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering, Unparker};

#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Blocks with records since the open. Written by the writers.
    blocks: AtomicUsize,
    /// A helper is about to rest, or rests. Set by helpers, cleared by the writer that wakes them.
    is_resting: AtomicBool,
    helpers: Mutex<Vec<Unparker>>,
}

impl Activity {
    pub(crate) fn add_helper(&self, unparker: Unparker) {
        self.helpers.lock().push(unparker);
    }

    /// Writer: a block with records is durable, and its effects are applied.
    pub(crate) fn note(&self) {
        self.blocks.fetch_add(1, Ordering::SeqCst);
        if self.is_resting.load(Ordering::SeqCst) && self.is_resting.swap(false, Ordering::SeqCst) {
            self.helpers.lock().iter().for_each(Unparker::unpark);
        }
    }

    /// Helper: how many blocks there are by now, read before it looks for work.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.load(Ordering::SeqCst)
    }

    /// Helper: parks unless a block was written since `seen` was read.
    pub(crate) fn rest(&self, seen: usize, park: impl FnOnce()) {
        self.is_resting.store(true, Ordering::SeqCst);
        if self.blocks() == seen {
            park();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::thread;

    use super::Activity;
    use crate::sync::Parker;

    /// Two helpers rest until there is a block. Loom's parks never end by time: a wake-up that is lost hangs.
    #[test]
    fn no_helper_sleeps_through_a_block() {
        loom::model(|| {
            let activity = Arc::new(Activity::default());
            let helpers: Vec<_> = (0..2)
                .map(|_| {
                    let (activity, parker) = (activity.clone(), Parker::new());
                    activity.add_helper(parker.unparker().clone());
                    thread::spawn(move || {
                        loop {
                            let seen = activity.blocks();
                            if seen > 0 {
                                return;
                            }
                            activity.rest(seen, || parker.park());
                        }
                    })
                })
                .collect();
            activity.note();
            helpers.into_iter().for_each(|helper| helper.join().expect("no panic"));
        });
    }
}
