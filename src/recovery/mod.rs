//! Recovery: from the files of a folder to a running engine's state.
//!
//! In this order, each step before the next, and all before anything is served or given back:
//!
//! 1. Read the manifest. Without one the folder must be empty, and becomes an engine.
//! 2. Load the newest whole checkpoint, if there is one.
//! 3. Read every shard from there on past the page cache (rule R11: whole is not durable), in parallel,
//!    and replay its records. Replay applies outcomes and never decides anew; it reads no clock.
//! 4. Check that every block named by another shard's vector, or by a checkpoint, is there (rule R12).
//! 5. Add up: `available = stocked - held - sold - kept back`, which is never stored (rule R16).
//! 6. Make durable what was read: blank what stands behind each shard's end, sync every live file
//!    and folder.
//! 7. Replace the manifest: a new epoch, each shard's end, a new floor for order ids (rule R3).

mod archive;
mod checkpoint;
mod cut;
mod durable;
mod folder;
mod lane;
mod lists;
mod load;
mod parallel;
mod progress;
mod replay;
mod segments;
mod turns;
mod verify;

use crate::bounds::{Keep, share_reserved};
use crate::checkpoint::Head;
use crate::clock::{ClockFault, ENGINE_MS_MAX, EngineTime, TimeMark, possible_wall_ms};
use crate::error::OpenError;
use crate::log::{
    BlockMark, Expected, FoundSegments, Identity, LogPosition, Manifest, Reader, Segment,
};
use crate::mutants::{self, Mutant};
use crate::options::{Durability, Options, PARTITIONS_DEFAULT};
use crate::partition::{KeyHasher, PartitionState};
use crate::stock::{Registry, Switches};
use crate::storage::{Access, FileSystem, StorageLock, hold};
use checkpoint::Start;
pub(crate) use checkpoint::{CheckpointsFound, KeptCheckpoint};
pub(crate) use cut::{greatest_cut, scan_durable};
use folder::{LOCK, check_names, check_shape, create, finished_manifest};
use parallel::{both, join};
use progress::Progress;
pub(crate) use replay::SalesAnew;
use replay::{Replay, ShardReplay};
pub use turns::{TurnsReport, served_in_turn, served_in_turn_on};
pub use verify::{VerifyReport, verify, verify_on};

/// What recovery gives to the engine.
pub(crate) struct Recovered {
    pub(crate) lock: Box<dyn StorageLock>,
    pub(crate) manifest: Manifest,
    pub(crate) identity: Identity,
    pub(crate) skus: Registry,
    pub(crate) switches: Switches,
    pub(crate) hasher: KeyHasher,
    pub(crate) states: Vec<PartitionState>,
    /// Last LSN of every lane.
    pub(crate) lane_lsns: Vec<u64>,
    pub(crate) shards: Vec<RecoveredShard>,
    pub(crate) checkpoints: CheckpointsFound,
    pub(crate) time: EngineTime,
    pub(crate) report: RecoveryReport,
    /// By partition.
    pub(crate) sales_anew: Vec<SalesAnew>,
}

/// Where a shard's writer goes on.
pub(crate) struct RecoveredShard {
    pub(crate) mark: BlockMark,
    pub(crate) active: Option<(Segment, u64)>,
    pub(crate) found: FoundSegments,
}

impl RecoveredShard {
    /// Where the log goes on.
    pub(crate) fn position(&self) -> LogPosition {
        let (ordinal, offset) =
            self.active.as_ref().map_or((0, 0), |(segment, at)| (segment.ordinal, *at));
        LogPosition { mark: self.mark, ordinal, offset }
    }
}

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
    /// Shards whose last write was torn by a crash, and cut off. One that tore into a segment which was
    /// recycled cannot always be told from what the segment held before, and is not counted then.
    pub torn_shards: u16,
    /// Blocks that [`Options::cut_after_power_loss`] gave up.
    pub blocks_cut: u64,
    /// The number of the checkpoint that was loaded; `None`: the log was read from its beginning.
    pub checkpoint: Option<u64>,
    /// Orders in it.
    pub checkpoint_orders: u64,
    /// Newer checkpoints that were cut short or damaged. One before them, or the whole log, was used
    /// instead: nothing is lost, but the disk is to be looked at.
    pub checkpoints_damaged: u16,
    /// What is known about the file system. On one that writes copies instead of overwriting, the room that is kept
    /// for endings is less certain: see [`guide::durability`](crate::guide::durability#a-full-disk).
    pub file_system: FileSystem,
    /// Microseconds that it took to take the memory for the orders of the checkpoint, or for those of
    /// [`Options::orders_reserved`], and to touch it.
    pub memory_us: u64,
    /// Microseconds that it took to load the checkpoint into that.
    pub checkpoint_us: u64,
    /// Microseconds that it took to read and replay the log.
    pub log_us: u64,
    /// Microseconds after that: what was read is made durable, and the tables get their deadlines.
    pub finish_us: u64,
}

/// Recovers a folder, or makes it an engine's. Its storage is [held](Options::hold_folder).
pub(crate) fn recover(options: &Options, keep: Keep) -> Result<Recovered, OpenError> {
    let storage = options.storage.as_ref();
    let root = options.folder();
    let names = storage.list("").map_err(|error| OpenError::io("list", &root, error))?;
    // Before the lock leaves a file in a folder that is not ours.
    check_names(options, &names)?;
    Manifest::read(storage)?;
    let lock = storage
        .lock()
        .map_err(|error| OpenError::io("lock", root.join(LOCK), error))?
        .ok_or_else(|| OpenError::InUse { path: root.clone() })?;
    let manifest = match Manifest::read(storage)? {
        Some(manifest) if manifest.born => manifest,
        // Nothing was served from a folder that was never finished.
        found => create(options, found)?,
    };
    check_shape(options, &manifest)?;
    options.backlog_share(manifest.partitions as usize)?;
    restore(options, keep, lock, manifest, false)
}

/// Recovers a folder for reading only: nothing in it is written, made durable or cut off.
pub(crate) fn recover_read_only(options: &Options, keep: Keep) -> Result<Recovered, OpenError> {
    let root = options.folder();
    let lock = options.storage.lock();
    let lock = lock.map_err(|error| OpenError::io("lock", &root, error))?;
    let lock = lock.ok_or_else(|| OpenError::InUse { path: root.clone() })?;
    let manifest = finished_manifest(options)?;
    options.backlog_share(manifest.partitions as usize)?;
    restore(options, keep, lock, manifest, true)
}

fn restore(
    options: &Options,
    keep: Keep,
    lock: Box<dyn StorageLock>,
    manifest: Manifest,
    is_read_only: bool,
) -> Result<Recovered, OpenError> {
    let files = segments::list(options, &manifest)?;
    let progress = Progress::new(options.on_recovery.clone());
    let start = checkpoint::start(options, keep, &manifest, &files, &progress)?;
    segments::check_unread(options, &manifest, &files, &start.kept_heads())?;
    let log_began_ns = options.clock.boot_ns();
    let shards = read_log(options, &manifest, &files, &start, &progress)?;
    let Start { replay, head, damaged, mut found, memory_ns, load_ns, .. } = start;
    let mut replayed = replay.add_up(options)?;
    #[cfg(doorbuster_mutants)]
    mutants::expire_replayed(&mut replayed.states, &replayed.skus, options.clock.wall_ms());
    let log_ended_ns = options.clock.boot_ns();
    progress.tell();

    let told = shards.iter().map(|shard| shard.time).chain(head.as_ref().map(|head| head.time));
    let time = start_time(options, told.chain([manifest.time]))?;
    let mut report = RecoveryReport {
        checkpoint: head.as_ref().map(|head| head.number),
        checkpoint_orders: head.as_ref().map_or(0, Head::orders),
        checkpoints_damaged: damaged as u16,
        // An open does not fail for what is only told.
        file_system: options.storage.file_system().unwrap_or_default(),
        memory_us: memory_ns / 1000,
        checkpoint_us: load_ns / 1000,
        log_us: (log_ended_ns - log_began_ns) / 1000,
        ..report_of(&shards)
    };
    found.log_bytes = report.block_bytes;
    let next_sequence = replayed.skip_to_floor(&manifest);
    let next = (next_sequence, time.mark());
    let now_ms = time.now_ms();
    // The one waits for the disk, the other for memory.
    let (durable, sales_anew) = both(
        options.recovery_threads(),
        || match is_read_only {
            true => Ok(durable::leave(&manifest, &shards)),
            false => durable::make_durable(options, &manifest, &shards, &files, &found, next),
        },
        || replayed.start(options.recovery_threads(), now_ms),
    );
    let (writers, manifest) = durable?;
    report.finish_us = (options.clock.boot_ns() - log_ended_ns) / 1000;
    let identity = Identity {
        engine_id: manifest.engine_id,
        epoch: manifest.epoch,
        shards: manifest.shards.len() as u16,
        synced: manifest.synced,
    };
    Ok(Recovered {
        lock,
        manifest,
        identity,
        skus: replayed.skus,
        switches: replayed.switches,
        hasher: replayed.hasher,
        states: replayed.states,
        lane_lsns: replayed.lane_lsns,
        shards: writers,
        checkpoints: found,
        time,
        report,
        sales_anew,
    })
}

/// Reads and replays the log behind the checkpoint, and checks that no block is missing of which somebody
/// knows.
fn read_log(
    options: &Options,
    manifest: &Manifest,
    files: &[Vec<u64>],
    start: &Start,
    progress: &Progress,
) -> Result<Vec<ShardReplay>, OpenError> {
    let from = start.positions(files.len());
    let limits = match options.cut_after_power_loss && !manifest.synced {
        true => Some(cut::consistent_cut(options, manifest, &from, files)?),
        false => None,
    };
    let shards =
        replay_all(options, manifest, files, &start.replay, &from, limits.as_deref(), progress)?;
    if limits.is_none() && !mutants::is(Mutant::IgnoresNeighbours) {
        cut::check_vectors(options, manifest, &shards)?;
    }
    cut::check_ends(options, manifest, &shards, &start.witnesses)?;
    Ok(shards)
}

/// Engine time goes on after the latest time that anything in the folder tells (rule R14).
fn start_time(
    options: &Options,
    told: impl Iterator<Item = TimeMark>,
) -> Result<EngineTime, OpenError> {
    let latest = told.max_by_key(|time| time.order(options.clock.boot_id()));
    let mark = latest.filter(|time| *time != TimeMark::default());
    let jump_max_ms = (!options.accept_clock_jump).then_some(whole_ms(options.clock_jump_max));
    EngineTime::start(options.clock.clone(), mark, jump_max_ms)
        .map_err(|fault| clock_error(options, fault))
}

fn clock_error(options: &Options, fault: ClockFault) -> OpenError {
    let max_ms = whole_ms(options.clock_jump_max);
    match fault {
        ClockFault::Ahead { wall_ms, log_ms } => OpenError::ClockJump { wall_ms, log_ms, max_ms },
        ClockFault::Behind { wall_ms, log_ms } => {
            OpenError::ClockBehind { wall_ms, log_ms, max_ms }
        }
        ClockFault::OutOfRange { time_ms } => {
            OpenError::ClockOutOfRange { time_ms, max_ms: ENGINE_MS_MAX }
        }
    }
}

fn report_of(shards: &[ShardReplay]) -> RecoveryReport {
    RecoveryReport {
        records: shards.iter().map(|shard| shard.records).sum(),
        block_bytes: shards.iter().map(|shard| shard.block_bytes).sum(),
        blocks: shards.iter().map(|shard| shard.tail.mark.blocks - shard.first).sum(),
        torn_shards: shards.iter().filter(|shard| shard.tail.torn).count() as u16,
        blocks_cut: shards.iter().map(|shard| shard.blocks_cut).sum(),
        ..RecoveryReport::default()
    }
}

fn whole_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn expected(manifest: &Manifest, shard: u16, cut_at_damage: bool) -> Expected {
    Expected {
        engine_id: manifest.engine_id,
        shard,
        shards: manifest.shards.len() as u16,
        epoch: manifest.epoch,
        mark: manifest.shards[usize::from(shard)],
        cut_at_damage,
    }
}

/// Replays all shards, each on a thread of its own; the first error in shard order counts.
fn replay_all(
    options: &Options,
    manifest: &Manifest,
    files: &[Vec<u64>],
    replay: &Replay,
    from: &[LogPosition],
    limits: Option<&[u64]>,
    progress: &Progress,
) -> Result<Vec<ShardReplay>, OpenError> {
    let one = |shard: usize| {
        let expected = expected(manifest, shard as u16, limits.is_some());
        let from = from[shard];
        let reader = Reader::new(options.storage.as_ref(), expected, from, files[shard].clone())?;
        let limit = limits.map(|limits| limits[shard]);
        replay.shard(shard as u16, from.mark.blocks, reader, limit, progress)
    };
    if options.single_threaded || files.len() == 1 {
        return (0..files.len()).map(one).collect();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..files.len()).map(|shard| parallel::start(scope, move || one(shard))).collect();
        (0..).zip(threads).map(|(shard, thread)| thread.map_or_else(|| one(shard), join)).collect()
    })
}

impl Options {
    /// Makes the folder, and returns options whose storage stays with it.
    pub(crate) fn hold_folder(&self) -> Result<Self, OpenError> {
        possible_wall_ms(self.clock.as_ref()).map_err(|fault| clock_error(self, fault))?;
        let root = self.folder();
        self.storage.create_root().map_err(|error| OpenError::io("create", &root, error))?;
        let storage = hold(&self.storage).map_err(|error| OpenError::io("open", &root, error))?;
        Ok(Self { storage, ..self.clone() })
    }

    /// Asked before anything in the folder changes.
    pub(crate) fn check_memory(&self) -> Result<(), OpenError> {
        let partitions = self.partitions.unwrap_or(PARTITIONS_DEFAULT);
        let share = share_reserved(self.orders_reserved, partitions as u64);
        replay::check_memory(share.saturating_mul(partitions as u64), partitions)
    }

    /// Files of the log are opened past the page cache when they are synced, and through it otherwise.
    pub(crate) fn log_access(&self) -> Access {
        match self.durability {
            Durability::Synced => Access::Direct,
            Durability::Written => Access::Cached,
        }
    }
}
