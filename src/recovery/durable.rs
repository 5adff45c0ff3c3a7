//! What was read becomes durable before anything is served (rule R11: whole is not durable).

use std::io;

use crate::checkpoint::{CHECKPOINT_FOLDER, PREPARE_PATH};
use crate::clock::TimeMark;
use crate::error::OpenError;
use crate::ids::SEQUENCE_END;
use crate::log::{BlockMark, LogPosition};
use crate::log::{FoundSegments, Manifest, Segment, SegmentName, Spare, TailState, is_unfinished};
use crate::mutants::{self, Mutant};
use crate::recovery::checkpoint::CheckpointsFound;
use crate::recovery::folder::Folder;
use crate::recovery::replay::ShardReplay;
use crate::storage::{ALIGN_BYTES, AlignedBuffer, remove_if_there};

/// Where a shard's writer goes on.
pub(crate) struct RecoveredShard {
    pub(crate) mark: BlockMark,
    pub(crate) active: Option<(Segment, u64)>,
    pub(crate) found: FoundSegments,
}

impl RecoveredShard {
    /// Where the log goes on.
    pub(crate) fn position(&self) -> LogPosition {
        let (ordinal, offset) =
            self.active.as_ref().map_or((0, 0), |(segment, at)| (segment.ordinal, *at));
        LogPosition { mark: self.mark, ordinal, offset }
    }
}

/// What the manifest says of the life that begins with this open.
pub(super) struct NextLife {
    /// No partition has given out this sequence of order ids, or a higher one.
    pub(super) sequence: u64,
    pub(super) ids_reserved: u64,
    pub(super) time: TimeMark,
    pub(super) synced: bool,
}

/// Makes every shard's end durable, then what the next open must know of it. Returns where the writers continue.
pub(super) fn make_durable(
    folder: &Folder,
    manifest: &Manifest,
    shards: &[ShardReplay],
    files: &[Vec<u64>],
    found: &CheckpointsFound,
    next: &NextLife,
) -> Result<(Vec<RecoveredShard>, Manifest), OpenError> {
    let mut writers = Vec::new();
    for (shard, ordinals) in shards.iter().zip(files) {
        let needed = found.needed_ordinal(usize::from(shard.index));
        writers.push(end_durably(folder, shard.index, &shard.tail, ordinals, needed)?);
    }
    if found.next_number > 0 {
        tidy_checkpoints(folder)?;
    }
    Ok((writers, next_manifest(folder, manifest, shards, next)?))
}

/// Leaves everything as it was read: no writer continues.
pub(super) fn leave(
    manifest: &Manifest,
    shards: &[ShardReplay],
) -> (Vec<RecoveredShard>, Manifest) {
    let shards = shards.iter().map(|shard| RecoveredShard {
        mark: shard.tail.mark,
        active: None,
        found: FoundSegments { spares: Vec::new(), oldest_ordinal: 0, next_ordinal: 0 },
    });
    (shards.collect(), manifest.clone())
}

/// Makes a shard's end durable: what stands behind it is blanked, every file that a checkpoint may need
/// and the folder are synced. A file that does not bypass the page cache is written anew where it matters,
/// since a sync would not write pages that a failed sync left clean.
fn end_durably(
    folder: &Folder,
    shard: u16,
    tail: &TailState,
    ordinals: &[u64],
    needed_ordinal: u64,
) -> Result<RecoveredShard, OpenError> {
    let (storage, name) = (folder.storage(), SegmentName::of_shard(shard));
    let (mut active, mut spares) = (None, Vec::new());
    for ordinal in ordinals.iter().filter(|ordinal| **ordinal >= needed_ordinal) {
        let path = name.path(*ordinal);
        let io = |operation, error| folder.io(operation, &path, error);
        let file = storage.open(&path, folder.access).map_err(|error| io("open", error))?;
        if !file.is_direct() && tail.end.is_some_and(|(last, _)| last == *ordinal) {
            let end = tail.end.map_or(0, |(_, end)| end);
            rewrite(file.as_ref(), end).map_err(|error| io("rewrite", error))?;
        }
        if let Some((_, end)) = tail.end.filter(|(last, _)| last == ordinal)
            && tail.must_blank
        {
            let blank = AlignedBuffer::zeroed(ALIGN_BYTES);
            file.write_durable(&blank, end).map_err(|error| io("blank the end of", error))?;
        }
        if !mutants::is(Mutant::ServesUnsynced) {
            file.sync().map_err(|error| io("sync", error))?;
        }
        // Of those before the end no handle is kept: there may be many.
        if tail.end.is_none_or(|(last, _)| last <= *ordinal) {
            let bytes = file.len().map_err(|error| io("measure", error))?;
            let segment = Segment { ordinal: *ordinal, file, bytes };
            match tail.end {
                Some((last, end)) if last == *ordinal => active = Some((segment, end)),
                _ => spares.push(Spare::of(segment, spares.len())),
            }
        }
    }
    let name = name.folder;
    // It may have taken the last room, and the manifest needs some.
    let names = storage.list(&name).map_err(|error| folder.io("list", &name, error))?;
    for unfinished in names.iter().filter(|name| is_unfinished(name)) {
        let path = format!("{name}/{unfinished}");
        storage.remove(&path).map_err(|error| folder.io("remove", &path, error))?;
    }
    storage.sync_folder(&name).map_err(|error| folder.io("sync", &name, error))?;
    let found = FoundSegments {
        spares,
        oldest_ordinal: ordinals.first().copied().unwrap_or(0),
        next_ordinal: ordinals.last().map_or(0, |last| last + 1),
    };
    Ok(RecoveredShard { mark: tail.mark, active, found })
}

fn rewrite(file: &dyn crate::storage::StorageFile, end: u64) -> io::Result<()> {
    let mut part = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < end {
        let wanted = part.len().min((end - offset) as usize);
        let read = file.read_at(&mut part[..wanted], offset)?;
        if read == 0 {
            return Ok(());
        }
        file.write_at(&part[..read], offset)?;
        offset += read as u64;
    }
    Ok(())
}

/// Removes what is left of a checkpoint that was not finished, and makes the names of the others durable.
fn tidy_checkpoints(folder: &Folder) -> Result<(), OpenError> {
    let storage = folder.storage();
    let tidied = remove_if_there(storage, PREPARE_PATH)
        .and_then(|()| storage.sync_folder(CHECKPOINT_FOLDER));
    tidied.map_err(|error| folder.io("tidy", CHECKPOINT_FOLDER, error))
}

fn next_manifest(
    folder: &Folder,
    manifest: &Manifest,
    shards: &[ShardReplay],
    next: &NextLife,
) -> Result<Manifest, OpenError> {
    let next_sequence = next.sequence;
    let next_manifest = Manifest {
        epoch: manifest.epoch + 1,
        born: true,
        synced: next.synced,
        // Above the end only where an earlier version went there: what was given stays below the floor.
        sequence_floor: next_sequence.max((next_sequence + next.ids_reserved).min(SEQUENCE_END)),
        time: next.time,
        shards: shards.iter().map(|shard| shard.tail.mark).collect(),
        ..manifest.clone()
    };
    next_manifest.write(folder.storage())?;
    Ok(next_manifest)
}
