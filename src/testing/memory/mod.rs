//! A disk in memory that is honest about crashes.

mod damage;
mod fault;
mod file;
mod handle;
mod image;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use self::file::FileState;
use self::handle::MemoryFile;
use self::names::{FileId, Names};
use crate::storage::{Access, Storage, StorageFile, StorageLock};

pub use self::fault::{Fault, FaultHook, Operation, StorageCall};

/// What [`Storage::lock`] locks; on the real disk it is a file, and listed.
const LOCK_FILE: &str = "LOCK";

/// The greatest offset that a Linux file has.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// A disk in memory: what it holds for certain, what its page cache shows, and what a crash leaves.
///
/// A clone is the same disk. A file's bytes are durable after `sync` or `write_durable`, its name
/// and those of its folders after `sync_folder`; what is not may survive a power loss in part:
///
/// - each unsynced write whole, not at all, or any of its 512-byte sectors, so of two writes to one
///   place either may be left; a length may survive without its bytes, which are then zeros;
/// - each unsynced creation, removal or rename wholly or not at all. Those of one file or of one
///   name keep their order, others do not;
/// - a name that is durable in a folder that is not is lost with the folder.
///
/// A direct read shows what the disk would give: unsynced writes too, since the kernel writes
/// dirty pages first, but not the pages that a failed sync left "clean". A direct call that is not
/// aligned to [`ALIGN_BYTES`](crate::storage::ALIGN_BYTES) fails with
/// [`io::ErrorKind::InvalidInput`].
///
/// Invariant: calls take effect one after another, under one lock; so every image of a crash lies
/// between two calls, or within one that the fault hook cut short.
///
/// Costs: a write copies its bytes twice, a sync copies references to the pages written since the
/// last one, a copy of the whole storage copies references to all pages.
#[derive(Clone)]
pub struct MemoryStorage {
    shared: Arc<Mutex<World>>,
}

struct World {
    files: BTreeMap<FileId, FileState>,
    names: Names,
    next_file: FileId,
    settings: Settings,
    locked: bool,
    life: Life,
    hook: Option<FaultHook>,
    calls: u64,
}

/// What copies and crash images take over.
#[derive(Clone, Copy, Debug)]
struct Settings {
    direct: bool,
    capacity_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    /// The machine stopped, or its image was taken: every open handle belongs to a dead process.
    Over,
}

impl MemoryStorage {
    /// An empty disk whose root has not been made. Direct access works, and room is unlimited.
    #[must_use]
    pub fn new() -> Self {
        let settings = Settings { direct: true, capacity_bytes: None };
        World::new(BTreeMap::new(), Names::default(), settings).into()
    }

    /// Whether files opened with [`Access::Direct`] are direct from now on, or fall back to cached.
    #[must_use]
    pub fn direct(self, direct: bool) -> Self {
        self.shared.lock().settings.direct = direct;
        self
    }

    /// How many bytes all files together may have from now on; `None` for no bound. A write that
    /// would grow a file past it fails with [`io::ErrorKind::StorageFull`] and has no effect. A
    /// file counts while it has a name, may get one back in a crash, or is open.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.shared.lock().settings.capacity_bytes = capacity_bytes;
    }

    /// Has `hook` decide before each call what becomes of it; `None` for no faults. Copies and
    /// images of crashes start without.
    pub fn set_fault_hook(&self, hook: Option<FaultHook>) {
        self.shared.lock().hook = hook;
    }

    /// How many calls this storage has seen; the next call's [`StorageCall::sequence`].
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared.lock().calls
    }

    /// Cuts the power and tells what is left: a new storage, unlocked, with nothing unsynced. Every
    /// later call through the old one fails. More than one image may be taken of one crash.
    ///
    /// `draw(n)` returns a number below `n`, and decides what survives: `|_| 0` loses everything that is not durable,
    /// `|_| 1` keeps everything that was not lost by a failed sync; a random one mixes. The same draws make the same
    /// image.
    #[must_use]
    pub fn crash(&self, draw: &mut dyn FnMut(u64) -> u64) -> Self {
        let mut world = self.shared.lock();
        world.life = Life::Over;
        let names = world.names.after_power_loss(draw);
        let files = world.files.iter();
        let files = files.map(|(id, file)| (*id, file.after_power_loss(draw))).collect();
        World::new(files, names, world.settings).into()
    }

    /// Kills the process and tells what is left: a new storage, unlocked, with the page cache as it
    /// was. What was not durable still is not: a later [`MemoryStorage::crash`] may lose it. Every
    /// later call through the old storage fails.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut world = self.shared.lock();
        world.life = Life::Over;
        world.copy().into()
    }

    /// A copy of disk and page cache, unlocked and without fault hook; this one goes on.
    #[must_use]
    pub fn deep_copy(&self) -> Self {
        self.shared.lock().copy().into()
    }

    /// Asks the fault hook. Everything else about the call comes after, under the lock anew.
    fn ask(&self, call: StorageCall<'_>) -> io::Result<Fault> {
        let (hook, sequence) = {
            let mut world = self.shared.lock();
            world.require_running()?;
            world.calls += 1;
            (world.hook.clone(), world.calls - 1)
        };
        Ok(hook.map_or(Fault::None, |hook| hook(&StorageCall { sequence, ..call })))
    }

    /// A call that is about names.
    fn call<T>(
        &self,
        call: StorageCall<'_>,
        effect: impl FnOnce(&mut World) -> io::Result<T>,
    ) -> io::Result<T> {
        let fault = self.ask(call)?;
        let mut world = self.shared.lock();
        world.conclude(fault)?;
        effect(&mut world)
    }

    /// A call that is about names, and returns nothing that a lost one would have to make up.
    fn change(
        &self,
        call: StorageCall<'_>,
        effect: impl FnOnce(&mut World) -> io::Result<()>,
    ) -> io::Result<()> {
        let fault = self.ask(call)?;
        let mut world = self.shared.lock();
        world.conclude(fault)?;
        if fault == Fault::Lost { Ok(()) } else { effect(&mut world) }
    }

    fn handle(&self, path: &str, id: FileId, access: Access, world: &mut World) -> MemoryFile {
        if let Some(file) = world.files.get_mut(&id) {
            file.handles += 1;
        }
        let is_direct = access == Access::Direct && world.settings.direct;
        MemoryFile { storage: self.clone(), id, path: path.to_owned(), is_direct }
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = self.shared.lock();
        formatter
            .debug_struct("MemoryStorage")
            .field("files", &world.names.files().collect::<Vec<_>>())
            .field("life", &world.life)
            .field("locked", &world.locked)
            .field("calls", &world.calls)
            .finish_non_exhaustive()
    }
}

impl From<World> for MemoryStorage {
    fn from(world: World) -> Self {
        Self { shared: Arc::new(Mutex::new(world)) }
    }
}

impl Storage for MemoryStorage {
    fn root(&self) -> PathBuf {
        PathBuf::from("memory")
    }

    fn create_root(&self) -> io::Result<()> {
        self.change(StorageCall::on(Operation::CreateRoot, ""), |world| {
            world.names.create_root();
            Ok(())
        })
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        self.change(StorageCall::on(Operation::CreateFolder, path), |world| {
            world.names.create_folder(path)
        })
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.call(StorageCall::on(Operation::List, folder), |world| world.names.list(folder))
    }

    fn create(&self, path: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        self.call(StorageCall::on(Operation::Create, path), |world| {
            let id = world.create(path)?;
            Ok(Arc::new(self.handle(path, id, access, world)) as Arc<dyn StorageFile>)
        })
    }

    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        self.call(StorageCall::on(Operation::Open, path), |world| {
            let id = world.names.file(path)?;
            Ok(Arc::new(self.handle(path, id, access, world)) as Arc<dyn StorageFile>)
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let call = StorageCall { new_path: Some(to), ..StorageCall::on(Operation::Rename, from) };
        self.change(call, |world| world.names.rename(from, to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change(StorageCall::on(Operation::Remove, path), |world| world.names.remove(path))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.change(StorageCall::on(Operation::SyncFolder, folder), |world| {
            world.names.sync_folder(folder)?;
            world.drop_unreachable();
            Ok(())
        })
    }

    fn lock(&self) -> io::Result<Option<Box<dyn StorageLock>>> {
        self.call(StorageCall::on(Operation::Lock, LOCK_FILE), |world| {
            if world.names.get(LOCK_FILE).is_err() {
                world.create(LOCK_FILE)?;
            }
            if std::mem::replace(&mut world.locked, true) {
                return Ok(None);
            }
            Ok(Some(Box::new(MemoryLock { storage: self.clone() }) as Box<dyn StorageLock>))
        })
    }
}

/// The folder's lock. A crash image has a lock of its own, so a dead holder cannot release it.
#[derive(Debug)]
struct MemoryLock {
    storage: MemoryStorage,
}

impl StorageLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.storage.shared.lock().locked = false;
    }
}

impl<'a> StorageCall<'a> {
    fn on(operation: Operation, path: &'a str) -> Self {
        Self { sequence: 0, operation, path, new_path: None, offset: 0, len: 0 }
    }
}

impl World {
    fn new(files: BTreeMap<FileId, FileState>, names: Names, settings: Settings) -> Self {
        let next_file = files.last_key_value().map_or(0, |(id, _)| id + 1);
        let life = Life::Running;
        let mut world =
            Self { files, names, next_file, settings, locked: false, life, hook: None, calls: 0 };
        world.drop_unreachable();
        world
    }

    fn copy(&self) -> Self {
        let files = self.files.iter().map(|(id, file)| (*id, file.after_kill())).collect();
        Self::new(files, self.names.clone(), self.settings)
    }

    fn require_running(&self) -> io::Result<()> {
        match self.life {
            Life::Running => Ok(()),
            Life::Over => Err(io::Error::other("the simulated machine has stopped")),
        }
    }

    /// What a call with this fault returns; stops the machine if that is the fault.
    fn conclude(&mut self, fault: Fault) -> io::Result<()> {
        self.require_running()?;
        match fault {
            Fault::None | Fault::Lost | Fault::Misdirected { .. } => Ok(()),
            Fault::Error(kind) => Err(kind.into()),
            Fault::System(code) => Err(io::Error::from_raw_os_error(code)),
            Fault::Torn { .. } => Err(io::Error::other("a test cut the call short")),
            Fault::Crash => {
                self.life = Life::Over;
                Err(io::Error::other("the simulated machine stops in this call"))
            }
        }
    }

    fn create(&mut self, path: &str) -> io::Result<FileId> {
        let id = self.next_file;
        self.names.create(path, id)?;
        self.next_file += 1;
        self.files.insert(id, FileState::default());
        Ok(id)
    }

    /// Drops the files that no name and no handle leads to, and none can after a crash.
    fn drop_unreachable(&mut self) {
        let named = self.names.referenced();
        self.files.retain(|id, file| file.handles > 0 || named.contains(id));
    }

    fn file(&mut self, id: FileId) -> io::Result<&mut FileState> {
        self.files.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether the file may grow to `len` bytes.
    fn require_room(&self, id: FileId, len: u64) -> io::Result<()> {
        let Some(capacity_bytes) = self.settings.capacity_bytes else { return Ok(()) };
        let old_len = self.files.get(&id).map_or(0, FileState::len);
        let used_bytes: u64 = self.files.values().map(FileState::len).sum();
        if len > old_len && used_bytes - old_len + len > capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// Where a range of bytes ends, if an offset can say it.
fn end_of(bytes: &[u8], offset: u64) -> io::Result<u64> {
    match offset.checked_add(bytes.len() as u64) {
        Some(end) if end <= OFFSET_MAX => Ok(end),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
