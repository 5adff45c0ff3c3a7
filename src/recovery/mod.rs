//! Recovery: from the files of a folder to a running engine's state.
//!
//! In this order, each step before the next, and all before anything is served or returned to stock:
//!
//! 1. Read the manifest. Without one the folder must be empty, and becomes an engine.
//! 2. Load the newest whole checkpoint, if there is one.
//! 3. Read every shard from there on past the page cache (rule R11: whole is not durable), in parallel,
//!    and replay its records. Replay applies outcomes and never decides anew; it reads no clock.
//! 4. Check that every block named by another shard's vector, or by a checkpoint, is there (rule R12).
//! 5. Add up: `available = stocked - held - sold - kept back`, which is never stored (rule R16).
//! 6. Make durable what was read: blank what stands after each shard's end, sync every live file and folder.
//! 7. Replace the manifest: a new epoch, each shard's end, a new floor for order ids (rule R3).

mod add_up;
mod archive;
mod checkpoint;
mod cut;
mod durable;
mod folder;
mod load;
mod parallel;
mod progress;
mod read;
mod replay;
mod replay_lane;
mod report;
mod segments;
mod tables;
mod turns;
mod verify;
mod waiting;

use std::sync::Arc;

use crate::bounds::{Keep, share_reserved};
use crate::clock::{ClockFault, ENGINE_MS_MAX, EngineTime, TimeMark, possible_wall_ms};
use crate::error::OpenError;
use crate::log::Manifest;
use crate::options::{Durability, Options, PARTITIONS_DEFAULT};
use crate::partition::{KeyHasher, PartitionState};
use crate::stock::{Registry, Switches};
use crate::storage::{Access, StorageLock, hold};
use crate::sync::Mutex;
pub(crate) use add_up::SalesAnew;
use add_up::skip_to_floor;
use checkpoint::Start;
pub(crate) use checkpoint::{CheckpointsFound, KeptCheckpoint};
pub(crate) use cut::{greatest_cut, scan_durable};
use durable::NextLife;
pub(crate) use durable::RecoveredShard;
use folder::{Folder, LOCK, check_names, check_shape, create};
use parallel::both;
use progress::Progress;
use read::Log;
pub use report::RecoveryReport;
pub use turns::{TurnsReport, served_in_turn, served_in_turn_on};
pub use verify::{VerifyReport, verify, verify_on};

/// What recovery returns to the engine.
pub(crate) struct Recovered {
    pub(crate) lock: Box<dyn StorageLock>,
    pub(crate) manifest: Manifest,
    pub(crate) skus: Arc<Registry>,
    pub(crate) switches: Arc<Switches>,
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

/// Recovers a folder, or makes it an engine's. The caller [holds](Options::hold_folder) its storage.
pub(crate) fn recover(options: &Options, keep: Keep) -> Result<Recovered, OpenError> {
    let folder = &Folder::new(&options.storage, options.log_access());
    let names = folder.storage().list("").map_err(|error| folder.io("list", "", error))?;
    // Before the lock leaves a file in a folder that is not an engine's.
    check_names(folder, &names)?;
    Manifest::read(folder.storage())?;
    let lock = lock(folder, LOCK)?;
    let manifest = match Manifest::read(folder.storage())? {
        Some(manifest) if manifest.born => manifest,
        // Nothing was served from a folder that was never finished.
        found => {
            let synced = options.durability == Durability::Synced;
            create(folder, options.shape_for_new_folder(), synced, found)?
        }
    };
    restore(folder, options, keep, lock, manifest, false)
}

/// Recovers a folder for reading only: nothing in it is written, made durable or cut off.
pub(crate) fn recover_read_only(options: &Options, keep: Keep) -> Result<Recovered, OpenError> {
    let folder = &Folder::new(&options.storage, options.log_access());
    let lock = lock(folder, "")?;
    let manifest = folder.finished_manifest()?;
    restore(folder, options, keep, lock, manifest, true)
}

/// Keeps the folder from other engines. An error names the file `name`.
fn lock(folder: &Folder, name: &str) -> Result<Box<dyn StorageLock>, OpenError> {
    let lock = folder.storage().lock().map_err(|error| folder.io("lock", name, error))?;
    lock.ok_or_else(|| OpenError::InUse { path: folder.path("") })
}

/// Steps 2 to 7.
fn restore(
    folder: &Folder,
    options: &Options,
    keep: Keep,
    lock: Box<dyn StorageLock>,
    manifest: Manifest,
    is_read_only: bool,
) -> Result<Recovered, OpenError> {
    check_shape(folder, options.partitions, options.log_shards, &manifest)?;
    options.backlog_share(manifest.partitions as usize)?;
    let boot_ns = || options.clock.boot_ns();
    let files = segments::list(folder, &manifest)?;
    let progress = Progress::new(options.on_recovery.clone());
    let start = checkpoint::start(folder, options, keep, &manifest, &files, &progress)?;
    segments::check_unread(folder, &manifest, &files, &start.kept_heads())?;
    let log_began_ns = boot_ns();
    let is_single_threaded = options.single_threaded;
    let log = Log { folder, manifest: &manifest, files: &files, is_single_threaded };
    let shards = log.read(&start, options.cut_after_power_loss, &progress)?;
    let mut report = start.report(&shards);
    let Start { replay, states, head, mut found, .. } = start;
    replay.check_ends(folder)?;
    replay.add_up(&states, folder)?;
    let mut states: Vec<_> = states.into_iter().map(Mutex::into_inner).collect();
    let log_ended_ns = boot_ns();
    progress.tell();

    let told = shards.iter().map(|shard| shard.time).chain(head.as_ref().map(|head| head.time));
    let time = start_time(options, told.chain([manifest.time]))?;
    let next = NextLife {
        sequence: skip_to_floor(&mut states, &manifest),
        ids_reserved: options.ids_reserved,
        time: time.mark(),
        synced: options.durability == Durability::Synced,
    };
    let (threads, now_ms) = (options.recovery_threads(), time.now_ms());
    // The one waits for the disk, the other for memory.
    let (durable, sales_anew) = both(
        threads,
        || match is_read_only {
            true => Ok(durable::leave(&manifest, &shards)),
            false => durable::make_durable(folder, &manifest, &shards, &files, &found, &next),
        },
        || replay.start(&mut states, threads, now_ms),
    );
    let (writers, manifest) = durable?;
    found.log_bytes = report.block_bytes;
    // An open does not fail because of what is only reported.
    report.file_system = folder.storage().file_system().unwrap_or_default();
    report.log_us = (log_ended_ns - log_began_ns) / 1000;
    report.finish_us = (boot_ns() - log_ended_ns) / 1000;
    Ok(Recovered {
        lock,
        manifest,
        lane_lsns: replay.lane_lsns(),
        skus: replay.tables.skus,
        switches: replay.tables.switches,
        hasher: replay.tables.hasher,
        states,
        shards: writers,
        checkpoints: found,
        time,
        report,
        sales_anew,
    })
}

/// Engine time goes on after the latest time that anything in the folder shows (rule R14).
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

fn whole_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
        tables::check_memory(share.saturating_mul(partitions as u64), partitions)
    }

    /// Files of the log are opened past the page cache when they are synced, and through it otherwise.
    pub(crate) fn log_access(&self) -> Access {
        match self.durability {
            Durability::Synced => Access::Direct,
            Durability::Written => Access::Cached,
        }
    }
}
