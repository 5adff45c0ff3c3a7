//! How far the shards' logs may be believed together (rule R12: the vector is a dependency).

use crate::checkpoint::Head;
use crate::error::OpenError;
use crate::log::{
    BlockMark, Expected, LogPosition, Manifest, Reader, SegmentName, VectorEntry, hash_prefix,
};
use crate::recovery::folder::Folder;
use crate::recovery::replay::ShardReplay;
use crate::storage::Storage;

/// Refuses a folder in which a block names another shard's block that is not there, or is another
/// one. A shard's vectors only grow, so its last one says it all.
pub(super) fn check_vectors(
    folder: &Folder,
    manifest: &Manifest,
    shards: &[ShardReplay],
) -> Result<(), OpenError> {
    for witness in shards {
        for (shard, entry) in shards.iter().zip(&witness.last_vector) {
            if !named_block_is_there(shard, entry.blocks.get(), entry.hash_prefix.get()) {
                let who = format!("shard {}", witness.index);
                return Err(missing(folder, manifest, shard, &who, entry.blocks.get()));
            }
        }
    }
    Ok(())
}

/// Refuses a folder whose log does not reach as far as a checkpoint says that it was durable.
pub(super) fn check_ends(
    folder: &Folder,
    manifest: &Manifest,
    shards: &[ShardReplay],
    witnesses: &[Head],
) -> Result<(), OpenError> {
    for head in witnesses {
        for (shard, BlockMark { blocks, hash, .. }) in
            shards.iter().zip(head.shards.iter().map(|span| span.end))
        {
            if !named_block_is_there(shard, blocks, hash_prefix(&hash)) {
                let who = format!("checkpoint {}", head.number);
                return Err(missing(folder, manifest, shard, &who, blocks));
            }
        }
    }
    Ok(())
}

/// What lies before the first block that was read is known from the checkpoint.
fn named_block_is_there(shard: &ShardReplay, blocks: u64, hash_prefix: u64) -> bool {
    let Some(place) = blocks.checked_sub(shard.first + 1) else { return true };
    shard.hash_prefixes.get(place as usize) == Some(&hash_prefix)
}

fn missing(
    folder: &Folder,
    manifest: &Manifest,
    shard: &ShardReplay,
    who: &str,
    blocks: u64,
) -> OpenError {
    let (ordinal, offset) = shard.tail.end.unwrap_or((0, 0));
    let hint = match manifest.synced {
        true => "",
        false => "; after a loss of power, see `Options::cut_after_power_loss`",
    };
    let damage = format!(
        "{who} saw {blocks} durable blocks here, but {} are there or the last it saw is another{hint}",
        shard.tail.mark.blocks,
    );
    folder.corrupt_segment(shard.index, (ordinal, offset), damage)
}

/// A shard's blocks past the manifest's mark and the checkpoint's begin: what each of them names of
/// every shard.
pub(crate) struct Scanned {
    first: u64,
    hash_prefixes: Vec<u64>,
    vectors: Vec<Vec<VectorEntry>>,
    /// The number of the first block that was read, and where each block ends.
    pub(crate) first_read: u64,
    ends: Vec<LogPosition>,
}

impl Scanned {
    fn end(&self) -> u64 {
        self.first.max(self.first_read + self.ends.len() as u64)
    }

    /// Where `blocks` blocks end; `from`, if none of them was read.
    pub(crate) fn position(&self, blocks: u64, from: LogPosition) -> LogPosition {
        let last = blocks.checked_sub(self.first_read + 1);
        last.and_then(|last| self.ends.get(last as usize).copied()).unwrap_or(from)
    }
}

/// How many blocks of each shard belong to the greatest state in which every block that is named is
/// there: shards are cut, one block at a time, until none names what is cut.
pub(super) fn consistent_cut(
    folder: &Folder,
    manifest: &Manifest,
    from: &[LogPosition],
    files: &[Vec<u64>],
) -> Result<Vec<u64>, OpenError> {
    let storage = folder.storage();
    let scanned = (0..files.len())
        .map(|shard| {
            let expected = manifest.expected(shard as u16, true);
            scan(storage, expected, from[shard], files[shard].clone(), u64::MAX)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(greatest_cut(&scanned))
}

/// See [`consistent_cut`].
pub(crate) fn greatest_cut(scanned: &[Scanned]) -> Vec<u64> {
    let mut ends: Vec<u64> = scanned.iter().map(Scanned::end).collect();
    loop {
        let before = ends.clone();
        for (shard, blocks) in scanned.iter().enumerate() {
            while ends[shard] > blocks.first {
                let last = (ends[shard] - 1 - blocks.first) as usize;
                let holds = blocks.vectors[last]
                    .iter()
                    .enumerate()
                    .all(|(other, entry)| names_kept_block(&scanned[other], ends[other], entry));
                if holds {
                    break;
                }
                ends[shard] -= 1;
            }
        }
        if ends == before {
            return ends;
        }
    }
}

fn names_kept_block(shard: &Scanned, end: u64, entry: &VectorEntry) -> bool {
    let blocks = entry.blocks.get();
    if blocks <= shard.first {
        return true;
    }
    blocks <= end
        && shard.hash_prefixes[(blocks - 1 - shard.first) as usize] == entry.hash_prefix.get()
}

/// The blocks of a shard of a running engine up to where it stood; all of them must be there.
pub(crate) fn scan_durable(
    storage: &dyn Storage,
    manifest: &Manifest,
    shard: u16,
    from: LogPosition,
    stand: LogPosition,
) -> Result<Scanned, OpenError> {
    let ordinals = (from.ordinal..=stand.ordinal).collect();
    let BlockMark { blocks, hash, .. } = stand.mark;
    let expected = manifest.expected(shard, false);
    let scanned = scan(storage, expected, from, ordinals, blocks)?;
    let end = scanned.ends.last().copied().unwrap_or(from);
    if (end.mark.blocks, end.mark.hash) == (blocks, hash) {
        return Ok(scanned);
    }
    let read = end.mark.blocks;
    Err(OpenError::Corrupt {
        shard: Some(shard),
        path: storage.root().join(SegmentName::of_shard(shard).path(end.ordinal)),
        offset: end.offset,
        damage: format!("of {blocks} durable blocks only {read} can be read"),
    })
}

/// Reads a shard from a position on, to its end or up to `until` blocks.
fn scan(
    storage: &dyn Storage,
    expected: Expected,
    from: LogPosition,
    ordinals: Vec<u64>,
    until: u64,
) -> Result<Scanned, OpenError> {
    let mut reader = Reader::new(storage, expected, from, ordinals)?;
    let mut scanned = Scanned {
        first: expected.mark.blocks.max(from.mark.blocks),
        hash_prefixes: Vec::new(),
        vectors: Vec::new(),
        first_read: from.mark.blocks,
        ends: Vec::new(),
    };
    let mut blocks = from.mark.blocks;
    while blocks < until {
        let Some(block) = reader.next_block()? else { break };
        let mark = block.mark;
        blocks = mark.blocks;
        if block.number >= scanned.first {
            scanned.hash_prefixes.push(mark.hash_prefix());
            scanned.vectors.push(block.vector.to_vec());
        }
        let (ordinal, offset) = reader.place();
        scanned.ends.push(LogPosition { mark, ordinal, offset });
    }
    Ok(scanned)
}
