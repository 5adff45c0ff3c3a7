//! [`SegmentError`]: which call on which file failed, and whether it may be tried again.

use std::io;

use rustix::io::Errno;

/// Why a segment could not be had or synced.
#[derive(Debug)]
pub(crate) struct SegmentError {
    pub(crate) operation: &'static str,
    pub(crate) path: String,
    pub(crate) source: io::Error,
    /// It is neither [full](Self::is_full) nor [passing](Self::is_passing), whatever the source says.
    pub(super) is_final: bool,
}

impl SegmentError {
    pub(super) fn new(
        operation: &'static str,
        path: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { operation, path, source, is_final: false }
    }

    /// See [`is_full`].
    pub(crate) fn is_full(&self) -> bool {
        !self.is_final && is_full(&self.source)
    }

    /// Whether the system is short of something for a moment: of descriptors (`EMFILE`, `ENFILE`), memory
    /// (`ENOMEM`), or of what `EAGAIN` and `EINTR` stand for.
    pub(crate) fn is_passing(&self) -> bool {
        let code = self.source.raw_os_error().map(Errno::from_raw_os_error);
        let is_kind = matches!(
            self.source.kind(),
            io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
        );
        !self.is_final && (is_kind || matches!(code, Some(Errno::MFILE | Errno::NFILE)))
    }
}

impl std::fmt::Display for SegmentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} failed: {}", self.path, self.operation, self.source)
    }
}

/// Whether an error says that the disk or a quota is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether a sync of a folder that failed was not even begun, since there was no descriptor for the folder.
/// `fsync` itself never returns these errors.
pub(super) fn is_not_begun(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
