//! What the promoter is asked to do.

use std::task::Waker;

use crate::stock::sku::Sku;
use crate::sync::{Mutex, OnceLock, Ordering, Unparker};

/// SKUs whose waiting lists are to be looked at, and who is to be told that he was served or has left.
#[derive(Debug, Default)]
pub(crate) struct Promotions {
    /// Indices; a SKU is in it at most once, see [`Sku::promotion_asked`].
    asked: Mutex<Vec<u32>>,
    to_wake: Mutex<Vec<Waker>>,
    /// Sales that have ended durably: a SKU's index, and the LSN in its home lane.
    ended: Mutex<Vec<(u32, u64)>>,
    /// The promoter's; not set where it is stepped.
    promoter: OnceLock<Unparker>,
}

impl Promotions {
    pub(crate) fn set_promoter(&self, unparker: Unparker) {
        // It is set once, before anything is asked for.
        drop(self.promoter.set(unparker));
    }

    /// Units came back, or whoever was first is gone, or others may be served than before. Asked again
    /// before the promoter came, it is done once. `SeqCst`: who finds that it was asked for comes, with what
    /// he changed before, in front of the promoter's look.
    pub(crate) fn ask(&self, sku: &Sku) {
        if !sku.promotion_asked.swap(true, Ordering::SeqCst) {
            self.asked.lock().push(sku.index);
            self.unpark();
        }
    }

    /// The promoter comes back to this one later.
    pub(crate) fn postpone(&self, sku: &Sku) {
        if !sku.promotion_asked.swap(true, Ordering::SeqCst) {
            self.asked.lock().push(sku.index);
        }
    }

    pub(crate) fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.asked.lock())
    }

    /// Has these woken, by the promoter: who has a lock cannot.
    pub(crate) fn wake(&self, wakers: Vec<Waker>) {
        if !wakers.is_empty() {
            self.to_wake.lock().extend(wakers);
            self.unpark();
        }
    }

    pub(crate) fn take_wakers(&self) -> Vec<Waker> {
        std::mem::take(&mut *self.to_wake.lock())
    }

    /// The end of a SKU's sale is durable: the counts of its buyers can be forgotten. A log's writer, which
    /// finds that out, takes no partition's lock.
    pub(crate) fn note_ended(&self, sku: u32, lsn: u64) {
        self.ended.lock().push((sku, lsn));
        self.unpark();
    }

    pub(crate) fn take_ended(&self) -> Vec<(u32, u64)> {
        std::mem::take(&mut *self.ended.lock())
    }

    fn unpark(&self) {
        if let Some(promoter) = self.promoter.get() {
            promoter.unpark();
        }
    }
}
