//! Looks at the log from before the oldest checkpoint, which no open reads: archived segments, and those
//! that are not recycled yet.

use crate::checkpoint::{CheckpointFile, Head};
use crate::error::OpenError;
use crate::log::{LogPosition, Manifest, Reader};
use crate::recovery::folder::Folder;

/// Reads all blocks from before a checkpoint that are still there; how many segments and blocks they are.
/// Without a checkpoint there are none: then all of the log counts.
pub(super) fn check(
    folder: &Folder,
    manifest: &Manifest,
    files: &[Vec<u64>],
    oldest: Option<&CheckpointFile>,
) -> Result<(u64, u64), OpenError> {
    let begins = Head::begins(oldest.map(|file| &file.head), files.len());
    let (mut segments, mut blocks) = (0, 0);
    for (shard, (begin, ordinals)) in begins.iter().zip(files).enumerate() {
        let archived = ordinals.iter().filter(|ordinal| **ordinal < begin.ordinal).count() as u64;
        if archived > 0 {
            segments += archived;
            blocks += check_shard(folder, manifest, shard as u16, ordinals, begin)?;
        }
    }
    Ok((segments, blocks))
}

fn check_shard(
    folder: &Folder,
    manifest: &Manifest,
    shard: u16,
    ordinals: &[u64],
    begin: &LogPosition,
) -> Result<u64, OpenError> {
    let expected = manifest.expected(shard, false);
    let ordinals = ordinals.iter().copied().filter(|ordinal| *ordinal <= begin.ordinal).collect();
    let mut reader = Reader::from_oldest(folder.storage(), expected, ordinals)?;
    let mut blocks = 0;
    loop {
        let next = reader.next_block()?.map(|block| block.mark);
        blocks += u64::from(next.is_some());
        match next {
            Some(mark) if mark == begin.mark => return Ok(blocks),
            Some(mark) if mark.blocks < begin.mark.blocks => {}
            _ => {
                let damage = "the log before the oldest checkpoint does not lead up to it";
                return Err(reader.corrupt(damage.into()));
            }
        }
    }
}
