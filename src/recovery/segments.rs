//! Which segments a folder has, and whether they are what their names say.
//!
//! The [`Reader`](crate::log::Reader) judges what an open reads. The segments before that are not read, because a
//! checkpoint holds what is in them. But the older checkpoint needs some of them, and the others are renamed one by
//! one, the oldest first, as room is needed. So all names from the oldest on must be there: recycling leaves no gap
//! wherever it was cut short, because it renames the oldest to the next name in one step; a backup begins with the
//! segment in which its only checkpoint begins.
//!
//! Where the first block of such a segment can be read, it must be of this log and follow those of the segments
//! before it. A first block that is damaged, or was never overwritten by a disk that said so, or belongs after the
//! checkpoints, loses nothing as long as the newest checkpoint is whole.

use std::io;

use crate::checkpoint::Head;
use crate::error::OpenError;
use crate::log::{LogPosition, Manifest, SegmentName, first_block, ordinals};
use crate::recovery::folder::Folder;
use crate::recovery::progress::Progress;
use crate::storage::Access;

/// Returns the manifest of a folder in which an engine was made, and the ordinals of its segments.
pub(super) fn look_at(folder: &Folder) -> Result<(Manifest, Vec<Vec<u64>>), OpenError> {
    let manifest = folder.manifest()?;
    let files = list(folder, &manifest)?;
    Ok((manifest, files))
}

/// The ordinals of each shard's segments.
pub(super) fn list(folder: &Folder, manifest: &Manifest) -> Result<Vec<Vec<u64>>, OpenError> {
    (0..manifest.shards.len() as u16)
        .map(|shard| {
            let name = SegmentName::of_shard(shard).folder;
            let names = match folder.storage().list(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let damage = "the shard's folder is missing";
                    return Err(folder.corrupt(Some(shard), &name, 0, damage));
                }
                listed => listed.map_err(|error| folder.io("list", &name, error))?,
            };
            let path = folder.path(&name);
            let found = ordinals(&names).map_err(|found| OpenError::NotAnEngine { path, found })?;
            match found.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
                Some(pair) => {
                    Err(folder.corrupt_segment(shard, (pair[0] + 1, 0), "the segment is missing"))
                }
                None => Ok(found),
            }
        })
        .collect()
}

/// Whether the log is there from its beginning on.
pub(super) fn go_back(files: &[Vec<u64>]) -> bool {
    files.iter().all(|ordinals| ordinals.first().is_none_or(|first| *first == 0))
}

/// Whether the log behind a checkpoint is there, as far as names tell; else what is missing first.
pub(super) fn missing_of(head: &Head, files: &[Vec<u64>]) -> Option<(u16, u64)> {
    let begins = (0_u16..).zip(&head.shards).map(|(shard, span)| (shard, span.begin.ordinal));
    begins.zip(files).find_map(|((shard, begin), ordinals)| {
        ordinals.first().is_some_and(|first| *first > begin).then_some((shard, begin))
    })
}

/// Looks at the segments that are not read through, since the first of these checkpoints is used; the
/// second is the one that an open would fall back to.
pub(super) fn check_unread(
    folder: &Folder,
    manifest: &Manifest,
    files: &[Vec<u64>],
    kept: &[&Head],
) -> Result<(), OpenError> {
    for head in kept {
        if let Some((shard, ordinal)) = missing_of(head, files) {
            let damage = format!("the segment is missing; checkpoint {} needs it", head.number);
            return Err(folder.corrupt_segment(shard, (ordinal, 0), damage));
        }
    }
    (0_u16..).zip(files).try_for_each(|(shard, ordinals)| {
        let begins: Vec<_> =
            kept.iter().map(|head| (head.number, head.shards[usize::from(shard)].begin)).collect();
        check_first_blocks(folder, manifest, shard, ordinals, &begins)
    })
}

fn check_first_blocks(
    folder: &Folder,
    manifest: &Manifest,
    shard: u16,
    ordinals: &[u64],
    begins: &[(u64, LogPosition)],
) -> Result<(), OpenError> {
    let expected = manifest.expected(shard, false);
    let lies_before =
        |ordinal, at: &LogPosition| ordinal < at.ordinal || ordinal == at.ordinal && at.offset > 0;
    // No checkpoint needs blocks before this one; an earlier life of a segment has only such.
    let needed = begins.last().map_or(0, |(_, begin)| begin.mark.blocks);
    let mut last: Option<(u64, u32)> = None;
    for ordinal in ordinals.iter().copied() {
        let mut behind = begins.iter().filter(|(_, at)| lies_before(ordinal, at)).peekable();
        if behind.peek().is_none() {
            break;
        }
        let Some((number, epoch)) = first_block(folder.storage(), &expected, ordinal)? else {
            continue;
        };
        // It strayed here, or is of an older open that was cut off and whose overwriting was lost: nothing is lost
        // either. Where it belongs, the reader misses it.
        let strayed = |(_, at): &(u64, LogPosition)| {
            epoch > at.mark.epoch || epoch == at.mark.epoch && number >= at.mark.blocks
        };
        if behind.any(strayed) {
            continue;
        }
        if number < needed {
            continue;
        }
        if let Some((before, before_epoch)) = last
            && number <= before
            && epoch <= before_epoch
        {
            let damage = format!("block {number} is in a segment behind that of block {before}");
            return Err(folder.corrupt_segment(shard, (ordinal, 0), damage));
        }
        last = Some((number, epoch));
    }
    Ok(())
}

/// Reports to the host how much an open reads that begins with this checkpoint: all of it, and of the log at most the
/// segments from its begin on.
pub(super) fn expect(
    folder: &Folder,
    head: Option<&Head>,
    files: &[Vec<u64>],
    progress: &Progress,
) -> Result<(), OpenError> {
    if !progress.is_asked_for() {
        return Ok(());
    }
    let from = Head::begins(head, files.len());
    let mut all_bytes = head.map_or(0, |head| head.file_bytes);
    for (shard, (from, ordinals)) in from.iter().zip(files).enumerate() {
        let name = SegmentName::of_shard(shard as u16);
        for ordinal in ordinals.iter().filter(|ordinal| **ordinal >= from.ordinal) {
            let path = name.path(*ordinal);
            let file = folder.storage().open(&path, Access::Cached);
            let bytes = file
                .and_then(|file| file.len())
                .map_err(|error| folder.io("measure", &path, error))?;
            all_bytes += bytes;
        }
    }
    progress.expect(all_bytes);
    Ok(())
}
