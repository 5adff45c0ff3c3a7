//! The real disk: a folder on a Linux file system.
//!
//! Every call maps straight to system calls. A read or write that the kernel cut short goes on
//! where it stopped; a sync that failed is never tried again, since Linux may call pages clean
//! that it could not write, and the second try would then report success for bytes that are lost.

mod direct;
mod folder;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

use self::direct::{DirectFile, Refused};
use self::folder::Folder;

use super::{ALIGN_BYTES, Access, FileSystem, Storage, StorageFile, StorageLock};

/// The file that is locked beside the folder itself. It stays when the lock is dropped: removing it
/// would let two engines lock two files of the same name, where folders cannot be locked.
const LOCK_FILE: &str = "LOCK";

/// `O_DSYNC`. Rustix 1.1 on Linux defines `O_SYNC` under this name, which writes the file's times with every block.
/// Where the kernel's common value does not hold, that stronger flag must do.
const DSYNC: OFlags = if cfg!(any(
    target_arch = "x86",
    target_arch = "x86_64",
    target_arch = "arm",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "powerpc64",
    target_arch = "s390x",
    target_arch = "loongarch64",
)) {
    OFlags::from_bits_retain(0o10000)
} else {
    OFlags::SYNC
};

/// A folder of a local file system.
///
/// Errors are the operating system's, and [`io::ErrorKind::InvalidInput`] for a path that is not of
/// the form `name` or `folder/name`. Every call costs its system calls: one for most, two to write
/// durably through the page cache, three or four to open a file past it.
///
/// [`Access::Direct`] is `O_DIRECT`; [`StorageFile::write_durable`] is then one `pwrite` through a
/// descriptor opened with `O_DSYNC`, which on a device with forced unit access needs no flush of
/// the device's whole cache. Where the file system refuses `O_DIRECT`, or says that it would serve
/// it from the page cache, the file is opened as [`Access::Cached`]. Where it grants `O_DIRECT` and refuses
/// it at a read or write, that call and all later ones go through the page cache, of this disk's other files
/// too; [`StorageFile::is_direct`] then says so.
///
/// [`Storage::hold`] returns a disk that stays with the folder that the path leads to now: it has a
/// descriptor of the folder, and of each folder below it from the first use on. A disk that is not
/// held follows its path at every call.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    held: Option<Arc<Folder>>,
    refused: Refused,
}

impl Disk {
    /// Returns the folder `root`, which need not exist yet. A relative path is made absolute now: a
    /// later change of the working directory does not move it.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
        Self { root, held: None, refused: Refused::default() }
    }

    fn folder(&self) -> io::Result<Arc<Folder>> {
        match &self.held {
            Some(held) => Ok(held.clone()),
            None => Ok(Arc::new(Folder::open(&self.root)?)),
        }
    }

    /// Where a file is: its folder, and its name there.
    fn locate<'a>(&self, path: &'a str) -> io::Result<Located<'a>> {
        let (folder, name) = self.folder()?.parent(path)?;
        Ok(Located { folder, name })
    }
}

impl Disk {
    /// Opens the file past the page cache, or hands back `cached` where that cannot be had.
    fn open_direct(&self, located: &Located<'_>, cached: File) -> io::Result<Arc<dyn StorageFile>> {
        let with_flags = |flags: OFlags| located.open(OFlags::RDWR | flags);
        if self.refused.is_set() || !direct_is_honest(&cached) {
            return Ok(Arc::new(CachedFile { file: cached }));
        }
        let file = match with_flags(OFlags::DIRECT) {
            Ok(file) => file,
            Err(error) if is_unsupported(&error) => {
                return Ok(Arc::new(CachedFile { file: cached }));
            }
            Err(error) => return Err(error),
        };
        let durable = with_flags(OFlags::DIRECT | DSYNC)?;
        Ok(Arc::new(DirectFile { file, durable, refused: self.refused.clone() }))
    }
}

/// A file's folder, and its name there.
struct Located<'a> {
    folder: Arc<OwnedFd>,
    name: &'a str,
}

impl Located<'_> {
    fn open(&self, flags: OFlags) -> io::Result<File> {
        let (flags, mode) = (flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o666));
        let open = || rustix::fs::openat(&*self.folder, self.name, flags, mode);
        Ok(retry_on_intr(open)?.into())
    }
}

impl Storage for Disk {
    fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// From the top down: no level is made before the entry of the one above it is durable. So the
    /// only entry that an earlier call which died can have left volatile is that of the deepest
    /// level there is, and that one is synced first.
    fn create_root(&self) -> io::Result<()> {
        let missing: Vec<&Path> =
            self.root.ancestors().take_while(|level| !level.is_dir()).collect();
        let deepest = self.root.ancestors().nth(missing.len());
        if let Some(above) = deepest.and_then(Path::parent) {
            match sync_directory(File::open(above)) {
                // This call did not make the entry. Where it may not even be listed, another process made it; and
                // where no entry can be synced, there is nothing to wait for.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) if cannot_sync(&error) => {}
                result => result?,
            }
        }
        for level in missing.into_iter().rev() {
            create_directory(level)?;
            if let Some(above) = level.parent() {
                sync_directory(File::open(above))?;
            }
        }
        Ok(())
    }

    fn hold(&self) -> io::Result<Option<Arc<dyn Storage>>> {
        let held = Some(Arc::new(Folder::open(&self.root)?));
        let (root, refused) = (self.root.clone(), self.refused.clone());
        Ok(Some(Arc::new(Self { root, held, refused })))
    }

    fn is_in_place(&self) -> io::Result<bool> {
        self.held.as_ref().map_or(Ok(true), |held| held.is_at(&self.root))
    }

    fn contains(&self, path: &Path) -> io::Result<bool> {
        self.folder()?.contains(path)
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        self.folder()?.create(path)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.folder()?.list(folder)
    }

    fn create(&self, path: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.locate(path)?;
        // Through the page cache at first: a kernel that refuses O_DIRECT may do so after it has
        // made the file, and a second try would then find it there.
        let cached = file.open(OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        match access {
            Access::Direct => self.open_direct(&file, cached),
            Access::Cached => Ok(Arc::new(CachedFile { file: cached })),
        }
    }

    fn open(&self, path: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.locate(path)?;
        let cached = file.open(OFlags::RDWR)?;
        match access {
            Access::Direct => self.open_direct(&file, cached),
            Access::Cached => Ok(Arc::new(CachedFile { file: cached })),
        }
    }

    fn open_for_reading(&self, path: &str, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let located = self.locate(path)?;
        let cached = located.open(OFlags::RDONLY)?;
        if access == Access::Cached || self.refused.is_set() || !direct_is_honest(&cached) {
            return Ok(Arc::new(CachedFile { file: cached }));
        }
        match located.open(OFlags::RDONLY | OFlags::DIRECT) {
            // What is written through a descriptor for reading is refused by the kernel.
            Ok(file) => {
                let (durable, refused) = (file.try_clone()?, self.refused.clone());
                Ok(Arc::new(DirectFile { file, durable, refused }))
            }
            Err(error) if is_unsupported(&error) => Ok(Arc::new(CachedFile { file: cached })),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let root = self.folder()?;
        let ((old, from), (new, to)) = (root.parent(from)?, root.parent(to)?);
        Ok(rustix::fs::renameat(&*old, from, &*new, to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let file = self.locate(path)?;
        Ok(rustix::fs::unlinkat(&*file.folder, file.name, AtFlags::empty())?)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        sync_directory(Ok(self.folder()?.get(folder)?))
    }

    /// `flock` on the folder itself, which no process can unlink while it is in use, and on the file `LOCK` in it,
    /// made if need be, for file systems that lock no folders: NFS locks only what is open for writing. On NFS, and
    /// only there, `LOCK` must not be removed.
    ///
    /// The kernel drops both when the process ends, however it ends. A child that was forked and did
    /// not `exec` shares them.
    fn lock(&self) -> io::Result<Option<Box<dyn StorageLock>>> {
        let root = self.folder()?;
        let mut lock = DiskLock { locked: Vec::new(), process: std::process::id() };
        let folder = root.open_again()?;
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => lock.locked.push(folder),
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(Errno::BADF | Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        let (folder, name) = root.parent(LOCK_FILE)?;
        let file = Located { folder, name }.open(OFlags::RDWR | OFlags::CREATE)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => lock.locked.push(file.into()),
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(Box::new(lock)))
    }

    /// As [`Storage::lock`], but shared: for it nothing is made or opened for writing.
    fn lock_shared(&self) -> io::Result<Option<Box<dyn StorageLock>>> {
        let root = self.folder()?;
        let mut lock = DiskLock { locked: Vec::new(), process: std::process::id() };
        let (folder, name) = root.parent(LOCK_FILE)?;
        let file = match (Located { folder, name }).open(OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => Some(OwnedFd::from(file?)),
        };
        for locked in [Some(root.open_again()?), file].into_iter().flatten() {
            match rustix::fs::flock(&locked, FlockOperation::NonBlockingLockShared) {
                Ok(()) => lock.locked.push(locked),
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(
                    Errno::BADF | Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL,
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(Box::new(lock)))
    }

    fn file_system(&self) -> io::Result<FileSystem> {
        Ok(file_system_of(
            rustix::fs::fstatfs(self.folder()?.open_again()?)?.f_type as u64 & 0xffff_ffff,
        ))
    }
}

/// What is known about a file system by its number in `statfs`.
fn file_system_of(number: u64) -> FileSystem {
    match number {
        // ext2 to ext4, XFS, tmpfs.
        0xef53 | 0x5846_5342 | 0x0102_1994 => FileSystem::Overwrites,
        // btrfs, ZFS, bcachefs, F2FS, NILFS2.
        0x9123_683e | 0x2fc1_2fc1 | 0xca45_1a4e | 0xf2f5_2010 | 0x3434 => FileSystem::CopiesOnWrite,
        _ => FileSystem::Unknown,
    }
}

/// Descriptors that hold the folder's lock; closing them releases the lock.
#[derive(Debug)]
struct DiskLock {
    locked: Vec<OwnedFd>,
    /// The process that locked it. A forked child that drops its copy of an engine must not unlock.
    process: u32,
}

impl Drop for DiskLock {
    /// Unlocked by name: a child that was forked and has not called `exec` yet has copies of the
    /// descriptors, which would keep the lock.
    fn drop(&mut self) {
        if self.process == std::process::id() {
            for locked in &self.locked {
                // It cannot fail on a descriptor that was locked.
                let _ = rustix::fs::flock(locked, FlockOperation::Unlock);
            }
        }
    }
}

impl StorageLock for DiskLock {}

/// A file behind the page cache.
#[derive(Debug)]
struct CachedFile {
    file: File,
}

impl StorageFile for CachedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_up_to(&self.file, buffer, offset, 1)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_whole(&self.file, bytes, offset, 1)
    }

    fn sync(&self) -> io::Result<()> {
        sync_data(&self.file)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn is_direct(&self) -> bool {
        false
    }
}

/// Whether the error means that this file system syncs no folders, or is not written at all.
fn cannot_sync(error: &io::Error) -> bool {
    is_unsupported(error) || Errno::from_io_error(error) == Some(Errno::ROFS)
}

/// Whether the error means that the file system has no direct access.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS))
}

/// Some file systems take `O_DIRECT` and then serve it from the page cache (ext4 with data
/// journalling), or want coarser alignment than ours. Since Linux 6.1 `statx` tells; a kernel that
/// does not is believed.
fn direct_is_honest(file: &File) -> bool {
    match rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(stat) if stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            let fits = |align: u32| align != 0 && ALIGN_BYTES.is_multiple_of(align as usize);
            fits(stat.stx_dio_mem_align) && fits(stat.stx_dio_offset_align)
        }
        _ => true,
    }
}

/// Reads until the buffer is full or the file ends. A read that stopped off `align` has met the
/// end: going on from there is not allowed past the page cache.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64, align: usize) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => {
                done += read;
                if !read.is_multiple_of(align) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all bytes. A write that was cut short goes on at the last multiple of `align` before the
/// cut, so that it stays allowed past the page cache.
fn write_whole(file: &File, bytes: &[u8], offset: u64, align: usize) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(written) if done + written == bytes.len() => break,
            Ok(written) if written < align => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written - written % align,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `fdatasync`: the content, and of the metadata what it takes to read it back, such as the length.
/// Not [`File::sync_data`], which tries again when interrupted.
fn sync_data(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fdatasync(file)?)
}

fn sync_directory(directory: io::Result<impl AsFd>) -> io::Result<()> {
    Ok(rustix::fs::fsync(directory?)?)
}

/// Makes one directory; that it is there already is no error.
fn create_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::super::AlignedBuffer;
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::Command;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A folder that goes away with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(base: &Path) -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            Self(base.join(format!("doorbuster-disk-{}-{number}", std::process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn disk() -> (Scratch, Disk) {
        let scratch = Scratch::new(&std::env::temp_dir());
        let disk = Disk::new(&scratch.0.join("a/b"));
        disk.create_root().expect("root with missing parents");
        (scratch, disk)
    }

    fn aligned(len: usize, fill: u8) -> AlignedBuffer {
        let mut buffer = AlignedBuffer::zeroed(len);
        buffer.fill(fill);
        buffer
    }

    #[test]
    fn making_the_root_twice_is_no_error_and_a_file_in_its_place_is_one() {
        let (scratch, disk) = disk();
        assert!(disk.root().is_dir());
        disk.create_root().expect("again");
        fs::write(scratch.0.join("file"), b"").expect("file");
        assert!(Disk::new(&scratch.0.join("file")).create_root().is_err());
        assert!(Disk::new(&scratch.0.join("file/below")).create_root().is_err());
    }

    #[test]
    fn folders_and_files_are_made_listed_renamed_and_removed() {
        let (_scratch, disk) = disk();
        disk.create_folder("log/0").expect("with its parent");
        disk.create_folder("log/0").expect("again");
        disk.sync_folder("log").expect("sync");
        disk.create("log/0/one", Access::Cached).expect("create");
        let error = disk.create("log/0/one", Access::Direct).expect_err("twice");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        disk.create("two", Access::Direct).expect("create");
        disk.rename("two", "log/0/one").expect("replaces");
        assert_eq!(disk.list("log/0").expect("list"), ["one"]);
        disk.remove("log/0/one").expect("remove");
        disk.sync_folder("log/0").expect("sync");
        assert_eq!(disk.list("").expect("list"), ["log"]);
        let error = disk.open("log/0/one", Access::Direct).expect_err("removed");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_path_that_leaves_the_root_is_refused() {
        let (_scratch, disk) = disk();
        for path in ["/etc/x", "../x", "a//b", "a/", "./a"] {
            let error = disk.create(path, Access::Cached).expect_err(path);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
            disk.create_folder(path).expect_err(path);
        }
    }

    #[test]
    fn both_accesses_read_back_what_they_wrote() {
        let (_scratch, disk) = disk();
        for access in [Access::Cached, Access::Direct] {
            let file = disk.create("file", access).expect("create");
            assert!(file.is_empty().expect("len"));
            file.write_at(&aligned(8192, 1), 0).expect("write");
            file.sync().expect("sync");
            file.write_durable(&aligned(4096, 2), 4096).expect("inside");
            file.write_durable(&aligned(4096, 3), 8192).expect("grows");
            assert_eq!(file.len().expect("len"), 12288);
            let mut buffer = aligned(16384, 9);
            assert_eq!(file.read_at(&mut buffer, 0).expect("short at the end"), 12288);
            assert!(buffer[..4096].iter().all(|byte| *byte == 1));
            assert!(buffer[4096..8192].iter().all(|byte| *byte == 2));
            assert!(buffer[8192..12288].iter().all(|byte| *byte == 3));
            assert_eq!(file.read_at(&mut buffer, 65536).expect("past the end"), 0);
            disk.remove("file").expect("remove");
        }
    }

    #[test]
    fn durable_writes_ask_for_the_data_alone() {
        let (_scratch, disk) = disk();
        disk.create("file", Access::Cached).expect("create");
        let path = disk.root().join("file");
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(DSYNC.bits() as i32);
        let file = options.open(path).expect("open");
        let flags = rustix::fs::fcntl_getfl(&file).expect("flags");
        assert!(flags.contains(DSYNC));
        let common = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
        assert!(!common || !flags.contains(OFlags::SYNC), "the file's times are not waited for");
    }

    #[test]
    fn a_direct_read_of_a_length_off_the_alignment_is_short() {
        let (_scratch, disk) = disk();
        let cached = disk.create("file", Access::Cached).expect("create");
        cached.write_at(&[7; 5000], 0).expect("write");
        let direct = disk.open("file", Access::Direct).expect("open");
        let mut buffer = aligned(8192, 0);
        assert_eq!(direct.read_at(&mut buffer, 0).expect("two blocks"), 5000);
        assert_eq!(buffer[4999], 7);
        assert_eq!(direct.read_at(&mut buffer[..4096], 4096).expect("the last"), 904);
        assert_eq!(direct.read_at(&mut buffer[..4096], 8192).expect("past the end"), 0);
    }

    #[test]
    fn a_file_system_without_direct_access_falls_back_to_the_page_cache() {
        let unsupported = io::Error::from(Errno::INVAL);
        assert!(is_unsupported(&unsupported) && !is_unsupported(&io::Error::from(Errno::ACCESS)));
        // /proc takes no O_DIRECT, and statx says nothing about it there.
        let disk = Disk::new(Path::new("/proc/self"));
        let Ok(file) = disk.open("comm", Access::Direct) else { return };
        assert!(!file.is_direct());
    }

    #[test]
    fn on_a_memory_file_system_either_access_works() {
        let shm = Path::new("/dev/shm");
        if !shm.is_dir() {
            return;
        }
        let scratch = Scratch::new(shm);
        let disk = Disk::new(&scratch.0);
        disk.create_root().expect("root");
        let file = disk.create("file", Access::Direct).expect("create");
        file.write_durable(&aligned(4096, 5), 0).expect("write");
        let mut buffer = aligned(4096, 0);
        assert_eq!(file.read_at(&mut buffer, 0).expect("read"), 4096);
        assert_eq!(buffer[4095], 5);
    }

    #[test]
    fn the_lock_keeps_others_out_until_it_is_dropped() {
        const CHILD: &str = "DOORBUSTER_TEST_LOCKED_FOLDER";
        if let Some(folder) = std::env::var_os(CHILD) {
            assert!(Disk::new(Path::new(&folder)).lock().expect("lock").is_none());
            return;
        }
        let (_scratch, disk) = disk();
        let held = disk.lock().expect("lock").expect("free");
        assert!(disk.lock().expect("lock").is_none(), "same process, same handle");
        assert!(Disk::new(&disk.root()).lock().expect("lock").is_none(), "same process");

        let name = std::thread::current().name().expect("the harness names tests").to_owned();
        let child = Command::new(std::env::current_exe().expect("the test binary"))
            .args(["--exact", &name])
            .env(CHILD, disk.root())
            .output()
            .expect("the child runs");
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "another process: {said}");

        drop(held);
        assert!(disk.lock().expect("lock").is_some());
    }
}
