//! What all verbs share.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::bounds::Bounds;
use crate::checkpoint::CheckpointRequests;
use crate::clock::EngineTime;
use crate::engine::id_ceiling::IdCeiling;
use crate::error::{Capacity, OrderError, Unavailable, at_capacity};
use crate::ids::{MerchantId, OrderId, SkuId};
use crate::log::{Activity, Lane, Latch, Manifest, Marks, Shard, WriterCounters};
use crate::order::Order;
use crate::partition::{KeyHasher, Partition, PartitionState};
use crate::recovery::RecoveryReport;
use crate::routing::{SWITCH_SHARD, home_shard, merchant_shard};
use crate::stock::{Promotions, Registry, Sku, Switches};
use crate::storage::{Storage, StorageLock};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::wakes::Wakes;

pub(crate) struct Core {
    pub(crate) folder: PathBuf,
    pub(crate) bounds: Bounds,
    pub(crate) partitions: Box<[CachePadded<Partition>]>,
    /// Of the partitions, then one for each shard's SKUs.
    pub(crate) lanes: Arc<[Arc<Lane>]>,
    pub(crate) shards: Box<[Arc<Shard>]>,
    pub(crate) skus: Arc<Registry>,
    pub(crate) switches: Arc<Switches>,
    pub(crate) hasher: KeyHasher,
    pub(crate) time: Arc<EngineTime>,
    pub(crate) latch: Arc<Latch>,
    pub(crate) report: RecoveryReport,
    pub(crate) counters: Box<[Arc<WriterCounters>]>,
    /// Wakes the helper threads.
    pub(crate) activity: Arc<Activity>,
    /// A partition's share of the orders.
    pub(crate) orders_max: u64,
    pub(crate) ids: IdCeiling,
    pub(crate) skus_max: usize,
    /// A checkpoint is taken after this many log bytes.
    pub(crate) checkpoint_bytes: u64,
    pub(crate) checkpoint_requests: CheckpointRequests,
    pub(crate) checkpoint_counts: CheckpointCounts,
    /// Held while segments are released and checkpoints removed, which is left to the next checkpoint
    /// while a backup runs.
    pub(crate) backups: Mutex<RunningBackups>,
    /// No order leaves memory while a checkpoint is copied. Written by the checkpointer, read under a
    /// partition's lock.
    pub(crate) retirement_paused: AtomicBool,
    /// A partition's share of the buyers that are counted for limits.
    pub(crate) buyers_tracked_max: u64,
    /// New verbs are refused. Set before every partition's and SKU's lock is passed once; checked
    /// under those locks, so that nothing is appended after that.
    pub(super) closing: AtomicBool,
    /// It was closing from the start.
    pub(super) is_read_only: bool,
    /// Requests that were answered `Contended`.
    pub(crate) contended: AtomicU64,
    /// Passes over all partitions on behalf of a SKU, one at a time.
    pub(crate) passing: Mutex<()>,
    pub(crate) promotions: Arc<Promotions>,
    /// Wakers of all but commits.
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) manifest: Manifest,
    pub(crate) marks: Arc<Marks>,
    /// Released at the end of a close, by every writer when it ends, and by every backup.
    pub(super) lock: Mutex<Option<Arc<dyn StorageLock>>>,
    /// Whether the folder's path led elsewhere when it was last looked at. Nothing depends on it.
    pub(super) displaced: AtomicBool,
}

/// What backups and the checkpointer settle with each other.
#[derive(Debug, Default)]
pub(crate) struct RunningBackups {
    /// How many backups run.
    pub(crate) running: u32,
    /// The newest checkpoint that is known to be whole.
    pub(crate) newest: Option<u64>,
}

/// Since the open.
#[derive(Debug, Default)]
pub(crate) struct CheckpointCounts {
    pub(crate) taken: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Core {
    /// The caller holds the lock of the partition or SKU that it is about to change.
    pub(crate) fn check_open(&self) -> Result<(), Unavailable> {
        if self.closing.load(Ordering::Acquire) {
            return Err(self.why_closed());
        }
        self.latch.check()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Why a verb is refused that finds the engine closing.
    pub(crate) fn why_closed(&self) -> Unavailable {
        if self.is_read_only { Unavailable::ReadOnly } else { Unavailable::Closed }
    }

    /// Whether the engine's threads are in this process: asked before a call that waits for them.
    pub(crate) fn check_process(&self) -> Result<(), Unavailable> {
        if self.latch.is_in_forked_child() { Err(Unavailable::Forked) } else { Ok(()) }
    }

    /// Whether a SKU's own record of `bytes` bytes may be appended to its lane; see [`check_open`](Self::check_open)
    /// on when to ask.
    pub(crate) fn check_room(&self, lane: &Lane, bytes: usize) -> Result<(), Unavailable> {
        self.check_open()?;
        lane.room_for_new(bytes)?;
        lane.check_disk()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The partition that gave an id.
    pub(crate) fn partition_of_order(&self, order: OrderId) -> Result<&Partition, OrderError> {
        let partition = self.partitions.get(order.partition());
        partition.map(|padded| &**padded).ok_or(OrderError::UnknownOrder { order })
    }

    /// The SKU, if stock was ever set for it.
    #[inline]
    pub(crate) fn known_sku(&self, id: SkuId) -> Option<&Sku> {
        self.skus.find(id).filter(|sku| sku.is_known())
    }

    /// The SKU of an order of one line, if it is known.
    #[inline]
    pub(crate) fn known_sku_of(&self, order: &Order) -> Option<&Sku> {
        match order.lines() {
            [line] => self.known_sku(line.sku),
            _ => None,
        }
    }

    /// Where a SKU's own records go.
    pub(crate) fn home_lane(&self, sku: SkuId) -> &Arc<Lane> {
        let shard = home_shard(sku, self.shards.len() as u16);
        &self.lanes[self.partitions.len() + usize::from(shard)]
    }

    /// Where a merchant's records go.
    pub(crate) fn merchant_lane(&self, merchant: MerchantId) -> &Arc<Lane> {
        let shard = merchant_shard(merchant, self.shards.len() as u16);
        &self.lanes[self.partitions.len() + usize::from(shard)]
    }

    /// Where the records of the engine's switch go.
    pub(crate) fn switch_lane(&self) -> &Arc<Lane> {
        &self.lanes[self.partitions.len() + usize::from(SWITCH_SHARD)]
    }

    /// The lanes of the SKUs' own records, one a shard.
    pub(crate) fn sku_lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes[self.partitions.len()..].iter().map(|lane| &**lane)
    }

    /// Whether a partition takes another order.
    pub(crate) fn check_orders(&self, state: &PartitionState) -> Result<(), Unavailable> {
        if state.orders.len() >= self.orders_max {
            return Err(at_capacity(Capacity::Orders, self.orders_max));
        }
        self.ids.check(state.orders.next_sequence())
    }

    /// Reserves more order ids, if a request asked for some; whether that was tried and failed.
    pub(crate) fn reserve_ids(&self) -> bool {
        if !self.ids.is_asked() {
            return false;
        }
        let _replacing = self.ids.replacing.lock();
        if self.check_open().is_err() {
            return false;
        }
        self.ids.raise(&self.manifest, self.storage.as_ref()).is_err()
    }

    /// Keeps the folder from others until it is dropped, even if the engine is closed meanwhile. `None`:
    /// the engine is closed.
    pub(crate) fn share_folder(&self) -> Option<Arc<dyn StorageLock>> {
        self.lock.lock().clone()
    }

    /// Looks where the folder's path leads now. The engine works in the folder that was opened, wherever
    /// the path leads; but the next open will follow the path.
    pub(crate) fn look_at_place(&self) {
        // An error proves nothing.
        if let Ok(is_in_place) = self.storage.is_in_place() {
            self.displaced.store(!is_in_place, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_displaced(&self) -> bool {
        self.displaced.load(Ordering::Relaxed)
    }
}
