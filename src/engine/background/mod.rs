//! What runs beside the verbs: the engine's threads and their work, checkpoints, backups.

mod backup;
mod checkpointer;
mod housekeeper;
mod threads;

pub use backup::Backup;
pub(super) use backup::backup;
#[cfg(any(test, feature = "testing"))]
pub(crate) use checkpointer::{CheckpointStep, Checkpointer};
#[cfg(any(test, feature = "testing"))]
pub(crate) use housekeeper::{Housekeeper, IdKeeper};
pub(super) use threads::{Running, Threads};
