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
mod lane;
mod lists;
mod load;
mod parallel;
mod progress;
mod replay;
mod segments;
mod turns;
mod verify;

use std::io;

use crate::checkpoint::{CHECKPOINT_FOLDER, Head, PREPARE_PATH};
use crate::clock::{EngineTime, TimeMark};
use crate::error::OpenError;
use crate::ids::SkuId;
use crate::log::{
    BlockMark, Expected, FoundSegments, Identity, LOG_FOLDER, LogPosition, MANIFEST, MANIFEST_NEW,
    Manifest, Reader, Segment, SegmentName, TailState, is_unfinished,
};
use crate::options::{Durability, Options};
use crate::partition::{Keep, KeyHasher, PartitionState};
use crate::stock::{Registry, Switches};
use crate::storage::{ALIGN_BYTES, Access, AlignedBuffer, StorageLock, remove_if_there};
use crate::wrong::{self, Wrong};
use checkpoint::Start;
pub(crate) use checkpoint::{CheckpointsFound, KeptCheckpoint};
pub(crate) use cut::{greatest_cut, scan_durable};
use parallel::on_each;
pub(crate) use progress::OnRecovery;
use progress::Progress;
pub use progress::RecoveryProgress;
use replay::{Replay, ShardReplay};
pub(crate) use replay::{SWITCH_SHARD, home_shard, merchant_shard};
pub use turns::{TurnsReport, served_in_turn, served_in_turn_on};
pub use verify::{VerifyReport, verify, verify_on};

/// Order ids that one open may give in each partition.
const SEQUENCES_PER_OPEN: u64 = 1 << 32;
const LOCK: &str = "LOCK";

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
    /// By partition: SKUs whose buyers are counted from now on, which no record says yet.
    pub(crate) counted_anew: Vec<Vec<SkuId>>,
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
    /// Microseconds that it took to take the memory for the orders of the checkpoint, or for those of
    /// [`Options::orders_reserved`], and to touch it.
    pub memory_us: u64,
    /// Microseconds that it took to load the checkpoint into that.
    pub checkpoint_us: u64,
    /// Microseconds that it took to read and replay the log.
    pub log_us: u64,
}

/// Recovers a folder, or makes it an engine's.
pub(crate) fn recover(options: &Options, keep: Keep) -> Result<Recovered, OpenError> {
    let storage = options.storage.as_ref();
    let root = options.folder();
    storage.create_root().map_err(|error| OpenError::io("create", &root, error))?;
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
    restore(options, keep, lock, manifest)
}

/// Whether the names in the root are an engine's.
fn check_names(options: &Options, names: &[String]) -> Result<(), OpenError> {
    let has = |name: &str| names.iter().any(|other| other == name);
    let ours = [MANIFEST, MANIFEST_NEW, LOCK, LOG_FOLDER, CHECKPOINT_FOLDER];
    let foreign = names.iter().find(|name| !ours.contains(&name.as_str()));
    if let Some(found) = foreign.filter(|_| !has(MANIFEST)) {
        return Err(OpenError::NotAnEngine { path: options.folder(), found: found.clone() });
    }
    let left = [LOG_FOLDER, CHECKPOINT_FOLDER].into_iter().find(|folder| has(folder));
    if let Some(folder) = left.filter(|_| !has(MANIFEST)) {
        let damage = match folder {
            LOG_FOLDER => "the manifest is missing; there is a log",
            _ => "the manifest is missing; there are checkpoints",
        };
        let path = options.folder().join(MANIFEST);
        return Err(OpenError::Corrupt { shard: None, path, offset: 0, damage: damage.into() });
    }
    Ok(())
}

/// Makes a folder an engine's: a manifest that says it is not finished, folders, and (by the caller)
/// a manifest that says it is.
fn create(options: &Options, unfinished: Option<Manifest>) -> Result<Manifest, OpenError> {
    let storage = options.storage.as_ref();
    let (partitions, shards) = options.shape_for_new_folder();
    let manifest = Manifest {
        engine_id: random_id(),
        partitions: partitions as u32,
        epoch: unfinished.map_or(0, |manifest| manifest.epoch),
        born: false,
        synced: options.durability == Durability::Synced,
        sequence_floor: 0,
        time: TimeMark::default(),
        shards: vec![BlockMark::default(); shards],
    };
    manifest.write(storage)?;
    let root = options.folder();
    let make = |folder: &str| -> Result<(), OpenError> {
        let io = |error| OpenError::io("create", root.join(folder), error);
        storage.create_folder(folder).map_err(io)?;
        for name in storage.list(folder).map_err(io)? {
            let path = format!("{folder}/{name}");
            let is_shard = folder == LOG_FOLDER;
            // Left by an attempt that was not finished; it never served anyone.
            if !is_shard {
                storage.remove(&path).map_err(io)?;
            }
        }
        storage.sync_folder(folder).map_err(io)
    };
    make(LOG_FOLDER)?;
    for shard in 0..shards {
        make(&SegmentName::of_shard(shard as u16).folder)?;
    }
    for folder in [LOG_FOLDER, ""] {
        storage
            .sync_folder(folder)
            .map_err(|error| OpenError::io("sync", root.join(folder), error))?;
    }
    Ok(manifest)
}

fn random_id() -> [u8; 16] {
    // Each `RandomState` is seeded from the operating system.
    let half = || ahash::RandomState::new().hash_one(0_u8).to_le_bytes();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&half());
    id[8..].copy_from_slice(&half());
    id
}

/// Partitions and shards are fixed when a folder is created.
fn check_shape(options: &Options, manifest: &Manifest) -> Result<(), OpenError> {
    let check = |field, asked: Option<usize>, found: usize| match asked {
        Some(asked) if asked != found => Err(OpenError::ShapeMismatch {
            field,
            asked: asked as u64,
            found: found as u64,
            path: options.folder(),
        }),
        _ => Ok(()),
    };
    check("partitions", options.partitions, manifest.partitions as usize)?;
    check("log_shards", options.log_shards, manifest.shards.len())
}

fn restore(
    options: &Options,
    keep: Keep,
    lock: Box<dyn StorageLock>,
    manifest: Manifest,
) -> Result<Recovered, OpenError> {
    let files = segments::list(options, &manifest)?;
    let progress = Progress::new(options.on_recovery.clone());
    let start = checkpoint::start(options, keep, &manifest, &files, &progress)?;
    segments::check_unread(options, &manifest, &files, &start.kept_heads())?;
    let from = start.positions(files.len());
    if progress.is_asked_for() {
        expect_log(options, &from, &files, &progress)?;
    }
    let log_began_ns = options.clock.boot_ns();
    let limits = match options.cut_after_power_loss && !manifest.synced {
        true => Some(cut::consistent_cut(options, &manifest, &from, &files)?),
        false => None,
    };
    let shards =
        replay_all(options, &manifest, &files, &start.replay, &from, limits.as_deref(), &progress)?;
    if limits.is_none() && !wrong::is(Wrong::IgnoresNeighbours) {
        cut::check_vectors(options, &manifest, &shards)?;
    }
    cut::check_ends(options, &manifest, &shards, &start.witnesses)?;
    let Start { replay, head, damaged, mut found, memory_ns, load_ns, .. } = start;
    let mut replayed = replay.finish(options)?;
    #[cfg(doorbuster_wrong)]
    wrong::expire_replayed(&mut replayed.states, &replayed.skus, options.clock.wall_ms());
    let log_ns = options.clock.boot_ns() - log_began_ns;
    progress.tell();

    let told = shards.iter().map(|shard| shard.time).chain(head.as_ref().map(|head| head.time));
    let time = start_time(options, told.chain([manifest.time]))?;

    let report = RecoveryReport {
        checkpoint: head.as_ref().map(|head| head.number),
        checkpoint_orders: head.as_ref().map_or(0, Head::orders),
        checkpoints_damaged: damaged as u16,
        memory_us: memory_ns / 1000,
        checkpoint_us: load_ns / 1000,
        log_us: log_ns / 1000,
        ..report_of(&shards)
    };
    found.log_bytes = report.block_bytes;
    let mut writers = Vec::new();
    for (shard, ordinals) in shards.iter().zip(&files) {
        let needed = found.needed_ordinal(usize::from(shard.index));
        writers.push(make_durable(options, shard.index, &shard.tail, ordinals, needed)?);
    }
    if found.next_number > 0 {
        tidy_checkpoints(options)?;
    }
    let manifest = next_manifest(options, &manifest, &shards, &mut replayed.states, time.mark())?;
    let now_ms = time.now_ms();
    let threads = options.recovery_threads();
    if !wrong::is(Wrong::ForgetsTimersOnReplay) {
        on_each(threads, &mut replayed.states, |state| state.start_timers(now_ms));
    }
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
        counted_anew: replayed.counted_anew,
    })
}

/// Engine time goes on behind the latest time that anything in the folder tells (rule R14).
fn start_time(
    options: &Options,
    told: impl Iterator<Item = TimeMark>,
) -> Result<EngineTime, OpenError> {
    let latest = told.max_by_key(|time| time.order(options.clock.boot_id()));
    let mark = latest.filter(|time| *time != TimeMark::default());
    let jump_max_ms = (!options.accept_clock_jump).then_some(whole_ms(options.clock_jump_max));
    EngineTime::start(options.clock.clone(), mark, jump_max_ms).map_err(|jump| {
        OpenError::ClockJump {
            wall_ms: jump.wall_ms,
            log_ms: jump.log_ms,
            max_ms: whole_ms(options.clock_jump_max),
        }
    })
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

/// Removes what is left of a checkpoint that was not finished, and makes the names of the others durable.
fn tidy_checkpoints(options: &Options) -> Result<(), OpenError> {
    let storage = options.storage.as_ref();
    let tidied = remove_if_there(storage, PREPARE_PATH)
        .and_then(|()| storage.sync_folder(CHECKPOINT_FOLDER));
    let path = options.folder().join(CHECKPOINT_FOLDER);
    tidied.map_err(|error| OpenError::io("tidy", path, error))
}

/// No more than the segments from the begin on can be read.
fn expect_log(
    options: &Options,
    from: &[LogPosition],
    files: &[Vec<u64>],
    progress: &Progress,
) -> Result<(), OpenError> {
    for (shard, (from, ordinals)) in from.iter().zip(files).enumerate() {
        let name = SegmentName::of_shard(shard as u16);
        for ordinal in ordinals.iter().filter(|ordinal| **ordinal >= from.ordinal) {
            let path = name.path(*ordinal);
            let file = options.storage.open(&path, Access::Cached);
            let bytes = file
                .and_then(|file| file.len())
                .map_err(|error| OpenError::io("measure", options.folder().join(&path), error))?;
            progress.expect(bytes);
        }
    }
    Ok(())
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
            (0..files.len()).map(|shard| scope.spawn(move || one(shard))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Makes a shard's end durable: what stands behind it is blanked, every file that a checkpoint may need
/// and the folder are synced. A file that does not bypass the page cache is written anew where it matters, since a sync
/// would not write pages that a failed sync left clean.
fn make_durable(
    options: &Options,
    shard: u16,
    tail: &TailState,
    ordinals: &[u64],
    needed_ordinal: u64,
) -> Result<RecoveredShard, OpenError> {
    let (storage, name) = (options.storage.as_ref(), SegmentName::of_shard(shard));
    let mut segments = Vec::new();
    for ordinal in ordinals.iter().filter(|ordinal| **ordinal >= needed_ordinal) {
        let path = name.path(*ordinal);
        let io = |operation, error| OpenError::io(operation, options.folder().join(&path), error);
        let file = storage.open(&path, options.log_access()).map_err(|error| io("open", error))?;
        if !file.is_direct() && tail.end.is_some_and(|(last, _)| last == *ordinal) {
            let end = tail.end.map_or(0, |(_, end)| end);
            rewrite(file.as_ref(), end).map_err(|error| io("rewrite", error))?;
        }
        if let Some((_, end)) = tail.end.filter(|(last, _)| last == ordinal)
            && tail.must_blank
        {
            let blank = AlignedBuffer::zeroed(ALIGN_BYTES);
            file.write_durable(&blank, end).map_err(|error| io("blank the end of", error))?;
        }
        if !wrong::is(Wrong::ServesUnsynced) {
            file.sync().map_err(|error| io("sync", error))?;
        }
        // Of those before the end no handle is kept: there may be many.
        if tail.end.is_none_or(|(last, _)| last <= *ordinal) {
            let bytes = file.len().map_err(|error| io("measure", error))?;
            segments.push(Segment { ordinal: *ordinal, file, bytes });
        }
    }
    let folder = options.folder().join(&name.folder);
    // It may have taken the last room, and the manifest needs some.
    let names =
        storage.list(&name.folder).map_err(|error| OpenError::io("list", &folder, error))?;
    for unfinished in names.iter().filter(|name| is_unfinished(name)) {
        let removed = storage.remove(&format!("{}/{unfinished}", name.folder));
        removed.map_err(|error| OpenError::io("remove", folder.join(unfinished), error))?;
    }
    storage.sync_folder(&name.folder).map_err(|error| OpenError::io("sync", folder, error))?;
    let (active, spares) = match tail.end {
        None => (None, segments),
        Some((_, end)) => {
            let spares = segments.split_off(1.min(segments.len()));
            (segments.pop().map(|segment| (segment, end)), spares)
        }
    };
    let found = FoundSegments {
        spares,
        oldest_ordinal: ordinals.first().copied().unwrap_or(0),
        next_ordinal: ordinals.last().map_or(0, |last| last + 1),
    };
    Ok(RecoveredShard { mark: tail.mark, active, found })
}

fn rewrite(file: &dyn crate::storage::StorageFile, end: u64) -> io::Result<()> {
    let mut part = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < end {
        let wanted = part.len().min((end - offset) as usize);
        let read = file.read_at(&mut part[..wanted], offset)?;
        if read == 0 {
            return Ok(());
        }
        file.write_at(&part[..read], offset)?;
        offset += read as u64;
    }
    Ok(())
}

fn next_manifest(
    options: &Options,
    manifest: &Manifest,
    shards: &[ShardReplay],
    states: &mut [PartitionState],
    time: TimeMark,
) -> Result<Manifest, OpenError> {
    let next = states
        .iter()
        .map(|state| state.orders.next_sequence())
        .max()
        .unwrap_or(0)
        .max(if wrong::is(Wrong::GivesIdTwice) { 0 } else { manifest.sequence_floor });
    states.iter_mut().for_each(|state| state.orders.skip_to(next));
    let next_manifest = Manifest {
        epoch: manifest.epoch + 1,
        born: true,
        synced: options.durability == Durability::Synced,
        sequence_floor: next + SEQUENCES_PER_OPEN,
        time,
        shards: shards.iter().map(|shard| shard.tail.mark).collect(),
        ..manifest.clone()
    };
    next_manifest.write(options.storage.as_ref())?;
    Ok(next_manifest)
}

/// Files of the log are opened past the page cache when they are synced, and through it otherwise.
impl Options {
    pub(crate) fn log_access(&self) -> Access {
        match self.durability {
            Durability::Synced => Access::Direct,
            Durability::Written => Access::Cached,
        }
    }
}
