//! How far a lane is durable: read by every caller that waits for a record of it.

use crate::sync::{AtomicU64, Ordering};

/// Written by the shard's writer alone.
#[derive(Debug)]
pub(crate) struct DurableMark {
    /// Every record up to this one is durable; 0: none. `Release` by the writer, `Acquire` by every caller that
    /// waits.
    lsn: AtomicU64,
    /// Bytes of these records since the open. `Release` by the writer, `Acquire` by every caller that bounds the
    /// backlog.
    bytes: AtomicU64,
}

impl DurableMark {
    pub(crate) fn new(lsn: u64) -> Self {
        Self { lsn: AtomicU64::new(lsn), bytes: AtomicU64::new(0) }
    }

    /// Writer: every record up to `lsn` is durable and its effects are applied; these are `bytes` more bytes.
    pub(crate) fn advance(&self, lsn: u64, bytes: u64) {
        let before = self.bytes.load(Ordering::Relaxed);
        self.bytes.store(before + bytes, Ordering::Release);
        self.lsn.store(lsn, Ordering::Release);
    }

    pub(crate) fn is_durable(&self, lsn: u64) -> bool {
        self.lsn.load(Ordering::Acquire) >= lsn
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }
}
