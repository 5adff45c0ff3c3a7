//! Counts what the threads of a recovery read, and tells the host.

use crate::progress::{OnRecovery, RecoveryProgress};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The host is called at the beginning, whenever this many more bytes were read, and at the end.
const STEP_BYTES: u64 = 4 << 20;

/// Counts what all threads of a recovery read.
pub(super) struct Progress {
    tell: Option<OnRecovery>,
    bytes: AtomicU64,
    bytes_max: AtomicU64,
    checkpoint_orders: AtomicU64,
    records: AtomicU64,
    /// One thread at a time calls the host, so that the figures never go backwards; holds the bytes that were
    /// reported last.
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

    /// At most this many bytes are read from here on. Nothing is read meanwhile.
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
