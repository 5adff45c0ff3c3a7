//! A file past the page cache, and what becomes of it where that is refused late.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

use super::{ALIGN_BYTES, StorageFile, is_unsupported, read_up_to, sync_data, write_whole};

/// A file past the page cache.
#[derive(Debug)]
pub(super) struct DirectFile {
    /// `O_DIRECT`: reads, and writes that a later sync makes durable together.
    pub(super) file: File,
    /// `O_DIRECT | O_DSYNC`: a write returns when it is durable. A descriptor of its own, since
    /// `fcntl` cannot switch `O_DSYNC` on.
    pub(super) durable: File,
    pub(super) refused: Refused,
}

/// Whether direct access was refused at a read or write, after it was granted at the open: shared by all
/// files of a disk. From then on each is opened through the page cache, so that a recovery does not take
/// for read from the disk what was not.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused(Arc<AtomicBool>);

impl Refused {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl DirectFile {
    /// Makes a call once more, through the page cache, if the file system refuses direct access only now.
    /// The refusal is not for the arguments, if they are aligned; nothing was read or written then.
    /// `O_DSYNC` stays in force.
    fn or_cached<T>(&self, is_aligned: bool, call: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match call() {
            Err(error) if is_aligned && is_unsupported(&error) => {
                for file in [&self.file, &self.durable] {
                    let flags = rustix::fs::fcntl_getfl(file)?;
                    rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?;
                }
                self.refused.0.store(true, Ordering::Relaxed);
                call()
            }
            called => called,
        }
    }
}

fn is_aligned(bytes: &[u8], offset: u64) -> bool {
    let place = bytes.as_ptr().addr() | bytes.len();
    place.is_multiple_of(ALIGN_BYTES) && offset.is_multiple_of(ALIGN_BYTES as u64)
}

impl StorageFile for DirectFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let is_aligned = is_aligned(buffer, offset);
        let buffer = std::cell::RefCell::new(buffer);
        let (read, wanted) = self.or_cached(is_aligned, || {
            let mut buffer = buffer.borrow_mut();
            let read = read_up_to(&self.file, &mut buffer, offset, ALIGN_BYTES)?;
            Ok((read, buffer.len()))
        })?;
        // Recovery takes a short read for the end of the file. Nothing else may pass for one.
        if read < wanted && offset + (read as u64) < self.len()? {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("direct read at {offset} stopped after {read} bytes, before the end"),
            ));
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let write = || write_whole(&self.file, bytes, offset, ALIGN_BYTES);
        self.or_cached(is_aligned(bytes, offset), write)
    }

    fn sync(&self) -> io::Result<()> {
        sync_data(&self.file)
    }

    fn write_durable(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let write = || write_whole(&self.durable, bytes, offset, ALIGN_BYTES);
        self.or_cached(is_aligned(bytes, offset), write)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn is_direct(&self) -> bool {
        !self.refused.is_set()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;

    /// A file system that grants direct access and refuses it at the call is played by one that wants
    /// alignment, which a call does not have.
    #[test]
    fn direct_access_that_is_refused_at_a_write_is_given_up() {
        let path = std::env::temp_dir().join(format!("doorbuster-late-{}", std::process::id()));
        let open = |flags: OFlags| {
            let options =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).to_owned();
            options.clone().custom_flags(flags.bits() as i32).open(&path)
        };
        let opened = open(OFlags::DIRECT).and_then(|file| Ok((file, open(OFlags::DIRECT)?)));
        let removed = std::fs::remove_file(&path);
        let Ok((file, durable)) = opened else {
            eprintln!("skipped: the temporary folder has no direct access");
            return;
        };
        removed.expect("it was made");
        let refused = Refused::default();
        let file = DirectFile { file, durable, refused: refused.clone() };
        let bytes = [7; 100];
        let write = || write_whole(&file.durable, &bytes, 1, 1);
        if write().is_ok() {
            eprintln!("skipped: the temporary folder takes any alignment");
            return;
        }
        assert!(file.write_durable(&bytes, 1).is_err(), "the caller's fault stays one");
        assert!(file.is_direct() && !refused.is_set());
        file.or_cached(true, write).expect("through the page cache");
        assert!(!file.is_direct() && refused.is_set());
        let mut read = [0; 100];
        assert_eq!(file.read_at(&mut read, 1).expect("read"), 100);
        assert_eq!(read, bytes);
        file.write_durable(&bytes, 50).expect("from now on");
        file.sync().expect("synced");
    }
}
