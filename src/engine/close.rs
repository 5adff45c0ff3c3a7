//! Closing: no verb appends any more, the manifest is sealed, the folder is let go.

use crate::engine::core::Core;
use crate::log::Manifest;
use crate::sync::Ordering;

impl Core {
    /// After this, nothing is appended to any lane.
    pub(crate) fn refuse_new_verbs(&self) {
        self.closing.store(true, Ordering::Release);
        self.latch.bell().ring();
        for partition in &self.partitions {
            drop(partition.state.lock());
        }
        for sku in self.skus.iter_all() {
            drop(sku.ledger.lock());
        }
        // Under which merchants and the engine are switched.
        drop(self.passing.lock());
    }

    /// The end of a clean close: the manifest names every shard's last block, so that one that rots
    /// or is rolled back is missed (rule R13), and lets ids go on without a gap.
    pub(crate) fn seal(&self) {
        let _replacing = self.ids.replacing.lock();
        if !self.latch.is_set() {
            let sequence_floor = (self.partitions.iter())
                .map(|partition| partition.state.lock().orders.next_sequence())
                .max()
                .unwrap_or(self.manifest.sequence_floor);
            let manifest = Manifest {
                sequence_floor,
                time: self.time.mark(),
                shards: self.marks.positions().iter().map(|position| position.mark).collect(),
                ..self.manifest.clone()
            };
            if let Err(error) = manifest.write(self.storage.as_ref()) {
                self.latch.set_detail("replacing of the manifest", error.to_string());
            }
        }
    }

    /// Others may open the folder as soon as no writer is left.
    pub(crate) fn release_folder(&self) {
        let lock = self.lock.lock().take();
        if lock.is_some() {
            self.look_at_place();
        }
    }
}
