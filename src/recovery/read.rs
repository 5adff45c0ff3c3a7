//! Reads and replays the log, all shards side by side.

use crate::error::OpenError;
use crate::log::{LogPosition, Manifest, Reader};
use crate::mutants::{self, Mutant};
use crate::recovery::checkpoint::Start;
use crate::recovery::cut;
use crate::recovery::folder::Folder;
use crate::recovery::parallel::{join, start};
use crate::recovery::progress::Progress;
use crate::recovery::replay::{Replay, ShardReplay};
use crate::recovery::tables::States;

/// The log of a folder.
pub(super) struct Log<'a> {
    pub(super) folder: &'a Folder,
    pub(super) manifest: &'a Manifest,
    /// The ordinals of each shard's segments.
    pub(super) files: &'a [Vec<u64>],
    /// Everything on the calling thread.
    pub(super) is_single_threaded: bool,
}

impl Log<'_> {
    /// Reads and replays the log after the checkpoint. Checks that no block is missing that another shard or a
    /// checkpoint names. With `cuts` a log that was only written, and not synced, is cut back to a consistent state
    /// instead.
    pub(super) fn read(
        &self,
        start: &Start,
        cuts: bool,
        progress: &Progress,
    ) -> Result<Vec<ShardReplay>, OpenError> {
        let Self { folder, manifest, files, .. } = *self;
        let from = start.positions(files.len());
        let limits = match cuts && !manifest.synced {
            true => Some(cut::consistent_cut(folder, manifest, &from, files)?),
            false => None,
        };
        let shards =
            self.replay(&start.replay, &start.states, &from, limits.as_deref(), progress)?;
        if limits.is_none() && !mutants::is(Mutant::IgnoresNeighbours) {
            cut::check_vectors(folder, manifest, &shards)?;
        }
        cut::check_ends(folder, manifest, &shards, &start.witnesses)?;
        Ok(shards)
    }

    /// Replays all shards, each on a thread of its own, up to `limits` blocks if given. Of several errors the first in
    /// the order of shards counts.
    pub(super) fn replay(
        &self,
        replay: &Replay,
        states: &impl States,
        from: &[LogPosition],
        limits: Option<&[u64]>,
        progress: &Progress,
    ) -> Result<Vec<ShardReplay>, OpenError> {
        let Self { folder, manifest, files, is_single_threaded } = *self;
        let one = |shard: usize| {
            let expected = manifest.expected(shard as u16, limits.is_some());
            let from = from[shard];
            let reader = Reader::new(folder.storage(), expected, from, files[shard].clone())?;
            let limit = limits.map(|limits| limits[shard]);
            replay.shard(states, shard as u16, from.mark.blocks, reader, limit, progress)
        };
        if is_single_threaded || files.len() == 1 {
            return (0..files.len()).map(one).collect();
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..files.len()).map(|shard| start(scope, move || one(shard))).collect();
            (0..)
                .zip(threads)
                .map(|(shard, thread)| thread.map_or_else(|| one(shard), join))
                .collect()
        })
    }
}
