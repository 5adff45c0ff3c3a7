//! How far a recovery is, for hosts that show it.

use std::fmt;
use std::sync::Arc;

use crate::sync::{AtomicU64, Mutex, Ordering};

/// How far an open's recovery is; see [`Options::on_recovery`](crate::Options::on_recovery).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RecoveryProgress {
    /// Bytes of the checkpoint and of the log that were read.
    pub bytes: u64,
    /// The most bytes that will be read: the newest checkpoint and the segments of the log after it. It is known
    /// from the first report on, and `bytes` never passes it. It is raised only when that checkpoint is damaged and
    /// the open goes back to an older one, before that one is read. Segments may be partly empty, so fewer bytes
    /// may be read in the end.
    pub bytes_max: u64,
    /// Orders that were loaded from the checkpoint.
    pub checkpoint_orders: u64,
    /// Records of the log that were read.
    pub records: u64,
}

/// What [`Options::on_recovery`](crate::Options::on_recovery) asks for.
#[derive(Clone)]
pub(crate) struct OnRecovery(pub(crate) Arc<dyn Fn(RecoveryProgress) + Send + Sync>);

impl fmt::Debug for OnRecovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnRecovery")
    }
}

/// The host is told at the beginning, whenever this many more bytes were read, and at the end.
const STEP_BYTES: u64 = 4 << 20;

/// Counts what all threads of a recovery read.
pub(super) struct Progress {
    tell: Option<OnRecovery>,
    bytes: AtomicU64,
    bytes_max: AtomicU64,
    checkpoint_orders: AtomicU64,
    records: AtomicU64,
    /// The host is told by one thread at a time, so what it hears never goes backwards; holds the bytes
    /// of which it was told.
    told: Mutex<u64>,
}

impl Progress {
    pub(super) fn new(tell: Option<OnRecovery>) -> Self {
        Self {
            tell,
            bytes: AtomicU64::new(0),
            bytes_max: AtomicU64::new(0),
            checkpoint_orders: AtomicU64::new(0),
            records: AtomicU64::new(0),
            told: Mutex::new(0),
        }
    }

    /// This many bytes at most are to be read from here on. Nothing is read meanwhile.
    pub(super) fn expect(&self, bytes: u64) {
        let bytes_max = self.bytes.load(Ordering::Relaxed) + bytes;
        self.bytes_max.fetch_max(bytes_max, Ordering::Relaxed);
        self.tell();
    }

    pub(super) fn is_asked_for(&self) -> bool {
        self.tell.is_some()
    }

    pub(super) fn add_checkpoint(&self, bytes: u64, orders: u64) {
        self.checkpoint_orders.fetch_add(orders, Ordering::Relaxed);
        self.add_bytes(bytes);
    }

    pub(super) fn add_log(&self, bytes: u64, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.add_bytes(bytes);
    }

    fn add_bytes(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / STEP_BYTES != (before + bytes) / STEP_BYTES {
            self.tell();
        }
    }

    /// Tells the host how far it is, unless it is being told.
    pub(super) fn tell(&self) {
        let (Some(OnRecovery(tell)), Some(mut told)) = (&self.tell, self.told.try_lock()) else {
            return;
        };
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let bytes = read(&self.bytes).max(*told);
        *told = bytes;
        tell(RecoveryProgress {
            bytes,
            bytes_max: read(&self.bytes_max),
            checkpoint_orders: read(&self.checkpoint_orders),
            records: read(&self.records),
        });
    }
}
