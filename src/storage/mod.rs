//! The disk as a trait: the only door through which the engine writes or reads files.
//!
//! [`Disk`] is the real one. The `testing` feature has one in memory, which shows what a crash leaves, and which
//! fails on demand. A path is relative to the engine's folder and has the form `name` or `folder/name`; the engine
//! itself never touches an absolute path.

mod disk;
mod read_only;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use disk::Disk;
pub(crate) use read_only::ReadOnly;

/// Offsets, lengths and buffer addresses of [`Access::Direct`] calls are multiples of this many
/// bytes. The log's blocks are aligned to it too.
pub const ALIGN_BYTES: usize = 4096;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache where the file system allows it: a read returns what the disk has, not what a dead process
    /// left in memory, and [`StorageFile::write_durable`] is one call. Where it is not allowed, the file is opened as
    /// [`Access::Cached`] and [`StorageFile::is_direct`] says so.
    Direct,
    /// Through the page cache.
    Cached,
}

/// A folder on a disk.
///
/// Errors are the operating system's. A missing file is [`io::ErrorKind::NotFound`], a full disk
/// [`io::ErrorKind::StorageFull`] or [`io::ErrorKind::QuotaExceeded`].
///
/// The engine also calls it on its own threads, sometimes under a lock, so a storage must not call the
/// engine. A panic of a storage on one of the engine's threads latches the engine:
/// [`Unavailable::Latched`](crate::Unavailable::Latched) names the thread.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// The folder, for messages.
    fn root(&self) -> PathBuf;

    /// Makes the folder itself, its missing parents, and their entries durable. Not an error when
    /// it is there.
    fn create_root(&self) -> io::Result<()>;

    /// Returns a storage that stays with the folder that the path leads to now, whatever is mounted
    /// or linked over the path later. The engine calls this once for each open, and uses the returned storage
    /// until it is closed. Returns `Ok(None)`, as by default, when this storage stays with its folder already.
    fn hold(&self) -> io::Result<Option<Arc<dyn Storage>>> {
        Ok(None)
    }

    /// Returns whether the folder's path still leads to the folder that is held. By default `true`.
    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Returns whether a folder at this path is, or would be made, inside this one. A backup must not be
    /// written there. By default `false`.
    fn contains(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    /// Makes a folder below the root and its missing parents. Not an error when it is there. Durable after
    /// [`Storage::sync_folder`] of its parent.
    fn create_folder(&self, path: &str) -> io::Result<()>;

    /// The names in a folder, `""` being the root, in any order.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Creates a file that does not exist yet, for reading and writing. Its name is durable after
    /// [`Storage::sync_folder`].
    fn create(&self, path: &str, access: Access) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens a file that exists, for reading only: [`verify`](crate::verify) may be run where nothing may
    /// be written. By default as [`Storage::open`] does.
    fn open_for_reading(&self, path: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        self.open(path, access)
    }

    /// Renames a file, replacing what has the new name; durable after [`Storage::sync_folder`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; durable after [`Storage::sync_folder`].
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;

    /// Keeps every other engine, in this process or another, out of the folder until the lock is
    /// dropped. `Ok(None)` when another has it.
    fn lock(&self) -> io::Result<Option<Box<dyn StorageLock>>>;

    /// Keeps every engine that may write out of the folder until the lock is dropped. Others may hold this lock at
    /// the same time. Returns `Ok(None)` when an engine has [`Storage::lock`]. Must not write anything. By
    /// default calls [`Storage::lock`].
    fn lock_shared(&self) -> io::Result<Option<Box<dyn StorageLock>>> {
        self.lock()
    }

    /// Returns what is known about the file system that the folder is on. By default
    /// [`FileSystem::Unknown`].
    fn file_system(&self) -> io::Result<FileSystem> {
        Ok(FileSystem::Unknown)
    }
}

/// How a file system writes into a part of a file that is allocated already, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum FileSystem {
    /// Nothing is known about it.
    #[default]
    Unknown,
    /// It overwrites in place, so room that was written once stays with the file (ext4, XFS, tmpfs). This does not
    /// hold while a snapshot or a copy shares the file's blocks.
    Overwrites,
    /// It writes a copy each time (btrfs, ZFS, bcachefs, F2FS, NILFS2), so overwriting needs free room too.
    CopiesOnWrite,
}

/// Returns what to use from here on: a storage that stays with its folder.
pub(crate) fn hold(storage: &Arc<dyn Storage>) -> io::Result<Arc<dyn Storage>> {
    Ok(storage.hold()?.unwrap_or_else(|| storage.clone()))
}

/// Removes a file; that it is not there is no error.
pub(crate) fn remove_if_there(storage: &dyn Storage, path: &str) -> io::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A file of a [`Storage`]. Calls on one file may come from several threads; the engine never
/// writes one range from two.
pub trait StorageFile: fmt::Debug + Send + Sync + 'static {
    /// Reads at most `buffer.len()` bytes from `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file if need be. Durable only after
    /// [`StorageFile::sync`].
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes all that was written through this file, and its length, durable. After an error,
    /// nothing is known about what was written; the engine never tries again.
    fn sync(&self) -> io::Result<()>;

    /// Writes all of `bytes` at `offset` and makes them durable.
    fn write_durable(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)?;
        self.sync()
    }

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Whether reads and writes go past the page cache; then they must be aligned to
    /// [`ALIGN_BYTES`].
    fn is_direct(&self) -> bool;
}

/// Keeps other engines out of a folder; see [`Storage::lock`].
pub trait StorageLock: fmt::Debug + Send + Sync {}

/// A buffer whose first byte is aligned to [`ALIGN_BYTES`], as direct access needs it.
#[derive(Debug)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN_BYTES];
        let start = bytes.as_ptr().align_offset(ALIGN_BYTES);
        Self { bytes, start, len }
    }
}

impl std::ops::Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
