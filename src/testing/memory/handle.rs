//! A file that is open.

use std::fmt;
use std::io;

use super::fault::{Fault, Operation, StorageCall};
use super::names::FileId;
use super::{MemoryStorage, World, end_of};
use crate::storage::{ALIGN_BYTES, StorageFile};

/// A file of a [`MemoryStorage`] that is open.
pub(super) struct MemoryFile {
    pub(super) storage: MemoryStorage,
    pub(super) id: FileId,
    /// The name by which it was opened, for the fault hook.
    pub(super) path: String,
    pub(super) is_direct: bool,
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, is_direct, .. } = self;
        formatter
            .debug_struct("MemoryFile")
            .field("path", path)
            .field("is_direct", is_direct)
            .finish_non_exhaustive()
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut world = self.storage.shared.lock();
        if let Some(file) = world.files.get_mut(&self.id) {
            file.handles -= 1;
            if file.handles == 0 {
                world.drop_unreachable();
            }
        }
    }
}

impl StorageFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check_range(buffer, offset)?;
        let call = self.call(Operation::Read, offset, buffer.len());
        let fault = self.storage.ask(call)?;
        let offset = fault.redirect(offset);
        let mut world = self.storage.shared.lock();
        world.conclude(fault)?;
        let file = world.file(self.id)?;
        Ok(if self.is_direct {
            file.read_direct(buffer, offset)
        } else {
            file.read_cached(buffer, offset)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(Operation::Write, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let fault = self.storage.ask(self.call(Operation::Sync, 0, 0))?;
        let mut world = self.storage.shared.lock();
        world.require_running()?;
        let file = world.file(self.id)?;
        match fault {
            Fault::None | Fault::Misdirected { .. } => file.sync(),
            Fault::Error(_) | Fault::System(_) | Fault::Torn { .. } => file.fail_sync(),
            Fault::Lost | Fault::Crash => {}
        }
        world.conclude(fault)
    }

    fn write_durable(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(Operation::WriteDurable, bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        let fault = self.storage.ask(self.call(Operation::Len, 0, 0))?;
        let mut world = self.storage.shared.lock();
        world.conclude(fault)?;
        Ok(world.file(self.id)?.len())
    }

    fn is_direct(&self) -> bool {
        self.is_direct
    }
}

impl MemoryFile {
    fn call(&self, operation: Operation, offset: u64, len: usize) -> StorageCall<'_> {
        StorageCall { offset, len, ..StorageCall::on(operation, &self.path) }
    }

    /// What Linux checks of a direct call, and of every range.
    fn check_range(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let aligned = bytes.as_ptr().addr().is_multiple_of(ALIGN_BYTES)
            && bytes.len().is_multiple_of(ALIGN_BYTES)
            && offset.is_multiple_of(ALIGN_BYTES as u64);
        end_of(bytes, offset)?;
        if self.is_direct && !aligned {
            let Self { path, .. } = self;
            let len = bytes.len();
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{len} bytes at {offset} of {path}: not aligned to {ALIGN_BYTES}"),
            ));
        }
        Ok(())
    }

    fn write(&self, operation: Operation, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_range(bytes, offset)?;
        let fault = self.storage.ask(self.call(operation, offset, bytes.len()))?;
        let is_durable = operation == Operation::WriteDurable;
        let mut world = self.storage.shared.lock();
        world.require_running()?;
        match fault {
            Fault::None | Fault::Misdirected { .. } => {
                let offset = fault.redirect(offset);
                if is_durable {
                    self.apply_durable(&mut world, bytes, offset)?;
                } else {
                    self.apply(&mut world, bytes, offset)?;
                }
            }
            // A full disk does not keep the machine from stopping.
            Fault::Crash => self.apply(&mut world, bytes, offset).unwrap_or(()),
            Fault::Torn { bytes: written } => {
                self.apply(&mut world, &bytes[..written.min(bytes.len())], offset)?;
            }
            Fault::Error(_) | Fault::System(_) if is_durable && !self.is_direct => {
                self.apply(&mut world, bytes, offset)?;
                world.file(self.id)?.fail_sync();
            }
            Fault::Error(_) | Fault::System(_) | Fault::Lost => {}
        }
        world.conclude(fault)
    }

    /// Writes and leaves unsynced.
    fn apply(&self, world: &mut World, bytes: &[u8], offset: u64) -> io::Result<()> {
        world.require_room(self.id, end_of(bytes, offset)?)?;
        let file = world.file(self.id)?;
        if self.is_direct {
            file.write_direct(bytes, offset);
        } else {
            file.write_cached(bytes, offset);
        }
        Ok(())
    }

    /// Writes and syncs: this range alone past the page cache, else the whole file.
    fn apply_durable(&self, world: &mut World, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.is_direct {
            world.require_room(self.id, end_of(bytes, offset)?)?;
            world.file(self.id)?.write_direct_durable(bytes, offset);
            return Ok(());
        }
        self.apply(world, bytes, offset)?;
        world.file(self.id)?.sync();
        Ok(())
    }
}
