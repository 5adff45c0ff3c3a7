//! Segments: the files of a shard, `log/<shard>/<ordinal>.segment`.
//!
//! Invariants:
//! - A file with a segment's name was written full once (a growing or merely allocated file syncs
//!   at half the speed), synced, renamed from `prepare-<ordinal>`, and its folder synced: all before
//!   its first block. So no metadata changes on the way to an acknowledgement.
//! - Ordinals count up without a gap, from 0, or from that of the first segment which was not
//!   recycled. A segment whose first block is not there is a spare, and only spares come after the
//!   active one.
//! - A segment is recycled, renamed to the next ordinal, only when all its blocks lie before the
//!   position at which the *older* of two checkpoints begins; that is never after the active one. Its
//!   blocks stay where they are: the reader tells them by number, epoch and chain. It is a spare
//!   only after its folder is synced, so no block in it counts while it may have the old name.
//!   The oldest goes first, so that a crash leaves no gap; and not before it is as old as the host
//!   wants to have it, see [`archive`](crate::log::archive), unless the disk is full.
//!
//! The name carries an ordinal, not the first LSN as in the design's draft: the file can then be
//! named and its folder synced before anyone knows what its first record will be.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::log::archive::Archive;
use crate::log::lane::Lane;
use crate::log::shard::Shard;
use crate::log::space::kept_bytes;
use crate::storage::{ALIGN_BYTES, Access, AlignedBuffer, Storage, StorageFile, remove_if_there};
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

/// What an open found of a shard's segments.
#[derive(Debug)]
pub(crate) struct FoundSegments {
    pub(crate) spares: Vec<Segment>,
    /// Of the first one that is there.
    pub(crate) oldest_ordinal: u64,
    /// Of the next one to be made.
    pub(crate) next_ordinal: u64,
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
    unneeded: Mutex<Unneeded>,
    /// The one that the writer writes to.
    active: Mutex<Option<Segment>>,
    /// Full ones that were written and not synced ([`Durability::Written`]).
    ///
    /// [`Durability::Written`]: crate::Durability::Written
    unsynced: Mutex<Vec<Segment>>,
    /// Held while `unsynced` ones are synced; what the first failure was.
    syncing: Mutex<Option<io::ErrorKind>>,
    /// One at a time prepares; the ordinal that comes next.
    next_ordinal: Mutex<u64>,
    keeper: OnceLock<Unparker>,
}

/// Segments that no checkpoint needs any more.
#[derive(Debug)]
struct Unneeded {
    ordinals: Range<u64>,
    archive: Archive,
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
        found: FoundSegments,
        archive: Archive,
    ) -> Self {
        let ordinals = found.oldest_ordinal..found.oldest_ordinal;
        Self {
            storage,
            name: SegmentName::of_shard(shard.index()),
            access,
            segment_bytes,
            shard,
            lanes,
            spares: Mutex::new(Spares { segments: found.spares.into(), disk_is_full: false }),
            unneeded: Mutex::new(Unneeded { ordinals, archive }),
            active: Mutex::new(None),
            unsynced: Mutex::new(Vec::new()),
            syncing: Mutex::new(None),
            next_ordinal: Mutex::new(found.next_ordinal),
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
                    None if self.is_out_of_room() => {
                        return Err(io::ErrorKind::StorageFull.into());
                    }
                    None => {
                        let next = self.prepare_next(&mut next_ordinal);
                        self.lengthen(next.inspect_err(|_| self.look())?)?
                    }
                }
            }
        };
        self.keeper.get().inspect(|keeper| keeper.unpark());
        Ok(segment)
    }

    /// The disk is known to be full, and nothing can be recycled.
    fn is_out_of_room(&self) -> bool {
        self.spares.lock().disk_is_full && self.unneeded.lock().ordinals.is_empty()
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
            // An attempt that a loss of power cut short may have left any length, and a direct write
            // starts at a multiple.
            let from = spare.bytes - spare.bytes % ALIGN_BYTES as u64;
            if let Err(error) = fill(spare.file.as_ref(), from, self.segment_bytes) {
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

    /// The writer goes on in a segment; `unsynced` is the one before, if nobody has synced it. It is
    /// noted first: [`Segments::sync_written`] then finds it here or there.
    pub(crate) fn turn_to(&self, segment: &Segment, unsynced: Option<Segment>) {
        self.unsynced.lock().extend(unsynced);
        *self.active.lock() = Some(segment.clone());
    }

    /// Syncs what was left unsynced; a file that could not be synced is not tried again.
    pub(crate) fn sync_left(&self) -> io::Result<()> {
        let mut failed = self.syncing.lock();
        if let Some(kind) = *failed {
            return Err(kind.into());
        }
        let left = std::mem::take(&mut *self.unsynced.lock());
        let synced = left.iter().try_for_each(|segment| segment.file.sync());
        *failed = synced.as_ref().err().map(io::Error::kind);
        synced
    }

    /// Makes everything durable that was written before the call.
    pub(crate) fn sync_written(&self) -> io::Result<()> {
        let active = self.active.lock().clone();
        self.sync_left()?;
        active.map_or(Ok(()), |segment| segment.file.sync())
    }

    /// Whether there are segments before this one.
    pub(crate) fn has_before(&self, ordinal: u64) -> bool {
        self.unneeded.lock().ordinals.start < ordinal
    }

    /// No checkpoint needs the segments before this one any more.
    pub(crate) fn release_before(&self, ordinal: u64) {
        let ordinals = &mut self.unneeded.lock().ordinals;
        ordinals.end = ordinals.end.max(ordinal);
        self.shard.set_unneeded(ordinals.end - ordinals.start);
    }

    fn kept_bytes(&self) -> u64 {
        let live: u64 = self.lanes.iter().map(|lane| lane.live_orders()).sum();
        kept_bytes(live, self.segment_bytes)
    }

    /// The segment with the next ordinal: the oldest that nobody wants any more, or a new one. On a full
    /// disk what is archived gives way: orders matter more.
    fn prepare_next(&self, next_ordinal: &mut u64) -> io::Result<Segment> {
        let recycled = self.recycle(*next_ordinal, false).transpose();
        let mut prepared = recycled.unwrap_or_else(|| self.prepare(*next_ordinal));
        if prepared.as_ref().is_err_and(is_full) {
            prepared = self.recycle(*next_ordinal, true).transpose().unwrap_or(prepared);
        }
        self.spares.lock().disk_is_full = prepared.as_ref().is_err_and(is_full);
        *next_ordinal += u64::from(prepared.is_ok());
        prepared
    }

    /// `early`: even if it is archived.
    fn recycle(&self, ordinal: u64, early: bool) -> io::Result<Option<Segment>> {
        let mut unneeded = self.unneeded.lock();
        let Unneeded { ordinals, archive } = &mut *unneeded;
        let storage = self.storage.as_ref();
        if ordinals.is_empty() || (!early && archive.keeps_first(storage, &self.name, ordinals)) {
            return Ok(None);
        }
        let oldest = self.name.path(ordinals.start);
        let file = storage.open(&oldest, self.access)?;
        let bytes = file.len()?;
        storage.rename(&oldest, &self.name.path(ordinal))?;
        ordinals.start += 1;
        self.shard.set_unneeded(ordinals.end - ordinals.start);
        storage.sync_folder(&self.name.folder)?;
        self.shard.count_recycled(early);
        Ok(Some(Segment { ordinal, file, bytes }))
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
