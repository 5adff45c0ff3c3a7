//! Damage on a disk at rest: bytes rot, files go missing. Also the tests' view of the disk. None of this asks the
//! fault hook, and it works on a storage that has stopped.

use std::io;

use super::{FileState, MemoryStorage, end_of};

impl MemoryStorage {
    /// The paths of all files, in order.
    #[must_use]
    pub fn list_files(&self) -> Vec<String> {
        self.shared.lock().names.files().map(str::to_owned).collect()
    }

    /// A file's bytes, as a read through the page cache shows them.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such file.
    pub fn read_file(&self, path: &str) -> io::Result<Vec<u8>> {
        self.with_file(path, |file| {
            let mut bytes = vec![0; file.len() as usize];
            file.read_cached(&mut bytes, 0);
            bytes
        })
    }

    /// Changes bytes of a file on the disk and in the page cache, growing the file if need be.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such file; [`io::ErrorKind::InvalidInput`] if
    /// the range ends past what an offset can say.
    pub fn overwrite(&self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        end_of(bytes, offset)?;
        self.with_file(path, |file| file.overwrite(bytes, offset))
    }

    /// Cuts a file off at `len` bytes, or grows it with zeros, durably.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such file.
    pub fn truncate(&self, path: &str, len: u64) -> io::Result<()> {
        self.with_file(path, |file| file.truncate(len))
    }

    /// Puts a file there that holds exactly these bytes, durably, in place of what has the name: a file
    /// from a copy, an older one or another's.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such folder.
    pub fn write_file(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.shared.lock();
        if world.names.file(path).is_err() {
            world.create(path)?;
            world.names.sync_folder(folder_of(path))?;
        }
        let id = world.names.file(path)?;
        let file = world.file(id)?;
        file.truncate(bytes.len() as u64);
        file.overwrite(bytes, 0);
        Ok(())
    }

    /// Removes a file, and makes the names in its folder durable.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such file.
    pub fn remove_file(&self, path: &str) -> io::Result<()> {
        let mut world = self.shared.lock();
        world.names.remove(path)?;
        world.names.sync_folder(folder_of(path))?;
        world.drop_unreachable();
        Ok(())
    }

    /// Renames a file, replacing what has the new name, and makes the names in both folders
    /// durable.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such file or no such folder to move it to.
    pub fn rename_file(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.shared.lock();
        world.names.rename(from, to)?;
        world.names.sync_folder(folder_of(from))?;
        world.names.sync_folder(folder_of(to))?;
        world.drop_unreachable();
        Ok(())
    }

    fn with_file<T>(&self, path: &str, effect: impl FnOnce(&mut FileState) -> T) -> io::Result<T> {
        let mut world = self.shared.lock();
        let id = world.names.file(path)?;
        Ok(effect(world.file(id)?))
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
