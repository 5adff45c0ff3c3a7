//! What a test sees of each call, and what it can make of it.

use std::io;
use std::sync::Arc;

/// What a call does. One of [`Storage`](crate::storage::Storage)'s or
/// [`StorageFile`](crate::storage::StorageFile)'s methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `create_root`
    CreateRoot,
    /// `create_folder`
    CreateFolder,
    /// `list`
    List,
    /// `create`
    Create,
    /// `open`
    Open,
    /// `rename`
    Rename,
    /// `remove`
    Remove,
    /// `sync_folder`
    SyncFolder,
    /// `lock`
    Lock,
    /// `read_at`
    Read,
    /// `write_at`
    Write,
    /// `sync`
    Sync,
    /// `write_durable`
    WriteDurable,
    /// `len`
    Len,
}

impl Operation {
    /// Whether the call changes what is stored or how well: calls before which a crash can make a
    /// difference.
    #[must_use]
    pub const fn is_change(self) -> bool {
        !matches!(self, Self::List | Self::Open | Self::Lock | Self::Read | Self::Len)
    }
}

/// One call, as a fault hook sees it before it takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageCall<'a> {
    /// How many calls this storage has seen before this one, whether they failed or not.
    pub sequence: u64,
    /// What the call does.
    pub operation: Operation,
    /// The file or folder; of a file's handle, the name by which it was opened. A rename's old
    /// name.
    pub path: &'a str,
    /// A rename's new name.
    pub new_path: Option<&'a str>,
    /// Where a read or write starts, else 0.
    pub offset: u64,
    /// How many bytes a read or write asks for, else 0.
    pub len: usize,
}

/// What becomes of one call. A fault that makes no sense for the call acts as [`Fault::None`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call goes on as usual.
    None,
    /// The call fails.
    ///
    /// - `sync`: every unsynced write of the file is lost, and Linux calls its pages clean: reads
    ///   through the page cache go on showing them, direct reads and the disk after a crash do not
    ///   have them, and a later `sync` succeeds without writing them.
    /// - `write_durable` on a cached file: written, then as `sync`. On a direct one: no effect;
    ///   for one that reached the disk's own cache and no further, see [`Fault::Torn`].
    /// - all others: no effect.
    Error(io::ErrorKind),
    /// As [`Fault::Error`], with an error number of the operating system.
    System(i32),
    /// A write fails after this many of its bytes, which are left unsynced: all of them is a
    /// `write_durable` that was written and could not be flushed. Other calls fail as under
    /// [`Fault::Error`].
    Torn {
        /// How many bytes are written; at most as many as the call has.
        bytes: usize,
    },
    /// The call reports success and does nothing: a write that never reached the disk, a sync that
    /// left everything unsynced, a rename that did not happen. For calls that change something and
    /// return nothing.
    Lost,
    /// A read or write goes to another place of the same file and reports success.
    Misdirected {
        /// The place that is read or written instead.
        offset: u64,
    },
    /// The machine stops in this call: a write is left unsynced, anything else has no effect; this
    /// call and all later ones fail. [`MemoryStorage::crash`](super::MemoryStorage::crash) or
    /// [`MemoryStorage::kill`](super::MemoryStorage::kill) then tell what is left.
    Crash,
}

impl Fault {
    /// Where a read or write that was meant for `offset` goes.
    pub(super) fn redirect(self, offset: u64) -> u64 {
        match self {
            Self::Misdirected { offset } => offset,
            _ => offset,
        }
    }
}

/// Decides before each call what becomes of it. Called without any of the storage's locks, so it
/// may look at the storage; by whichever thread makes the call.
pub type FaultHook = Arc<dyn Fn(&StorageCall<'_>) -> Fault + Send + Sync>;
