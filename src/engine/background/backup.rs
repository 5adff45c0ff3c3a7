//! Copies a running engine's folder: the newest checkpoint and the log after it, up to a moment.
//!
//! The moment is a cut through all shards (rule R12): where each log stood when the copy was begun, less
//! the blocks at the ends which name a block of another shard that is not in. Whatever was durable
//! before the call names nothing that was not, so all of it is in.
//!
//! While a backup runs no segment is released and no checkpoint removed; what it reads is whole
//! and stays as it is. That holds even if its engine is closed meanwhile: the backup shares the
//! folder's lock, so no other engine opens the folder before the backup has ended. The manifest comes last: without it a folder is refused, so a backup that was
//! cut short is no engine's.

use std::sync::Arc;

use crate::checkpoint::{self, CHECKPOINT_FOLDER, CheckpointFile, Head};
use crate::engine::core::Core;
use crate::error::{BackupError, OpenError};
use crate::log::{BlockMark, LOG_FOLDER, LOST_AND_FOUND, LogPosition, Manifest, SegmentName};
use crate::recovery::{greatest_cut, scan_durable};
use crate::storage::{ALIGN_BYTES, Access, AlignedBuffer, Storage, StorageFile, hold};

const COPY_BYTES: usize = 1 << 20;

/// A backup that is whole and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Backup {
    /// The number of the checkpoint in it; `None`: it has the whole log.
    pub checkpoint: Option<u64>,
    /// Blocks of the log in it.
    pub blocks: u64,
    /// Bytes that were written.
    pub bytes: u64,
}

/// As long as it lives, what checkpoints need stays.
struct Keeping<'a>(&'a Core);

impl<'a> Keeping<'a> {
    /// Returns the newest checkpoint too.
    fn new(core: &'a Core) -> (Self, Option<u64>) {
        let mut desk = core.backups.lock();
        desk.running += 1;
        (Self(core), desk.newest)
    }
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        self.0.backups.lock().running -= 1;
    }
}

/// Sequences of each partition that a backup never uses: its engine uses them after the backup was made.
const IDS_SKIPPED: u64 = 1 << 32;

pub(in crate::engine) fn backup(core: &Core, to: &Arc<dyn Storage>) -> Result<Backup, BackupError> {
    let lock = core.share_folder().filter(|_| !core.is_closing());
    let _lock = lock.ok_or_else(|| core.why_closed())?;
    core.look_at_place();
    let io = |operation, error| OpenError::io(operation, to.root(), error);
    // Before anything is made, and again when the path has no missing part any more.
    refuse_own_folder(core, to.as_ref())?;
    to.create_root().map_err(|error| io("create", error))?;
    let to = &hold(to).map_err(|error| io("open", error))?;
    refuse_own_folder(core, to.as_ref())?;
    let names = to.list("").map_err(|error| io("list", error))?;
    // A volume of its own has this in its root.
    if let Some(found) = names.iter().find(|name| *name != LOST_AND_FOUND) {
        return Err(BackupError::NotEmpty { path: to.root(), found: found.clone() });
    }
    let (_keeping, newest) = Keeping::new(core);
    let newest = newest.map(|number| open_checkpoint(core, number)).transpose()?;
    let stands = core.marks.positions();
    copy_up_to(core, to.as_ref(), newest.as_ref(), &stands)
}

/// Another open would take what it finds there for damage.
fn refuse_own_folder(core: &Core, to: &dyn Storage) -> Result<(), BackupError> {
    let path = to.root();
    match core.storage.contains(&path) {
        Ok(false) => Ok(()),
        Ok(true) => Err(BackupError::Inside { path, folder: core.folder.clone() }),
        Err(error) => Err(OpenError::io("open a folder above", path, error).into()),
    }
}

/// Copies a checkpoint and the log after it, up to where each shard stood. The shards were looked at one after the
/// other while their writers went on, so a block of one may name a block of another that is past where that one
/// stood.
fn copy_up_to(
    core: &Core,
    to: &dyn Storage,
    newest: Option<&CheckpointFile>,
    stands: &[LogPosition],
) -> Result<Backup, BackupError> {
    let shards = core.shards.len();
    let from = Head::begins(newest.map(|file| &file.head), shards);
    let scanned = (0..shards)
        .map(|shard| {
            let (from, stand) = (from[shard], stands[shard]);
            scan_durable(core.storage.as_ref(), &core.manifest, shard as u16, from, stand)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let ends = greatest_cut(&scanned);
    let mut copy = Copy { from: core.storage.as_ref(), to, bytes: 0 };
    if let Some(file) = newest {
        copy.folder(CHECKPOINT_FOLDER)?;
        let path = checkpoint::path(file.head.number);
        copy.file(&path, 0..file.head.file_bytes, file.head.file_bytes)?;
        copy.sync_folder(CHECKPOINT_FOLDER)?;
    }
    copy.folder(LOG_FOLDER)?;
    let mut marks = Vec::new();
    for (shard, scanned) in scanned.iter().enumerate() {
        let end = scanned.position(ends[shard], from[shard]);
        copy.shard(shard as u16, from[shard].ordinal, end)?;
        marks.push(end.mark);
    }
    copy.sync_folder(LOG_FOLDER)?;
    copy.sync_folder("")?;
    let time = core.time.mark();
    write_manifest(core, to, marks, time)?;
    Ok(Backup {
        checkpoint: newest.map(|file| file.head.number),
        blocks: scanned.iter().zip(&ends).map(|(scanned, end)| end - scanned.first_read).sum(),
        bytes: copy.bytes,
    })
}

fn open_checkpoint(core: &Core, number: u64) -> Result<CheckpointFile, OpenError> {
    let path = checkpoint::path(number);
    let file = CheckpointFile::open(core.storage.as_ref(), &path, core.manifest.engine_id);
    // What rotted since it was read back must not be copied as if it were whole.
    let whole = file.and_then(|file| file.check().map(|()| file));
    whole.map_err(|unusable| unusable.into_error(core.folder.join(path)))
}

fn write_manifest(
    core: &Core,
    to: &dyn Storage,
    shards: Vec<BlockMark>,
    time: crate::clock::TimeMark,
) -> Result<(), OpenError> {
    let sequence_floor = core.ids.end() + IDS_SKIPPED;
    Manifest { sequence_floor, shards, time, ..core.manifest.clone() }.write(to)
}

struct Copy<'a> {
    from: &'a dyn Storage,
    to: &'a dyn Storage,
    bytes: u64,
}

impl Copy<'_> {
    fn folder(&self, folder: &str) -> Result<(), OpenError> {
        let path = self.to.root().join(folder);
        self.to.create_folder(folder).map_err(|error| OpenError::io("create", path, error))
    }

    fn sync_folder(&self, folder: &str) -> Result<(), OpenError> {
        let path = self.to.root().join(folder);
        self.to.sync_folder(folder).map_err(|error| OpenError::io("sync", path, error))
    }

    /// A shard's segments from one on, up to the end of its copied log.
    fn shard(&mut self, shard: u16, first: u64, end: LogPosition) -> Result<(), OpenError> {
        let name = SegmentName::of_shard(shard);
        self.folder(&name.folder)?;
        for ordinal in first..=end.ordinal {
            let path = name.path(ordinal);
            let file = self.open(&path)?;
            let len = file.len().map_err(|error| self.failed("measure", &path, error))?;
            let kept = if ordinal == end.ordinal { end.offset } else { len };
            self.file(&path, 0..kept, len)?;
        }
        self.sync_folder(&name.folder)
    }

    fn open(&self, path: &str) -> Result<Arc<dyn StorageFile>, OpenError> {
        let opened = self.from.open(path, Access::Direct);
        opened.map_err(|error| self.failed("open", path, error))
    }

    fn failed(&self, operation: &'static str, path: &str, error: std::io::Error) -> OpenError {
        OpenError::io(operation, self.from.root().join(path), error)
    }

    /// Copies the front of a file, and zeros after it up to `len`. A loss of power may have left a segment of any
    /// length; direct calls need multiples.
    fn file(&mut self, path: &str, kept: std::ops::Range<u64>, len: u64) -> Result<(), OpenError> {
        let len = len.next_multiple_of(ALIGN_BYTES as u64);
        let file = self.open(path)?;
        let failed = |operation, error| OpenError::io(operation, self.to.root().join(path), error);
        let copy = self.to.create(path, Access::Direct).map_err(|error| failed("create", error))?;
        let mut buffer = AlignedBuffer::zeroed(COPY_BYTES);
        let mut offset = 0;
        while offset < len {
            let part = (COPY_BYTES as u64).min(len - offset) as usize;
            let wanted = kept.end.saturating_sub(offset).min(part as u64) as usize;
            if wanted > 0 {
                let read = file.read_at(&mut buffer[..part], offset);
                let read = read.map_err(|error| self.failed("read", path, error))?;
                buffer[wanted.min(read)..part].fill(0);
            } else {
                buffer[..part].fill(0);
            }
            copy.write_at(&buffer[..part], offset).map_err(|error| failed("write", error))?;
            offset += part as u64;
        }
        copy.sync().map_err(|error| failed("sync", error))?;
        self.bytes += len;
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::order::{Adjust, Order};
    use crate::recovery::verify_on;
    use crate::testing::{MemoryStorage, SteppedEngine};

    const BUYERS: u64 = 8;

    fn options(storage: &MemoryStorage) -> Options {
        let options = Options::on_storage(Arc::new(storage.clone())).partitions(2).log_shards(2);
        options.segment_bytes(1 << 20)
    }

    fn sell(engine: &mut SteppedEngine, first: u64) {
        for buyer in first..first + BUYERS {
            drop(engine.place(Order::new(buyer, 1).line(1, 1)).expect("room"));
            engine.run_until_idle();
        }
    }

    /// The story: a backup looks where one shard stands, and before it looks at the next one both write
    /// blocks that name each other. What rests on a block that is not in the backup is left out.
    #[test]
    fn a_block_that_names_one_past_the_cut_is_not_in_a_backup() {
        for early in [0, 1] {
            let mut engine = SteppedEngine::open(options(&MemoryStorage::new())).expect("opens");
            drop(engine.stock(1, Adjust::add(100).key(0)).expect("room"));
            engine.run_until_idle();
            sell(&mut engine, 0);
            let before = engine.core().marks.positions();
            sell(&mut engine, 100);
            let mut stands = engine.core().marks.positions();
            assert!((0..2).all(|shard| before[shard].mark != stands[shard].mark));
            stands[early] = before[early];

            let copy = MemoryStorage::new();
            copy.create_root().expect("made");
            copy_up_to(engine.core(), &copy, None, &stands).expect("copied");
            verify_on(Arc::new(copy.clone())).expect("whole");
            let restored = SteppedEngine::open(options(&copy)).expect("opens");
            assert!(restored.stats().orders >= BUYERS, "what was durable before is in it");
        }
    }
}
