//! Segments: the files of a shard, `log/<shard>/<ordinal>.segment`.
//!
//! Invariants:
//! - A file with a segment's name was written full once (a growing or merely allocated file syncs
//!   at half the speed), synced, renamed from `prepare-<ordinal>`, and its folder synced: all before
//!   its first block. So no metadata changes on the way to an acknowledgement.
//! - Ordinals count up from 0 without a gap. A segment whose first block is not there is a spare,
//!   and only spares come after the active one.
//!
//! The name carries an ordinal, not the first LSN as in the design's draft: the file can then be
//! named and its folder synced before anyone knows what its first record will be.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::log::lane::Lane;
use crate::log::shard::Shard;
use crate::log::space::kept_bytes;
use crate::storage::{Access, AlignedBuffer, Storage, StorageFile};
use crate::sync::{Mutex, OnceLock, Unparker};
use crate::wrong::{self, Wrong};

/// The folder that holds the shards' folders.
pub(crate) const LOG_FOLDER: &str = "log";
const PREPARE_PREFIX: &str = "prepare-";
const FILL_BYTES: usize = 1 << 20;

/// How segments are named.
#[derive(Clone, Debug)]
pub(crate) struct SegmentName {
    pub(crate) folder: String,
}

impl SegmentName {
    pub(crate) fn of_shard(shard: u16) -> Self {
        Self { folder: format!("{LOG_FOLDER}/{shard:02}") }
    }

    pub(crate) fn path(&self, ordinal: u64) -> String {
        format!("{}/{ordinal:010}.segment", self.folder)
    }

    fn prepare_path(&self, ordinal: u64) -> String {
        format!("{}/{PREPARE_PREFIX}{ordinal:010}", self.folder)
    }

    fn ordinal(name: &str) -> Option<u64> {
        name.strip_suffix(".segment").filter(|digits| digits.len() == 10)?.parse().ok()
    }
}

/// Whether a file was being prepared, and is no segment.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with(PREPARE_PREFIX)
}

/// The ordinals of a shard's segments, sorted; the first foreign name as an error. Files that were
/// being prepared are not segments yet.
pub(crate) fn ordinals(names: &[String]) -> Result<Vec<u64>, String> {
    let mut ordinals = Vec::new();
    for name in names.iter().filter(|name| !is_unfinished(name)) {
        ordinals.push(SegmentName::ordinal(name).ok_or_else(|| name.clone())?);
    }
    ordinals.sort_unstable();
    Ok(ordinals)
}

/// A segment that a writer writes to.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) ordinal: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) bytes: u64,
}

/// Keeps a shard's spare segments ahead of its writer.
#[derive(Debug)]
pub(crate) struct Segments {
    storage: Arc<dyn Storage>,
    name: SegmentName,
    access: Access,
    segment_bytes: u64,
    shard: Arc<Shard>,
    /// Those whose orders may still need room for their endings.
    lanes: Vec<Arc<Lane>>,
    spares: Mutex<Spares>,
    /// Full ones that were written and not synced ([`Durability::Written`]).
    ///
    /// [`Durability::Written`]: crate::Durability::Written
    unsynced: Mutex<Vec<Segment>>,
    /// One at a time prepares; the ordinal that comes next.
    next_ordinal: Mutex<u64>,
    keeper: OnceLock<Unparker>,
}

#[derive(Debug)]
struct Spares {
    segments: VecDeque<Segment>,
    /// The disk had no room for another one when that was last tried.
    disk_is_full: bool,
}

/// What came of preparing a spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provided {
    One,
    /// There are enough.
    Enough,
    DiskFull,
}

impl Segments {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        shard: Arc<Shard>,
        access: Access,
        segment_bytes: u64,
        lanes: Vec<Arc<Lane>>,
        spares: Vec<Segment>,
        next_ordinal: u64,
    ) -> Self {
        Self {
            storage,
            name: SegmentName::of_shard(shard.index()),
            access,
            segment_bytes,
            shard,
            lanes,
            spares: Mutex::new(Spares { segments: spares.into(), disk_is_full: false }),
            unsynced: Mutex::new(Vec::new()),
            next_ordinal: Mutex::new(next_ordinal),
            keeper: OnceLock::new(),
        }
    }

    pub(crate) fn path(&self, ordinal: u64) -> String {
        self.name.path(ordinal)
    }

    /// Who is woken when a spare was taken.
    pub(crate) fn set_keeper(&self, keeper: Unparker) {
        // A second one would be woken in vain: there is one keeper.
        let _ = self.keeper.set(keeper);
    }

    /// The next segment to write to, prepared now if no spare is left and the disk is not known to be
    /// full.
    pub(crate) fn take(&self) -> io::Result<Segment> {
        let segment = match self.take_spare() {
            Some(spare) => self.lengthen(spare)?,
            None => {
                let mut next_ordinal = self.next_ordinal.lock();
                // Somebody may have prepared one in the meantime.
                match self.take_spare() {
                    Some(spare) => self.lengthen(spare)?,
                    None if self.spares.lock().disk_is_full => {
                        return Err(io::ErrorKind::StorageFull.into());
                    }
                    None => self.prepare_next(&mut next_ordinal).inspect_err(|_| self.look())?,
                }
            }
        };
        self.keeper.get().inspect(|keeper| keeper.unpark());
        Ok(segment)
    }

    fn take_spare(&self) -> Option<Segment> {
        let spare = self.spares.lock().segments.pop_front()?;
        self.look();
        Some(spare)
    }

    /// A spare that was made when segments were to be shorter may not hold the largest block of today. It
    /// cannot be passed over: the reader takes a blank segment for the end.
    fn lengthen(&self, mut spare: Segment) -> io::Result<Segment> {
        if spare.bytes < self.segment_bytes {
            if let Err(error) = fill(spare.file.as_ref(), spare.bytes, self.segment_bytes) {
                self.spares.lock().segments.push_front(spare);
                return Err(error);
            }
            spare.bytes = self.segment_bytes;
        }
        Ok(spare)
    }

    /// Prepares a spare unless there are enough: what is kept for endings and one more.
    pub(crate) fn provide(&self) -> io::Result<Provided> {
        let mut next_ordinal = self.next_ordinal.lock();
        if self.spares.lock().bytes() >= self.kept_bytes() + self.segment_bytes {
            self.look();
            return Ok(Provided::Enough);
        }
        let prepared = self.prepare_next(&mut next_ordinal);
        let provided = match prepared {
            Ok(segment) => {
                self.spares.lock().segments.push_back(segment);
                Provided::One
            }
            Err(error) if is_full(&error) => Provided::DiskFull,
            Err(error) => return Err(error),
        };
        self.look();
        Ok(provided)
    }

    /// Tells admission whether what is to be kept is there or can be had.
    pub(crate) fn look(&self) {
        let spares = self.spares.lock();
        self.shard.space.set_full(spares.disk_is_full && spares.bytes() < self.kept_bytes());
    }

    /// The writer is done with a segment that nobody has synced.
    pub(crate) fn leave_unsynced(&self, segment: Segment) {
        self.unsynced.lock().push(segment);
    }

    /// Syncs what was left unsynced; a file that could not be synced is not tried again.
    pub(crate) fn sync_left(&self) -> io::Result<()> {
        let left = std::mem::take(&mut *self.unsynced.lock());
        left.iter().try_for_each(|segment| segment.file.sync())
    }

    fn kept_bytes(&self) -> u64 {
        let live: u64 = self.lanes.iter().map(|lane| lane.live_orders()).sum();
        kept_bytes(live, self.segment_bytes)
    }

    fn prepare_next(&self, next_ordinal: &mut u64) -> io::Result<Segment> {
        let prepared = self.prepare(*next_ordinal);
        self.spares.lock().disk_is_full = prepared.as_ref().is_err_and(is_full);
        *next_ordinal += u64::from(prepared.is_ok());
        prepared
    }

    /// Makes a segment as the module's invariants say. A part that could not be finished is removed.
    fn prepare(&self, ordinal: u64) -> io::Result<Segment> {
        let unfinished = self.name.prepare_path(ordinal);
        remove_if_there(self.storage.as_ref(), &unfinished)?;
        let filled = self.storage.create(&unfinished, self.access).and_then(|file| {
            fill(file.as_ref(), 0, self.segment_bytes)?;
            Ok(file)
        });
        let file = match filled {
            Ok(file) => file,
            Err(error) => {
                remove_if_there(self.storage.as_ref(), &unfinished)?;
                return Err(error);
            }
        };
        self.storage.rename(&unfinished, &self.name.path(ordinal))?;
        if !wrong::is(Wrong::SkipsFolderSync) {
            self.storage.sync_folder(&self.name.folder)?;
        }
        Ok(Segment { ordinal, file, bytes: self.segment_bytes })
    }
}

impl Spares {
    fn bytes(&self) -> u64 {
        self.segments.iter().map(|spare| spare.bytes).sum()
    }
}

/// Whether an error says that the disk or a quota is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn remove_if_there(storage: &dyn Storage, path: &str) -> io::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn fill(file: &dyn StorageFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = AlignedBuffer::zeroed(FILL_BYTES.min((to - from) as usize));
    let mut offset = from;
    while offset < to {
        let part = zeros.len().min((to - offset) as usize);
        file.write_at(&zeros[..part], offset)?;
        offset += part as u64;
    }
    file.sync()
}
