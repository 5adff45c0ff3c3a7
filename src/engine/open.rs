//! Opening: from what recovery found to a running core.

use std::mem::take;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::bounds::{Bounds, share};
use crate::checkpoint::CheckpointRequests;
use crate::engine::core::{CheckpointCounts, Core, RunningBackups};
use crate::engine::effects::give_back;
use crate::engine::id_ceiling::IdCeiling;
use crate::engine::promotion::promote_some;
use crate::engine::sku::buyer_counts;
use crate::error::OpenError;
use crate::log::{Archive, Lane, Latch, Marks, Segments, Shard, Writer, WriterStart};
use crate::mutants::{self, Mutant};
use crate::options::Options;
use crate::partition::{Partition, PartitionState};
use crate::recovery::{CheckpointsFound, Recovered, RecoveredShard, recover, recover_read_only};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Parker};

/// What runs an engine.
pub(crate) struct Parts {
    pub(crate) writers: Vec<WriterParts>,
    pub(crate) checkpoints: CheckpointsFound,
}

pub(crate) struct WriterParts {
    pub(crate) writer: Writer,
    pub(crate) segments: Arc<Segments>,
    pub(crate) parker: Parker,
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
        let mut recovered = match is_read_only {
            true => recover_read_only(options, bounds.keep)?,
            false => recover(options, bounds.keep)?,
        };
        let checkpoints = take(&mut recovered.checkpoints);
        let (starts, sales) = (take(&mut recovered.shards), take(&mut recovered.sales_anew));
        let (core, parkers) =
            Self::new(options, bounds, is_read_only, recovered, &starts, &checkpoints)?;
        core.look_at_place();
        if core.is_displaced() {
            return Err(OpenError::Displaced { path: options.folder() });
        }
        if is_read_only {
            core.shards.iter().for_each(|shard| shard.end());
            return Ok((core, Parts { writers: Vec::new(), checkpoints }));
        }
        for (partition, sales) in core.partitions.iter().zip(sales) {
            buyer_counts::log_anew(&core, partition, sales);
        }
        let writers = (starts.into_iter().zip(parkers).enumerate())
            .map(|(shard, (start, parker))| core.writer(options, shard, start, parker))
            .collect::<Result<Vec<_>, _>>()?;
        // Waiting orders are served before the first call: no crash may make stock come back to others.
        core.skus.iter().filter(|sku| sku.hot.available.somebody_waits()).for_each(|sku| {
            core.promotions.ask(sku);
        });
        while !mutants::is(Mutant::ServesNobodyAtOpen) && promote_some(&core) {}
        Ok((core, Parts { writers, checkpoints }))
    }

    /// A core without writers, and a parker for the writer of each shard.
    fn new(
        options: &Options,
        bounds: Bounds,
        is_read_only: bool,
        recovered: Recovered,
        starts: &[RecoveredShard],
        checkpoints: &CheckpointsFound,
    ) -> Result<(Arc<Self>, Vec<Parker>), OpenError> {
        let partitions = recovered.states.len();
        let (latch, time) = (Arc::new(Latch::default()), Arc::new(recovered.time));
        let parkers: Vec<Parker> = starts.iter().map(|_| Parker::new()).collect();
        let shards = new_shards(&parkers, &latch, options.segment_bytes);
        let backlog_bytes_max = options.backlog_share(partitions)?;
        let lanes = new_lanes(&recovered.lane_lsns, partitions, &shards, backlog_bytes_max);
        let core = Self {
            folder: options.folder(),
            bounds,
            partitions: (recovered.states.into_iter().zip(lanes.iter()))
                .map(|(state, lane)| new_partition(state, lane))
                .collect(),
            shards: shards.into(),
            skus: recovered.skus,
            switches: recovered.switches,
            hasher: recovered.hasher,
            time,
            wakes: latch.bell().wakes().clone(),
            latch,
            report: recovered.report,
            counters: starts.iter().map(|_| Arc::default()).collect(),
            activity: Arc::default(),
            orders_max: share(options.orders_max, partitions as u64),
            ids: IdCeiling::new(recovered.manifest.sequence_floor, options.ids_reserved),
            skus_max: options.skus_max,
            checkpoint_bytes: options.checkpoint_bytes,
            checkpoint_requests: CheckpointRequests::default(),
            checkpoint_counts: CheckpointCounts::default(),
            backups: Mutex::new(RunningBackups {
                running: 0,
                newest: checkpoints.kept.last().map(|kept| kept.number),
            }),
            retirement_paused: AtomicBool::new(false),
            buyers_tracked_max: share(options.buyers_tracked_max, partitions as u64),
            closing: AtomicBool::new(is_read_only),
            is_read_only,
            contended: AtomicU64::new(0),
            passing: Mutex::new(()),
            promotions: Arc::default(),
            storage: options.storage.clone(),
            marks: Arc::new(Marks::new(starts.iter().map(RecoveredShard::position))),
            manifest: recovered.manifest,
            lock: Mutex::new(Some(Arc::from(recovered.lock))),
            displaced: AtomicBool::new(false),
            lanes,
        };
        Ok((Arc::new(core), parkers))
    }

    fn writer(
        &self,
        options: &Options,
        shard: usize,
        start: RecoveredShard,
        parker: Parker,
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
            identity: self.manifest.identity(),
            time: self.time.clone(),
            give_back: Box::new(move |effect| give_back(&gives_to, effect)),
            counters: self.counters[shard].clone(),
            activity: self.activity.clone(),
            previous: start.mark,
            block_bytes_max: options.block_bytes_max,
            lock: self.share_folder(),
        });
        Ok(WriterParts { writer, segments, parker })
    }
}

fn new_shards(parkers: &[Parker], latch: &Arc<Latch>, segment_bytes: u64) -> Vec<Arc<Shard>> {
    let shard = |(index, parker): (u16, &Parker)| {
        Arc::new(Shard::new(index, latch.clone(), parker.unparker().clone(), segment_bytes))
    };
    (0..).zip(parkers).map(shard).collect()
}

/// The lanes of the partitions, then one of each shard for its SKUs.
fn new_lanes(
    lane_lsns: &[u64],
    partitions: usize,
    shards: &[Arc<Shard>],
    backlog_bytes_max: u64,
) -> Arc<[Arc<Lane>]> {
    let lane = |(lane, lsn): (usize, &u64)| {
        let shard = match lane.checked_sub(partitions) {
            None => lane % shards.len(),
            Some(shard) => shard,
        };
        Arc::new(Lane::new(lane as u32, shards[shard].clone(), backlog_bytes_max, *lsn))
    };
    lane_lsns.iter().enumerate().map(lane).collect()
}

fn new_partition(state: PartitionState, lane: &Arc<Lane>) -> CachePadded<Partition> {
    lane.set_live_orders(state.live());
    CachePadded::new(Partition::new(lane.clone(), state))
}
