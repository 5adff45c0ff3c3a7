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
//! - Of the spares the first [`SPARES_OPEN_MAX`] are open, so that the writer finds the next one ready; the
//!   others take no descriptors.
//! - Nothing that was acknowledged rests on a spare. A system that is short of descriptors or memory for a
//!   moment therefore latches nothing: the keeper and the writer try again, and the attempts are counted.
//!   A sync of the folder is tried again only if it was not begun, for lack of a descriptor. Any other error of it
//!   is remembered, and latches: after a failed sync nothing is known about the names.
//! - On a file system that writes copies instead of overwriting, a block may find no room in a segment that
//!   is there in full. Then the last spare is given up: what is kept for endings becomes room for them.
//!
//! The name carries an ordinal, not the first LSN as in the design's draft: the file can then be
//! named and its folder synced before anyone knows what its first record will be.

mod error;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::log::archive::Archive;
use crate::log::lane::Lane;
use crate::log::segment_name::SegmentName;
use crate::log::shard::Shard;
use crate::log::space::{Room, kept_bytes};
use crate::mutants::{self, Mutant};
use crate::storage::{ALIGN_BYTES, Access, AlignedBuffer, Storage, StorageFile, remove_if_there};
use crate::sync::{Mutex, OnceLock, Unparker};

use error::is_not_begun;
pub(crate) use error::{SegmentError, is_full};

const FILL_BYTES: usize = 1 << 20;
/// So many spares of a shard are open.
pub(crate) const SPARES_OPEN_MAX: usize = 2;
/// So many full segments of a shard may be open and not synced. The writer syncs them itself beyond that.
pub(crate) const UNSYNCED_MAX: usize = 8;

/// A segment that a writer writes to.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) ordinal: u64,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) bytes: u64,
}

/// A segment without blocks, prepared for the writer.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) ordinal: u64,
    pub(crate) bytes: u64,
    /// `None`: it is opened when it comes nearer.
    pub(crate) file: Option<Arc<dyn StorageFile>>,
}

impl Spare {
    /// Closed again unless it is one of the first.
    pub(crate) fn of(segment: Segment, before: usize) -> Self {
        let Segment { ordinal, file, bytes } = segment;
        Self { ordinal, bytes, file: Some(file).filter(|_| before < SPARES_OPEN_MAX) }
    }
}

/// What an open found of a shard's segments.
#[derive(Debug)]
pub(crate) struct FoundSegments {
    pub(crate) spares: Vec<Spare>,
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
    /// Held while `unsynced` ones are synced; what the first failure was, and of which file.
    syncing: Mutex<Option<(io::ErrorKind, String)>>,
    /// One thread at a time prepares, opens or removes spares.
    next: Mutex<Next>,
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
    segments: VecDeque<Spare>,
    /// Why there was not another one when that was last tried.
    room: Room,
}

/// The segment that comes next.
#[derive(Debug)]
struct Next {
    ordinal: u64,
    /// It has its name, and the folder is not synced yet.
    renamed: Option<Segment>,
    /// A spare was removed, and the folder is not synced yet.
    has_removed: bool,
    /// Why a sync of the folder failed that was begun.
    failed: Option<String>,
}

impl Next {
    fn at(ordinal: u64) -> Self {
        Self { ordinal, renamed: None, has_removed: false, failed: None }
    }
}

/// What came of preparing a spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provided {
    One,
    /// There are enough.
    Enough,
    DiskFull,
    /// The system is short of descriptors or memory.
    Short,
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
            spares: Mutex::new(Spares { segments: found.spares.into(), room: Room::Enough }),
            unneeded: Mutex::new(Unneeded { ordinals, archive }),
            active: Mutex::new(None),
            unsynced: Mutex::new(Vec::new()),
            syncing: Mutex::new(None),
            next: Mutex::new(Next::at(found.next_ordinal)),
            keeper: OnceLock::new(),
        }
    }

    pub(crate) fn path(&self, ordinal: u64) -> String {
        self.name.path(ordinal)
    }

    /// The thread to wake when a spare was taken.
    pub(crate) fn set_keeper(&self, keeper: Unparker) {
        // A second one would be woken in vain: there is one keeper.
        let _ = self.keeper.set(keeper);
    }

    /// The next segment to write to, prepared now if no spare is left and the disk is not known to be
    /// full.
    pub(crate) fn take(&self) -> Result<Segment, SegmentError> {
        let taken = self.take_next();
        if taken.as_ref().is_err_and(SegmentError::is_passing) {
            self.shard.count_shortage();
        }
        let segment = taken?;
        self.keeper.get().inspect(|keeper| keeper.unpark());
        Ok(segment)
    }

    fn take_next(&self) -> Result<Segment, SegmentError> {
        if let Some(spare) = self.take_spare() {
            return self.make_ready(spare);
        }
        let mut next = self.next.lock();
        // The keeper may have prepared one in the meantime.
        match self.take_spare() {
            Some(spare) => self.make_ready(spare),
            None if self.is_out_of_room() => {
                let full = io::ErrorKind::StorageFull.into();
                Err(SegmentError::new("create", self.name.path(next.ordinal))(full))
            }
            None => {
                let prepared = self.prepare_next(&mut next);
                let segment = prepared.inspect_err(|_| self.look())?;
                self.make_ready(Spare::of(segment, 0))
            }
        }
    }

    /// The disk is known to be full, and nothing can be recycled.
    fn is_out_of_room(&self) -> bool {
        self.spares.lock().room == Room::DiskFull && self.unneeded.lock().ordinals.is_empty()
    }

    fn take_spare(&self) -> Option<Spare> {
        let spare = self.spares.lock().segments.pop_front()?;
        self.look();
        Some(spare)
    }

    /// Opens a spare and lengthens it, or puts it back: it cannot be passed over, since the reader takes a
    /// blank segment for the end.
    fn make_ready(&self, mut spare: Spare) -> Result<Segment, SegmentError> {
        match self.open_and_lengthen(&mut spare) {
            Ok(file) => Ok(Segment { ordinal: spare.ordinal, file, bytes: spare.bytes }),
            Err(error) => {
                self.spares.lock().segments.push_front(spare);
                self.note_shortage(&error);
                self.look();
                Err(error)
            }
        }
    }

    /// A spare that was made when segments were to be shorter may not hold the largest block of today.
    fn open_and_lengthen(&self, spare: &mut Spare) -> Result<Arc<dyn StorageFile>, SegmentError> {
        let path = self.name.path(spare.ordinal);
        let file = match spare.file.clone() {
            Some(file) => file,
            None => self.open_spare(spare.ordinal)?,
        };
        if spare.bytes < self.segment_bytes {
            // An attempt that a loss of power cut short may have left any length, and a direct write
            // starts at a multiple.
            let from = spare.bytes - spare.bytes % ALIGN_BYTES as u64;
            let filled = fill(file.as_ref(), from, self.segment_bytes);
            filled.map_err(SegmentError::new("lengthen", path))?;
            spare.bytes = self.segment_bytes;
        }
        Ok(file)
    }

    fn open_spare(&self, ordinal: u64) -> Result<Arc<dyn StorageFile>, SegmentError> {
        let path = self.name.path(ordinal);
        self.storage.open(&path, self.access).map_err(SegmentError::new("open", path))
    }

    /// Prepares a spare unless there are enough: what is kept for endings and one more.
    pub(crate) fn provide(&self) -> Result<Provided, SegmentError> {
        let provided = match self.provide_one() {
            Err(error) if error.is_full() => Ok(Provided::DiskFull),
            Err(error) if error.is_passing() => {
                self.shard.count_shortage();
                Ok(Provided::Short)
            }
            provided => provided,
        };
        self.look();
        provided
    }

    fn provide_one(&self) -> Result<Provided, SegmentError> {
        let mut next = self.next.lock();
        self.open_first()?;
        let kept_bytes = self.kept_bytes();
        {
            let mut spares = self.spares.lock();
            if spares.bytes() >= kept_bytes + self.segment_bytes {
                spares.room = Room::Enough;
                return Ok(Provided::Enough);
            }
        }
        let segment = self.prepare_next(&mut next)?;
        let spares = &mut self.spares.lock().segments;
        let before = spares.len();
        spares.push_back(Spare::of(segment, before));
        Ok(Provided::One)
    }

    /// Opens the spares that come next. A writer that takes one meanwhile opens it itself. The caller holds
    /// `next`, so that the writer cannot remove the one that is being opened.
    fn open_first(&self) -> Result<(), SegmentError> {
        loop {
            let closed = {
                let spares = self.spares.lock();
                let mut first = spares.segments.iter().take(SPARES_OPEN_MAX);
                first.find(|spare| spare.file.is_none()).map(|spare| spare.ordinal)
            };
            let Some(ordinal) = closed else { return Ok(()) };
            let opened = self.open_spare(ordinal);
            let file = opened.inspect_err(|error| self.note_shortage(error))?;
            let spares = &mut self.spares.lock().segments;
            if let Some(spare) = spares.iter_mut().find(|spare| spare.ordinal == ordinal) {
                spare.file = Some(file);
            }
        }
    }

    /// Notes that a spare could not be opened, for [`Segments::look`].
    fn note_shortage(&self, error: &SegmentError) {
        if error.is_passing() {
            self.spares.lock().room = Room::Short;
        }
    }

    /// A block found no room in a segment that is there in full: the file system writes copies. Writes it once
    /// more while no segment is being prepared, since what is being prepared may have taken the room. If that fails
    /// too, removes the last spare, so that what was kept becomes room, and writes again. Returns what the last
    /// write returned, or why the spare could not be removed for now.
    pub(crate) fn make_room(
        &self,
        write: impl Fn() -> io::Result<()>,
    ) -> Result<io::Result<()>, SegmentError> {
        let mut next = self.next.lock();
        let written = write();
        if !written.as_ref().is_err_and(is_full) {
            return Ok(written);
        }
        let removed = self.give_up_spare(&mut next);
        self.look();
        match removed {
            Ok(true) => Ok(write()),
            Ok(false) => Ok(written),
            Err(error) if error.is_full() => Ok(Err(error.source)),
            Err(error) if error.is_passing() => {
                self.shard.count_shortage();
                Ok(written)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the last spare; returns whether there was one.
    fn give_up_spare(&self, next: &mut Next) -> Result<bool, SegmentError> {
        // The removal before this one must be durable first: no gap may be left.
        self.sync_removed(next)?;
        let spare = {
            let mut spares = self.spares.lock();
            spares.room = Room::DiskFull;
            spares.segments.pop_back()
        };
        let Some(mut spare) = spare else { return Ok(false) };
        if let Err(error) = self.remove_from(spare.ordinal, next) {
            // The error does not tell that the file is still there. Opened again, it is.
            spare.file = None;
            self.spares.lock().segments.push_back(spare);
            return Err(error);
        }
        self.sync_removed(next)?;
        Ok(true)
    }

    /// Removes a spare. One that has its name and is no spare yet goes too, and first: no gap may be left.
    fn remove_from(&self, first: u64, next: &mut Next) -> Result<(), SegmentError> {
        (next.renamed, next.has_removed) = (None, true);
        for ordinal in (first..=next.ordinal).rev() {
            let path = self.name.path(ordinal);
            let removed = remove_if_there(self.storage.as_ref(), &path);
            removed.map_err(SegmentError::new("remove", path))?;
        }
        next.ordinal = first;
        Ok(())
    }

    fn sync_removed(&self, next: &mut Next) -> Result<(), SegmentError> {
        if next.has_removed {
            self.sync_names(next)?;
        }
        Ok(())
    }

    /// Makes the names in the folder durable. Only a sync that was not begun may be tried again.
    fn sync_names(&self, next: &mut Next) -> Result<(), SegmentError> {
        let failed = SegmentError::new("sync", self.name.folder.clone());
        if let Some(why) = &next.failed {
            return Err(failed(io::Error::other(why.clone())));
        }
        match self.storage.sync_folder(&self.name.folder) {
            Ok(()) => {
                next.has_removed = false;
                Ok(())
            }
            Err(error) if is_not_begun(&error) => Err(failed(error)),
            Err(error) => {
                next.failed = Some(error.to_string());
                Err(SegmentError { is_final: true, ..failed(error) })
            }
        }
    }

    /// Tells admission whether the room that must be kept is there or can be had.
    pub(crate) fn look(&self) {
        let spares = self.spares.lock();
        // A spare that the writer cannot open is of no use, nor are those after it.
        let is_stuck = spares.room == Room::Short
            && spares.segments.front().is_some_and(|spare| spare.file.is_none());
        let room = match is_stuck || spares.bytes() < self.kept_bytes() {
            true => spares.room,
            false => Room::Enough,
        };
        if self.shard.space.set(room) {
            self.shard.latch().bell().ring();
        }
    }

    /// The writer continues in a segment; `unsynced` is the one before, if it is not synced yet. It is noted first:
    /// [`Segments::sync_written`] then finds it here or there.
    pub(crate) fn turn_to(&self, segment: &Segment, unsynced: Option<Segment>) {
        self.unsynced.lock().extend(unsynced);
        *self.active.lock() = Some(segment.clone());
    }

    /// Whether more full segments wait to be synced than the keeper may leave open.
    pub(crate) fn has_many_unsynced(&self) -> bool {
        self.unsynced.lock().len() > UNSYNCED_MAX
    }

    /// Syncs what was left unsynced; a file that could not be synced is not tried again.
    pub(crate) fn sync_left(&self) -> Result<(), SegmentError> {
        let mut failed = self.syncing.lock();
        if let Some((kind, path)) = &*failed {
            return Err(SegmentError::new(SYNC_FULL, path.clone())((*kind).into()));
        }
        let left = std::mem::take(&mut *self.unsynced.lock());
        let synced = left.iter().try_for_each(|segment| self.sync(SYNC_FULL, segment));
        *failed = synced.as_ref().err().map(|error| (error.source.kind(), error.path.clone()));
        synced
    }

    fn sync(&self, operation: &'static str, segment: &Segment) -> Result<(), SegmentError> {
        let synced = segment.file.sync();
        synced.map_err(SegmentError::new(operation, self.name.path(segment.ordinal)))
    }

    /// Makes everything durable that was written before the call.
    pub(crate) fn sync_written(&self) -> Result<(), SegmentError> {
        let active = self.active.lock().clone();
        self.sync_left()?;
        active.map_or(Ok(()), |segment| self.sync("sync", &segment))
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

    /// The segment with the next ordinal: the oldest that is no longer needed, or a new one. On a full disk archived
    /// segments are used: orders matter more.
    fn prepare_next(&self, next: &mut Next) -> Result<Segment, SegmentError> {
        let prepared = self.rename_next(next).and_then(|()| self.keep_name(next));
        self.spares.lock().room = match &prepared {
            Err(error) if error.is_full() => Room::DiskFull,
            Err(error) if error.is_passing() => Room::Short,
            _ => Room::Enough,
        };
        prepared
    }

    /// Renames a segment to the next name, unless there is one that has it.
    fn rename_next(&self, next: &mut Next) -> Result<(), SegmentError> {
        if next.renamed.is_some() {
            return Ok(());
        }
        let recycled = self.recycle(next.ordinal, false).transpose();
        let mut renamed = recycled.unwrap_or_else(|| self.prepare(next.ordinal));
        if renamed.as_ref().is_err_and(SegmentError::is_full) {
            renamed = self.recycle(next.ordinal, true).transpose().unwrap_or(renamed);
        }
        next.renamed = Some(renamed?);
        Ok(())
    }

    /// Makes the name durable.
    fn keep_name(&self, next: &mut Next) -> Result<Segment, SegmentError> {
        if !mutants::is(Mutant::SkipsFolderSync) {
            self.sync_names(next)?;
        }
        let missing = || SegmentError::new("prepare", "")(io::ErrorKind::NotFound.into());
        let segment = next.renamed.take().ok_or_else(missing)?;
        next.ordinal += 1;
        Ok(segment)
    }

    /// `early`: even if it is archived.
    fn recycle(&self, ordinal: u64, early: bool) -> Result<Option<Segment>, SegmentError> {
        let mut unneeded = self.unneeded.lock();
        let Unneeded { ordinals, archive } = &mut *unneeded;
        let storage = self.storage.as_ref();
        if ordinals.is_empty() || (!early && archive.keeps_first(storage, &self.name, ordinals)) {
            return Ok(None);
        }
        let oldest = self.name.path(ordinals.start);
        let recycled = storage.open(&oldest, self.access).and_then(|file| {
            let bytes = file.len()?;
            storage.rename(&oldest, &self.name.path(ordinal))?;
            Ok(Segment { ordinal, file, bytes })
        });
        let recycled = recycled.map_err(SegmentError::new("recycle", oldest))?;
        ordinals.start += 1;
        self.shard.set_unneeded(ordinals.end - ordinals.start);
        self.shard.count_recycled(early);
        Ok(Some(recycled))
    }

    /// Makes a segment as the module's invariants say, up to its name. A part that could not be finished is
    /// removed.
    fn prepare(&self, ordinal: u64) -> Result<Segment, SegmentError> {
        let unfinished = self.name.prepare_path(ordinal);
        let storage = self.storage.as_ref();
        let error = |operation| SegmentError::new(operation, unfinished.clone());
        remove_if_there(storage, &unfinished).map_err(error("remove"))?;
        let filled = storage.create(&unfinished, self.access).and_then(|file| {
            fill(file.as_ref(), 0, self.segment_bytes)?;
            Ok(file)
        });
        let file = match filled {
            Ok(file) => file,
            Err(source) => {
                remove_if_there(storage, &unfinished).map_err(error("remove"))?;
                return Err(error("create")(source));
            }
        };
        let renamed = storage.rename(&unfinished, &self.name.path(ordinal));
        renamed.map_err(error("rename"))?;
        Ok(Segment { ordinal, file, bytes: self.segment_bytes })
    }
}

impl Spares {
    fn bytes(&self) -> u64 {
        self.segments.iter().map(|spare| spare.bytes).sum()
    }
}

/// What fails when a full segment is synced behind the writer.
const SYNC_FULL: &str = "sync of a full segment";

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

#[cfg(all(test, not(loom)))]
mod tests;
