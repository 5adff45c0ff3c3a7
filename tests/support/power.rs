//! Losses of power: what of the writes that were not synced is still on the disk afterwards.

use doorbuster::testing::MemoryStorage;
use fastrand::Rng;

/// Losses for [`lose_power`]: the first leaves nothing, the next two leave the most, the others a mixture.
pub(crate) const LOSSES: [u64; 6] = [0, 1, 2, 11, 12, 13];

/// Returns what a loss of power leaves of the storage. `loss` says how much of what was not synced survives.
pub(crate) fn lose_power(storage: &MemoryStorage, loss: u64) -> MemoryStorage {
    let mut random = Rng::with_seed(loss);
    storage.crash(&mut |below| match loss {
        0..=2 => loss.min(below - 1),
        _ => random.u64(..below),
    })
}
