//! [`verify`]: all that an open would believe, looked at without changing anything.

use std::path::Path;
use std::sync::Arc;

use crate::bounds::Keep;
use crate::checkpoint::{self, CheckpointFile, Head};
use crate::error::OpenError;
use crate::log::Manifest;
use crate::options::Options;
use crate::order::StockLevels;
use crate::recovery::archive;
use crate::recovery::checkpoint::check_head;
use crate::recovery::cut;
use crate::recovery::folder::Folder;
use crate::recovery::load::load;
use crate::recovery::progress::Progress;
use crate::recovery::read::Log;
use crate::recovery::replay::{Replay, ShardReplay};
use crate::recovery::report::report_of;
use crate::recovery::segments::{self, look_at};
use crate::recovery::tables::Tables;
use crate::storage::{Disk, Storage};

/// What [`verify`] looked at; all of it is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct VerifyReport {
    /// Checkpoints, every chunk and entry of each.
    pub checkpoints: u16,
    /// Blocks of the log: checksums, chain, records, and the blocks of other shards that they name. From
    /// where the oldest checkpoint goes on, or from the beginning if that is still there.
    pub blocks: u64,
    /// Bytes of these blocks.
    pub block_bytes: u64,
    /// Records in them.
    pub records: u64,
    /// Segments of the log from before that, archived or not yet recycled.
    pub archived_segments: u64,
    /// Blocks in them: checksums and chain, up to the one that the oldest checkpoint goes on from.
    pub archived_blocks: u64,
    /// Orders that an open would have in memory.
    pub orders: u64,
    /// SKUs whose sums were added up, from each checkpoint and from the log, and agree.
    pub skus: u64,
    /// Shards that end with a write which a crash tore; an open cuts it off.
    pub torn_shards: u16,
}

/// Checks everything in an engine's folder that an open would rely on, and its fallbacks: the manifest, the newest
/// two checkpoints, every block of the log and its chain (archived ones too, see [`Options::log_retention`]), and
/// whether each checkpoint with the log after it comes to the same stock. Opens files for reading only and takes no
/// lock; the engine must not be running, since then the log's end moves.
///
/// Costs the reading of all files, once for each checkpoint and once for a log that goes back to its
/// beginning, and the memory of the orders.
///
/// # Errors
/// See [`OpenError`]: the first thing that is not whole, a damaged checkpoint included.
///
/// ```
/// use doorbuster::{Engine, Options, verify};
///
/// # let folder = std::env::temp_dir().join(format!("doorbuster-verify-{}", std::process::id()));
/// let engine = Engine::open(Options::new(&folder).segment_bytes(1 << 20))?;
/// engine.checkpoint()?.wait()?;
/// engine.close()?;
/// assert_eq!(verify(&folder)?.checkpoints, 1);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(folder: impl AsRef<Path>) -> Result<VerifyReport, OpenError> {
    verify_on(Arc::new(Disk::new(folder.as_ref())))
}

/// [`verify`] on another [`Storage`].
///
/// # Errors
/// As those of [`verify`].
pub fn verify_on(storage: Arc<dyn Storage>) -> Result<VerifyReport, OpenError> {
    let folder = &Folder::read_only(&storage)?;
    let options = Options::on_storage(storage).skus_max(1 << 26).merchants_max(1 << 20);
    let keep = options.validate()?.keep;
    let (manifest, files) = look_at(folder)?;
    let log = Log { folder, manifest: &manifest, files: &files, is_single_threaded: false };
    let mut report = VerifyReport::default();
    let mut stock: Option<Vec<StockLevels>> = None;
    let checkpoints = open_newest(folder, &manifest)?;
    let heads: Vec<_> = checkpoints.iter().rev().map(|file| &file.head).collect();
    segments::check_unread(folder, &manifest, &files, &heads)?;
    let whole_log = segments::go_back(&files) || checkpoints.is_empty();
    let starts = whole_log.then_some(None).into_iter().chain(checkpoints.iter().map(Some));
    for file in starts {
        let (shards, replay, orders) = replay_from(&log, &options, keep, file)?;
        report.checkpoints += u16::from(file.is_some());
        let found = levels(&replay);
        if let Some(expected) = stock.as_ref().filter(|expected| **expected != found) {
            return Err(disagree(folder, file, expected, &found));
        }
        stock.get_or_insert(found);
        // The first one starts from the oldest.
        if report.blocks == 0 {
            let archived = archive::check(folder, &manifest, &files, file)?;
            (report.archived_segments, report.archived_blocks) = archived;
            let read = report_of(&shards);
            report.blocks = read.blocks;
            report.block_bytes = read.block_bytes;
            report.records = read.records;
        }
        report.orders = orders;
        report.skus = u64::from(replay.tables.skus.len());
        report.torn_shards = report_of(&shards).torn_shards;
    }
    Ok(report)
}

/// The checkpoints that an open could start from, the older first. One before these was left over: its
/// log may be recycled, and the next checkpoint removes it.
fn open_newest(folder: &Folder, manifest: &Manifest) -> Result<Vec<CheckpointFile>, OpenError> {
    let storage = folder.storage();
    let numbers = checkpoint::list(storage)?;
    let newest = numbers[numbers.len().saturating_sub(2)..].iter();
    let open = |number: &u64| {
        let path = checkpoint::path(*number);
        let file = CheckpointFile::open(storage, &path, manifest.engine_id);
        let file = file.map_err(|unusable| unusable.into_error(folder.path(&path)))?;
        check_head(&file, *number, manifest)?;
        Ok(file)
    };
    newest.map(open).collect()
}

/// What an open would come to that starts from this checkpoint, or from the log's beginning.
fn replay_from(
    log: &Log<'_>,
    options: &Options,
    keep: Keep,
    file: Option<&CheckpointFile>,
) -> Result<(Vec<ShardReplay>, Replay, u64), OpenError> {
    let Log { folder, manifest, files, .. } = *log;
    let head: Option<&Head> = file.map(|file| &file.head);
    let progress = Progress::new(None);
    let (tables, states) = Tables::new(options, keep, manifest, head)?;
    if let Some(file) = file {
        load(options.recovery_threads(), file, &tables, &states, &progress)
            .map_err(|unusable| unusable.into_error(file.path().clone()))?;
    }
    let replay = Replay::new(tables, options.adjust_retention_ms());
    let from = Head::begins(head, files.len());
    let shards = log.replay(&replay, &states, &from, None, &progress)?;
    cut::check_vectors(folder, manifest, &shards)?;
    cut::check_ends(folder, manifest, &shards, head.map_or(&[], std::slice::from_ref))?;
    replay.check_ends(folder)?;
    replay.add_up(&states, folder)?;
    let orders = states.iter().map(|state| state.lock().orders.len()).sum();
    Ok((shards, replay, orders))
}

fn levels(replay: &Replay) -> Vec<StockLevels> {
    let mut levels: Vec<_> = replay.tables.skus.iter().map(|sku| sku.levels()).collect();
    levels.sort_unstable_by_key(|levels| levels.sku);
    levels
}

fn disagree(
    folder: &Folder,
    file: Option<&CheckpointFile>,
    expected: &[StockLevels],
    found: &[StockLevels],
) -> OpenError {
    let differs = expected.iter().zip(found).find(|(expected, found)| expected != found);
    let path = file.map_or_else(|| folder.path(""), |file| file.path().clone());
    OpenError::Corrupt {
        shard: None,
        path,
        offset: 0,
        damage: format!("it and one before it come to another stock: {differs:?}"),
    }
}
