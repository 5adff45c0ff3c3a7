//! How far a recovery is, for hosts that show it.

use std::fmt;
use std::sync::Arc;

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
