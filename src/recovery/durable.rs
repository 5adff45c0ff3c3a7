//! What was read becomes durable before anything is served (rule R11: whole is not durable).

use std::io;

use crate::checkpoint::{CHECKPOINT_FOLDER, PREPARE_PATH};
use crate::clock::TimeMark;
use crate::error::OpenError;
use crate::ids::SEQUENCE_END;
use crate::log::{FoundSegments, Manifest, Segment, SegmentName, Spare, TailState, is_unfinished};
use crate::mutants::{self, Mutant};
use crate::options::{Durability, Options};
use crate::recovery::replay::ShardReplay;
use crate::recovery::{CheckpointsFound, RecoveredShard};
use crate::storage::{ALIGN_BYTES, AlignedBuffer, remove_if_there};

/// Makes every shard's end durable, then what the next open must know of it; gives where the writers go
/// on. Ids from `next_sequence` on were never given.
pub(super) fn make_durable(
    options: &Options,
    manifest: &Manifest,
    shards: &[ShardReplay],
    files: &[Vec<u64>],
    found: &CheckpointsFound,
    (next_sequence, time): (u64, TimeMark),
) -> Result<(Vec<RecoveredShard>, Manifest), OpenError> {
    let mut writers = Vec::new();
    for (shard, ordinals) in shards.iter().zip(files) {
        let needed = found.needed_ordinal(usize::from(shard.index));
        writers.push(end_durably(options, shard.index, &shard.tail, ordinals, needed)?);
    }
    if found.next_number > 0 {
        tidy_checkpoints(options)?;
    }
    Ok((writers, next_manifest(options, manifest, shards, next_sequence, time)?))
}

/// Leaves everything as it was read: nobody writes on.
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
    options: &Options,
    shard: u16,
    tail: &TailState,
    ordinals: &[u64],
    needed_ordinal: u64,
) -> Result<RecoveredShard, OpenError> {
    let (storage, name) = (options.storage.as_ref(), SegmentName::of_shard(shard));
    let (mut active, mut spares) = (None, Vec::new());
    for ordinal in ordinals.iter().filter(|ordinal| **ordinal >= needed_ordinal) {
        let path = name.path(*ordinal);
        let io = |operation, error| OpenError::io(operation, options.folder().join(&path), error);
        let file = storage.open(&path, options.log_access()).map_err(|error| io("open", error))?;
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
    let folder = options.folder().join(&name.folder);
    // It may have taken the last room, and the manifest needs some.
    let names =
        storage.list(&name.folder).map_err(|error| OpenError::io("list", &folder, error))?;
    for unfinished in names.iter().filter(|name| is_unfinished(name)) {
        let removed = storage.remove(&format!("{}/{unfinished}", name.folder));
        removed.map_err(|error| OpenError::io("remove", folder.join(unfinished), error))?;
    }
    storage.sync_folder(&name.folder).map_err(|error| OpenError::io("sync", folder, error))?;
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
fn tidy_checkpoints(options: &Options) -> Result<(), OpenError> {
    let storage = options.storage.as_ref();
    let tidied = remove_if_there(storage, PREPARE_PATH)
        .and_then(|()| storage.sync_folder(CHECKPOINT_FOLDER));
    let path = options.folder().join(CHECKPOINT_FOLDER);
    tidied.map_err(|error| OpenError::io("tidy", path, error))
}

fn next_manifest(
    options: &Options,
    manifest: &Manifest,
    shards: &[ShardReplay],
    next_sequence: u64,
    time: TimeMark,
) -> Result<Manifest, OpenError> {
    let next_manifest = Manifest {
        epoch: manifest.epoch + 1,
        born: true,
        synced: options.durability == Durability::Synced,
        // Above the end only where an earlier version went there: what was given stays below the floor.
        sequence_floor: next_sequence.max((next_sequence + options.ids_reserved).min(SEQUENCE_END)),
        time,
        shards: shards.iter().map(|shard| shard.tail.mark).collect(),
        ..manifest.clone()
    };
    next_manifest.write(options.storage.as_ref())?;
    Ok(next_manifest)
}
