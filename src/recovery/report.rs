//! What an open found, for its host: [`RecoveryReport`].

use crate::recovery::replay::ShardReplay;
use crate::storage::FileSystem;

/// What an open found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Records that were replayed.
    pub records: u64,
    /// Bytes of blocks that were read.
    pub block_bytes: u64,
    /// Blocks that were read.
    pub blocks: u64,
    /// Shards whose last write was torn by a crash, and cut off. A write that tore into a recycled segment cannot
    /// always be told from what the segment held before, and is not counted then.
    pub torn_shards: u16,
    /// Blocks that [`Options::cut_after_power_loss`](crate::Options::cut_after_power_loss) gave up.
    pub blocks_cut: u64,
    /// The number of the checkpoint that was loaded; `None`: the log was read from its beginning.
    pub checkpoint: Option<u64>,
    /// Orders in it.
    pub checkpoint_orders: u64,
    /// Newer checkpoints that were cut short or damaged. One before them, or the whole log, was used instead: nothing
    /// is lost, but look at the disk.
    pub checkpoints_damaged: u16,
    /// What is known about the file system. On one that writes copies instead of overwriting, the room that is kept
    /// for endings is less certain: see [`guide::durability`](crate::guide::durability#a-full-disk).
    pub file_system: FileSystem,
    /// Microseconds that it took to take the memory for the orders of the checkpoint, or for those of
    /// [`Options::orders_reserved`](crate::Options::orders_reserved), and to touch it.
    pub memory_us: u64,
    /// Microseconds that it took to load the checkpoint into that.
    pub checkpoint_us: u64,
    /// Microseconds that it took to read and replay the log.
    pub log_us: u64,
    /// Microseconds after that: what was read is made durable, and the tables get their deadlines.
    pub finish_us: u64,
}

pub(super) fn report_of(shards: &[ShardReplay]) -> RecoveryReport {
    RecoveryReport {
        records: shards.iter().map(|shard| shard.records).sum(),
        block_bytes: shards.iter().map(|shard| shard.block_bytes).sum(),
        blocks: shards.iter().map(|shard| shard.tail.mark.blocks - shard.first).sum(),
        torn_shards: shards.iter().filter(|shard| shard.tail.torn).count() as u16,
        blocks_cut: shards.iter().map(|shard| shard.blocks_cut).sum(),
        ..RecoveryReport::default()
    }
}
