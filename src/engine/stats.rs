//! [`Stats`]: counters and gauges.

use crate::engine::core::Core;
use crate::stock::Sku;
use crate::sync::Ordering;

/// What an engine holds, and what it has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Stats {
    /// Orders in memory.
    pub orders: u64,
    /// Orders in memory that can still end: held or confirmed.
    pub live_orders: u64,
    /// Orders that stand in a waiting list, those included that are leaving it.
    pub waiting: u64,
    /// SKUs.
    pub skus: u64,
    /// Orders placed.
    pub placed: u64,
    /// Repeats answered with the first outcome.
    pub replayed: u64,
    /// Repeats with other content.
    pub keys_reused: u64,
    /// Sold-out answers that took the partition's lock. Those told without it are not counted: a
    /// refusal then writes nothing that other threads read.
    pub sold_out_locked: u64,
    /// Orders refused because of a buyer limit.
    pub over_limit: u64,
    /// Orders confirmed.
    pub confirmed: u64,
    /// Orders fulfilled.
    pub fulfilled: u64,
    /// Orders cancelled.
    pub cancelled: u64,
    /// Holds that expired, and orders whose patience did.
    pub expired: u64,
    /// Orders that were served from a waiting list.
    pub promoted: u64,
    /// Finished orders that left memory.
    pub retired: u64,
    /// Pairs of buyer and SKU that are counted for buyer limits.
    pub buyers_tracked: u64,
    /// Bytes set aside for orders, in use or not, without carts and payloads.
    pub order_table_bytes: u64,
    /// Bytes of records that wait for the disk.
    pub backlog_bytes: u64,
    /// Blocks written; each was one write and, under
    /// [`Durability::Synced`](crate::Durability::Synced), one sync.
    pub blocks: u64,
    /// Records written.
    pub records: u64,
    /// Bytes of these records.
    pub record_bytes: u64,
    /// Bytes of the blocks: records, headers and padding.
    pub block_bytes: u64,
    /// Log segments that were used again instead of being made anew.
    pub segments_recycled: u64,
    /// Log segments that no checkpoint needs: archived ones
    /// ([`Options::log_retention`](crate::Options::log_retention)), and those to be recycled next.
    pub segments_archived: u64,
    /// Archived log segments that were recycled before their time, for the disk was full.
    pub segments_recycled_early: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Checkpoints that could not be taken: the disk has no room, or a call failed.
    pub checkpoints_failed: u64,
}

pub(super) fn collect(core: &Core) -> Stats {
    let mut stats = Stats { skus: u64::from(core.skus.len()), ..Stats::default() };
    for partition in &core.partitions {
        let state = partition.state.lock();
        let counts = state.counts;
        stats.orders += state.orders.len();
        stats.live_orders += state.live();
        stats.placed += state.orders.len() + counts.retired - counts.replayed_at_open;
        stats.replayed += counts.replayed;
        stats.keys_reused += counts.keys_reused;
        stats.sold_out_locked += counts.sold_out;
        stats.over_limit += counts.over_limit;
        stats.confirmed += counts.confirmed;
        stats.fulfilled += counts.fulfilled;
        stats.cancelled += counts.cancelled;
        stats.expired += counts.expired;
        stats.promoted += counts.promoted;
        stats.retired += counts.retired;
        stats.buyers_tracked += state.limits.len() as u64;
        stats.order_table_bytes += state.orders.memory_bytes();
    }
    let lists = core.skus.iter().filter_map(Sku::list);
    stats.waiting = lists.map(|list| list.lock().len()).sum();
    stats.backlog_bytes = core.lanes.iter().map(|lane| lane.backlog_bytes()).sum();
    for counters in &core.counters {
        stats.blocks += counters.blocks.load(Ordering::Relaxed);
        stats.records += counters.records.load(Ordering::Relaxed);
        stats.record_bytes += counters.record_bytes.load(Ordering::Relaxed);
        stats.block_bytes += counters.written_bytes.load(Ordering::Relaxed);
    }
    stats.segments_recycled = core.shards.iter().map(|shard| shard.recycled()).sum();
    stats.segments_archived = core.shards.iter().map(|shard| shard.unneeded()).sum();
    stats.segments_recycled_early = core.shards.iter().map(|shard| shard.recycled_early()).sum();
    stats.checkpoints = core.checkpoint_counts.taken.load(Ordering::Relaxed);
    stats.checkpoints_failed = core.checkpoint_counts.failed.load(Ordering::Relaxed);
    stats
}
