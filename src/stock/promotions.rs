//! What the promoter is asked to do.

use crate::stock::registry::Registry;
use crate::stock::sku::Sku;
use crate::sync::{Mutex, OnceLock, Ordering, Unparker};

/// SKUs whose waiting lists the promoter must look at.
#[derive(Debug, Default)]
pub(crate) struct Promotions {
    /// Indices; a SKU is in it at most once, see [`Sku::promotion_asked`].
    asked: Mutex<Vec<u32>>,
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

    /// Asks the promoter to look at a SKU's list: units came back, the first order is gone, or others may be
    /// served than before. Asked twice before the promoter looks, it looks once.
    ///
    /// `Release`: the promoter's swap in [`Promotions::take`] reads this one, or one after it, so its look sees
    /// what the caller changed before.
    pub(crate) fn ask(&self, sku: &Sku) {
        if self.note(sku) {
            self.unpark();
        }
    }

    /// The promoter comes back to this one later.
    pub(crate) fn postpone(&self, sku: &Sku) {
        self.note(sku);
    }

    /// Returns whether it was not noted already.
    fn note(&self, sku: &Sku) -> bool {
        let is_new = !sku.promotion_asked.swap(true, Ordering::Release);
        if is_new {
            self.asked.lock().push(sku.index);
        }
        is_new
    }

    /// The SKUs to look at. From the moment in which the promoter receives one, it can be asked for again; so the
    /// promoter looks at it afterwards.
    ///
    /// The promoter takes the flag by a swap with `Acquire`. A store would not read the flag. Then an `ask` that
    /// found the flag set, and did nothing more, could have returned units that this look does not see, and no thread
    /// would look again.
    pub(crate) fn take<'a>(&self, skus: &'a Registry) -> impl Iterator<Item = &'a Sku> + use<'a> {
        let asked = std::mem::take(&mut *self.asked.lock());
        asked.into_iter().map(|index| {
            let sku = skus.get(index);
            sku.promotion_asked.swap(false, Ordering::Acquire);
            sku
        })
    }

    /// Whether the promoter has something to look at.
    pub(crate) fn is_asked(&self) -> bool {
        !self.asked.lock().is_empty() || !self.ended.lock().is_empty()
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

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::SkuId;

    /// A unit comes back and the promoter is asked while it already has the SKU to look at. Either that look
    /// finds the unit, or there is another look.
    #[test]
    fn a_unit_that_comes_back_is_looked_at() {
        // A registry makes many atomics.
        let mut model = loom::model::Builder::new();
        model.max_branches = 10_000;
        model.check(|| {
            let shared = Arc::new((Promotions::default(), Registry::new(1)));
            let (promotions, skus) = &*shared;
            let sku = skus.find_or_insert(SkuId::new(1)).expect("room");
            sku.hot.available.restore_waiting();
            promotions.ask(sku);
            let gives = loom::thread::spawn({
                let shared = shared.clone();
                move || {
                    let (promotions, skus) = &*shared;
                    let sku = skus.get(0);
                    assert!(sku.hot.available.give(1), "somebody waits");
                    promotions.ask(sku);
                }
            });
            let look = || promotions.take(skus).map(|sku| sku.hot.available.available()).max();
            let first = look().expect("it was asked for");
            gives.join().expect("no panic");
            assert!(first == 1 || look() == Some(1), "nobody looks at the unit");
        });
    }
}
