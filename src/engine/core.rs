//! What all verbs share.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::checkpoint::Desk;
use crate::clock::EngineTime;
use crate::engine::backup::BackupDesk;
use crate::engine::id_ceiling::IdCeiling;
use crate::engine::sale;
use crate::engine::threads::{Parts, WriterParts};
use crate::engine::waiting;
use crate::error::{Capacity, OpenError, OrderError, Unavailable};
use crate::ids::{MerchantId, OrderId, SkuId};
use crate::log::{
    Activity, Archive, Effect, EffectKind, Identity, Lane, Latch, Manifest, Marks, Segments, Shard,
    Writer, WriterCounters, WriterStart,
};
use crate::mutants::{self, Mutant};
use crate::options::{Bounds, Options};
use crate::partition::{KeyHasher, Partition, PartitionState, share};
use crate::recovery::{
    RecoveredShard, RecoveryReport, SWITCH_SHARD, home_shard, merchant_shard, recover,
    recover_read_only,
};
use crate::stock::{Promotions, Registry, Sku, Switches};
use crate::storage::{Storage, StorageLock};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, Parker};
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
    /// After so many log bytes a checkpoint is taken.
    pub(crate) checkpoint_bytes: u64,
    pub(crate) checkpoint_desk: Desk,
    pub(crate) checkpoint_counts: CheckpointCounts,
    /// Held while segments are released and checkpoints removed, which is left to the next checkpoint
    /// while a backup runs.
    pub(crate) backups: Mutex<BackupDesk>,
    /// No order leaves memory while a checkpoint is copied. Written by the checkpointer, read under a
    /// partition's lock.
    pub(crate) retirement_paused: AtomicBool,
    /// A partition's share of the buyers that are counted for limits.
    pub(crate) buyers_tracked_max: u64,
    /// New verbs are refused. Set before every partition's and SKU's lock is passed once; checked
    /// under those locks, so that nothing is appended after that.
    closing: AtomicBool,
    /// It was closing from the start.
    is_read_only: bool,
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
    lock: Mutex<Option<Arc<dyn StorageLock>>>,
    /// Whether the folder's path led elsewhere when it was last looked at. Nothing depends on it.
    displaced: AtomicBool,
}

/// Since the open.
#[derive(Debug, Default)]
pub(crate) struct CheckpointCounts {
    pub(crate) taken: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Core {
    pub(crate) fn open(options: &Options) -> Result<(Arc<Self>, Parts), OpenError> {
        Self::open_as(options, false)
    }

    /// Only for reading; the storage refuses everything else.
    pub(crate) fn open_read_only(options: &Options) -> Result<Arc<Self>, OpenError> {
        Ok(Self::open_as(options, true)?.0)
    }

    fn open_as(options: &Options, is_read_only: bool) -> Result<(Arc<Self>, Parts), OpenError> {
        let bounds = options.validate()?;
        if !is_read_only {
            options.check_memory()?;
        }
        let options = &match is_read_only {
            true => options.clone(),
            false => options.hold_folder()?,
        };
        let recovered = match is_read_only {
            true => recover_read_only(options, bounds.keep)?,
            false => recover(options, bounds.keep)?,
        };
        let partitions = recovered.states.len();
        let lock: Arc<dyn StorageLock> = Arc::from(recovered.lock);
        let (latch, time) = (Arc::new(Latch::default()), Arc::new(recovered.time));
        let parkers: Vec<Parker> = recovered.shards.iter().map(|_| Parker::new()).collect();
        let shards: Vec<Arc<Shard>> = (0_u16..)
            .zip(&parkers)
            .map(|(index, parker)| {
                let (latch, unparker) = (latch.clone(), parker.unparker().clone());
                Arc::new(Shard::new(index, latch, unparker, options.segment_bytes))
            })
            .collect();
        let backlog_bytes_max = options.backlog_share(partitions)?;
        let lanes: Arc<[Arc<Lane>]> = recovered
            .lane_lsns
            .iter()
            .enumerate()
            .map(|(lane, lsn)| {
                // A partition's shard, and behind the partitions each shard's lane for SKUs.
                let shard = match lane.checked_sub(partitions) {
                    None => lane % shards.len(),
                    Some(shard) => shard,
                };
                Arc::new(Lane::new(lane as u32, shards[shard].clone(), backlog_bytes_max, *lsn))
            })
            .collect();
        let wakes = latch.bell().wakes().clone();
        let core = Arc::new(Self {
            folder: options.folder(),
            bounds,
            partitions: (recovered.states.into_iter().zip(lanes.iter()))
                .map(|(state, lane)| new_partition(state, lane))
                .collect(),
            shards: shards.into(),
            skus: Arc::new(recovered.skus),
            switches: Arc::new(recovered.switches),
            hasher: recovered.hasher,
            time,
            latch,
            report: recovered.report,
            counters: recovered.shards.iter().map(|_| Arc::default()).collect(),
            activity: Arc::default(),
            orders_max: share(options.orders_max, partitions as u64),
            ids: IdCeiling::new(recovered.manifest.sequence_floor, options.ids_reserved),
            skus_max: options.skus_max,
            checkpoint_bytes: options.checkpoint_bytes,
            checkpoint_desk: Desk::default(),
            checkpoint_counts: CheckpointCounts::default(),
            backups: Mutex::new(BackupDesk {
                running: 0,
                newest: recovered.checkpoints.kept.last().map(|kept| kept.number),
            }),
            retirement_paused: AtomicBool::new(false),
            buyers_tracked_max: share(options.buyers_tracked_max, partitions as u64),
            closing: AtomicBool::new(is_read_only),
            is_read_only,
            contended: AtomicU64::new(0),
            passing: Mutex::new(()),
            promotions: Arc::default(),
            wakes,
            storage: options.storage.clone(),
            marks: Arc::new(Marks::new(recovered.shards.iter().map(RecoveredShard::position))),
            manifest: recovered.manifest,
            lock: Mutex::new(Some(lock.clone())),
            displaced: AtomicBool::new(false),
            lanes,
        });
        core.look_at_place();
        if core.is_displaced() {
            return Err(OpenError::Displaced { path: options.folder() });
        }
        if is_read_only {
            core.shards.iter().for_each(|shard| shard.end());
            let parts = Parts { writers: Vec::new(), checkpoints: recovered.checkpoints };
            return Ok((core, parts));
        }
        for (partition, sales) in core.partitions.iter().zip(recovered.sales_anew) {
            sale::log_anew(&core, partition, sales);
        }
        let writers = (recovered.shards.into_iter().zip(parkers).enumerate())
            .map(|(shard, (start, parker))| {
                core.writer(options, shard, recovered.identity, start, parker, lock.clone())
            })
            .collect::<Result<Vec<_>, _>>()?;
        // Whoever waits is served before the first call: no crash may make stock come back to others.
        core.skus.iter().filter(|sku| sku.hot.available.somebody_waits()).for_each(|sku| {
            core.promotions.ask(sku);
        });
        while !mutants::is(Mutant::ServesNobodyAtOpen) && waiting::promote_some(&core) {}
        Ok((core, Parts { writers, checkpoints: recovered.checkpoints }))
    }

    fn writer(
        &self,
        options: &Options,
        shard: usize,
        identity: Identity,
        start: RecoveredShard,
        parker: Parker,
        lock: Arc<dyn StorageLock>,
    ) -> Result<WriterParts, OpenError> {
        let lanes: Vec<_> = self
            .lanes
            .iter()
            .filter(|lane| usize::from(lane.shard().index()) == shard)
            .cloned()
            .collect();
        let segments = Arc::new(Segments::new(
            self.storage.clone(),
            self.shards[shard].clone(),
            options.log_access(),
            options.segment_bytes,
            lanes.clone(),
            start.found,
            Archive::new(options.log_retention_ms(), self.time.clone()),
        ));
        let active = match start.active {
            Some(active) => Some(active),
            // The first segment of a new shard. No order may wait for it, and a disk without room
            // for it should be known now.
            None => Some(segments.take().map(|segment| (segment, 0)).map_err(|error| {
                OpenError::io(error.operation, self.folder.join(error.path), error.source)
            })?),
        };
        active.iter().for_each(|(segment, _)| segments.turn_to(segment, None));
        let gives_to = self.gives_back();
        let writer = Writer::new(WriterStart {
            shard: self.shards[shard].clone(),
            lanes,
            marks: self.marks.clone(),
            segments: segments.clone(),
            active,
            identity,
            time: self.time.clone(),
            give_back: Box::new(move |effect| give_back(&gives_to, effect)),
            counters: self.counters[shard].clone(),
            activity: self.activity.clone(),
            previous: start.mark,
            block_bytes_max: options.block_bytes_max,
            lock,
        });
        Ok(WriterParts { writer, segments, parker })
    }

    /// The caller holds the lock of the partition or SKU that he is about to change.
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

    /// Whether a SKU's own record of so many bytes may be appended to its lane; see
    /// [`check_open`](Self::check_open) on when to ask.
    pub(crate) fn check_room(&self, lane: &Lane, bytes: usize) -> Result<(), Unavailable> {
        self.check_open()?;
        lane.room_for_new(bytes)?;
        lane.check_disk()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// After this, nothing is appended to any lane.
    pub(crate) fn refuse_new_verbs(&self) {
        self.closing.store(true, Ordering::Release);
        self.latch.bell().ring();
        for partition in &self.partitions {
            drop(partition.state.lock());
        }
        for sku in self.skus.iter_all() {
            drop(sku.home.lock());
        }
        // Under which merchants and the engine are switched.
        drop(self.passing.lock());
    }

    /// The partition that gave an id.
    pub(crate) fn partition_of_order(&self, order: OrderId) -> Result<&Partition, OrderError> {
        let partition = self.partitions.get(order.partition());
        partition.map(|padded| &**padded).ok_or(OrderError::UnknownOrder { order })
    }

    /// What its records give back to.
    pub(super) fn gives_back(&self) -> GivesBack {
        GivesBack {
            skus: self.skus.clone(),
            switches: self.switches.clone(),
            promotions: self.promotions.clone(),
            hold_default_ms: self.bounds.hold_default_ms,
        }
    }

    /// The SKU, if stock was ever set for it.
    #[inline]
    pub(crate) fn known_sku(&self, id: SkuId) -> Option<&Sku> {
        self.skus.find(id).filter(|sku| sku.is_known())
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

    /// The end of a clean close: the manifest names every shard's last block, so that one that rots
    /// or is rolled back is missed (rule R13), and lets ids go on without a gap.
    pub(crate) fn seal(&self) {
        let _replacing = self.ids.replacing.lock();
        if !self.latch.is_set() {
            let sequence_floor = (self.partitions.iter())
                .map(|partition| partition.state.lock().orders.next_sequence())
                .max()
                .unwrap_or(self.manifest.sequence_floor);
            let manifest = Manifest {
                sequence_floor,
                time: self.time.mark(),
                shards: self.marks.positions().iter().map(|position| position.mark).collect(),
                ..self.manifest.clone()
            };
            if let Err(error) = manifest.write(self.storage.as_ref()) {
                self.latch.set_detail("replacing of the manifest", error.to_string());
            }
        }
    }

    /// Others may open the folder as soon as no writer is left.
    pub(crate) fn release_folder(&self) {
        let lock = self.lock.lock().take();
        if lock.is_some() {
            self.look_at_place();
        }
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

pub(crate) const fn at_capacity(what: Capacity, bound: u64) -> Unavailable {
    Unavailable::AtCapacity { what, bound }
}

fn new_partition(state: PartitionState, lane: &Arc<Lane>) -> CachePadded<Partition> {
    lane.set_live_orders(state.live());
    CachePadded::new(Partition::new(lane.clone(), state))
}

/// Whatever a record may give back to.
pub(super) struct GivesBack {
    skus: Arc<Registry>,
    switches: Arc<Switches>,
    promotions: Arc<Promotions>,
    hold_default_ms: u32,
}

/// What a record gives back, now that it is durable.
pub(super) fn give_back(to: &GivesBack, effect: &Effect) {
    let GivesBack { skus, switches, promotions, hold_default_ms } = to;
    let give = |sku: &Sku, units| {
        if sku.hot.available.give(units) {
            promotions.ask(sku);
        }
        sku.note_change();
    };
    match effect.kind {
        EffectKind::Return { units } => {
            let sku = skus.get(effect.sku);
            sku.returning.fetch_sub(i64::from(units), Ordering::Relaxed);
            give(sku, units);
        }
        EffectKind::Restock { units } => {
            let sku = skus.get(effect.sku);
            sku.stocked.fetch_add(i64::from(units), Ordering::Relaxed);
            give(sku, units);
        }
        EffectKind::Left(place) => waiting::left(skus.get(effect.sku), place, promotions),
        EffectKind::Rules | EffectKind::EndSale => {
            let sku = skus.get(effect.sku);
            sku.settle_rules(&switches.merchants, *hold_default_ms);
            // Less may be kept back now, and others may be passed.
            if sku.hot.available.somebody_waits() {
                promotions.ask(sku);
            }
            if effect.kind == EffectKind::EndSale {
                sku.home.lock().note_ended(effect.lsn);
                promotions.note_ended(effect.sku, effect.lsn);
            }
            switches.note_lift();
        }
        EffectKind::Merchant => {
            switches.merchants.get(effect.sku).settle();
            switches.note_lift();
        }
        EffectKind::Switch => {
            switches.settle();
            switches.note_lift();
        }
    }
}
