//! A storage that is only read.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::storage::{Access, Storage, StorageFile, StorageLock, hold};

/// Refuses every call that would change something, and opens files for reading only.
#[derive(Debug)]
pub(crate) struct ReadOnly(Arc<dyn Storage>);

impl ReadOnly {
    /// Returns a storage that stays with the folder. A folder that is not there is held by its name: the caller
    /// says which file it lacks.
    pub(crate) fn hold(storage: &Arc<dyn Storage>) -> io::Result<Arc<dyn Storage>> {
        let held = match hold(storage) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(storage.clone()),
            held => held,
        };
        Ok(Arc::new(Self(held?)))
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "opened for reading only"))
}

impl Storage for ReadOnly {
    fn root(&self) -> PathBuf {
        self.0.root()
    }

    fn create_root(&self) -> io::Result<()> {
        refused()
    }

    fn create_folder(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.0.list(folder)
    }

    fn create(&self, _: &str, _: Access) -> io::Result<Arc<dyn StorageFile>> {
        refused()
    }

    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        self.0.open_for_reading(path, access)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn sync_folder(&self, _: &str) -> io::Result<()> {
        refused()
    }

    /// A lock that other processes that only read may hold too.
    fn lock(&self) -> io::Result<Option<Box<dyn StorageLock>>> {
        self.0.lock_shared()
    }
}
