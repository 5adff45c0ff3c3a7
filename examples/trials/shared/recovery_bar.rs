//! How far a restart is: a bar on a terminal, plain lines when piped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use doorbuster::Options;
use parking_lot::Mutex;

use crate::shared::progress::Progress;

/// One restart.
pub(crate) struct RecoveryBar {
    label: &'static str,
    /// Made when the engine says how much there is to read.
    progress: Mutex<Option<Progress>>,
    /// KiB of which the progress was told. The engine tells from one thread at a time.
    told_kib: AtomicU64,
}

impl RecoveryBar {
    pub(crate) fn new(label: &'static str) -> Self {
        Self { label, progress: Mutex::default(), told_kib: AtomicU64::new(0) }
    }

    /// Has an open with these options shown.
    pub(crate) fn show(self: Arc<Self>, options: Options) -> Options {
        options.on_recovery(move |recovery| {
            let kib = recovery.bytes.div_ceil(1024);
            let more = kib.saturating_sub(self.told_kib.swap(kib, Ordering::Relaxed));
            let mut progress = self.progress.lock();
            let new = || Progress::new(self.label, "KiB", recovery.bytes_max.div_ceil(1024));
            progress.get_or_insert_with(new).add(more);
        })
    }

    /// The engine is open.
    pub(crate) fn finish(&self) {
        if let Some(progress) = self.progress.lock().take() {
            progress.finish();
        }
    }
}
