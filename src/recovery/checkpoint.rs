//! Which checkpoint a recovery starts from.
//!
//! | what is found | verdict |
//! |---|---|
//! | the newest is whole | it, and the log behind its begin |
//! | the newest is cut short or damaged | the one before, and the log behind that one's begin; the report says so |
//! | none is whole, and the log goes back to its first segment | the whole log; the report says so |
//! | none is whole or none is there, and the log's first segments were recycled | corrupt: refused |
//! | one of another engine or shape, or of a later open than the manifest | corrupt: refused |
//! | one of a newer format | refused |
//! | a read error | refused |
//!
//! What any whole head says was durable must be in the log, whichever checkpoint is used.

use std::path::PathBuf;

use crate::bounds::Keep;
use crate::checkpoint::{self, CheckpointFile, Head, Unusable};
use crate::error::OpenError;
use crate::log::{LogPosition, Manifest};
use crate::mutants::{self, Mutant};
use crate::options::Options;
use crate::partition::PartitionState;
use crate::recovery::folder::Folder;
use crate::recovery::load::load;
use crate::recovery::progress::Progress;
use crate::recovery::replay::{Replay, ShardReplay};
use crate::recovery::report::{RecoveryReport, report_of};
use crate::recovery::segments;
use crate::recovery::tables::Tables;
use crate::sync::Mutex;

/// A checkpoint that may be needed: its number, and in which segment each shard's log begins behind
/// it.
#[derive(Clone, Debug)]
pub(crate) struct KeptCheckpoint {
    pub(crate) number: u64,
    pub(crate) begin_ordinals: Vec<u64>,
}

impl KeptCheckpoint {
    pub(crate) fn new(head: &Head) -> Self {
        let begin_ordinals = head.shards.iter().map(|span| span.begin.ordinal).collect();
        Self { number: head.number, begin_ordinals }
    }
}

/// What a checkpointer goes on from.
#[derive(Debug, Default)]
pub(crate) struct CheckpointsFound {
    /// At most two, the older first.
    pub(crate) kept: Vec<KeptCheckpoint>,
    /// Those that are not whole.
    pub(crate) damaged: Vec<u64>,
    pub(crate) next_number: u64,
    /// Bytes of the newest one, and of the log behind it.
    pub(crate) newest_bytes: u64,
    pub(crate) log_bytes: u64,
}

impl CheckpointsFound {
    /// The first segment of a shard that the older of two checkpoints needs.
    pub(crate) fn needed_ordinal(&self, shard: usize) -> u64 {
        match &self.kept[..] {
            [_, newer] if mutants::is(Mutant::RecyclesBelowNewerCheckpoint) => {
                newer.begin_ordinals[shard]
            }
            [older, _] => older.begin_ordinals[shard],
            _ => 0,
        }
    }
}

/// Tables with a checkpoint in them, or empty ones, for the log to be applied to.
pub(super) struct Start {
    pub(super) replay: Replay,
    pub(super) states: Vec<Mutex<PartitionState>>,
    /// The checkpoint in them.
    pub(super) head: Option<Head>,
    /// All whole heads.
    pub(super) witnesses: Vec<Head>,
    /// How many are not whole.
    pub(super) damaged: usize,
    /// How long it took to take and touch memory, and to load the checkpoint.
    pub(super) memory_ns: u64,
    pub(super) load_ns: u64,
    pub(super) found: CheckpointsFound,
}

impl Start {
    /// The checkpoint in the tables, and the one that an open would fall back to.
    pub(super) fn kept_heads(&self) -> Vec<&Head> {
        let numbers = self.found.kept.iter().rev().map(|kept| kept.number);
        let head = |number| self.witnesses.iter().find(|head| head.number == number);
        numbers.filter_map(head).collect()
    }

    /// Where each shard's log is read from.
    pub(super) fn positions(&self, shards: usize) -> Vec<LogPosition> {
        Head::begins(self.head.as_ref(), shards)
    }

    /// What is known once the log was read.
    pub(super) fn report(&self, shards: &[ShardReplay]) -> RecoveryReport {
        RecoveryReport {
            checkpoint: self.head.as_ref().map(|head| head.number),
            checkpoint_orders: self.head.as_ref().map_or(0, Head::orders),
            checkpoints_damaged: self.damaged as u16,
            memory_us: self.memory_ns / 1000,
            checkpoint_us: self.load_ns / 1000,
            ..report_of(shards)
        }
    }
}

struct Damage {
    number: u64,
    path: PathBuf,
    offset: u64,
    damage: String,
}

/// Loads the newest whole checkpoint; `files` are the ordinals of each shard's segments.
pub(super) fn start(
    folder: &Folder,
    options: &Options,
    keep: Keep,
    manifest: &Manifest,
    files: &[Vec<u64>],
    progress: &Progress,
) -> Result<Start, OpenError> {
    let numbers = checkpoint::list(folder.storage())?;
    let (whole, mut damaged) = look(folder, manifest, &numbers)?;
    let mut loaded = None;
    let (mut memory_ns, mut load_ns) = (0, 0);
    let mut usable = Vec::new();
    for file in &whole {
        if let Some((_, _, used)) = &loaded {
            if is_fallback(&numbers, used, &file.head, files) {
                usable.push(KeptCheckpoint::new(&file.head));
            }
            break;
        }
        let began_ns = options.clock.boot_ns();
        let (tables, states) = Tables::new(options, keep, manifest, Some(&file.head))?;
        let made_ns = options.clock.boot_ns();
        segments::expect(folder, Some(&file.head), files, progress)?;
        let result = load(options.recovery_threads(), file, &tables, &states, progress);
        (memory_ns, load_ns) = (made_ns - began_ns, options.clock.boot_ns() - made_ns);
        match result {
            Ok(()) => {
                usable.push(KeptCheckpoint::new(&file.head));
                loaded = Some((tables, states, file.head.clone()));
            }
            Err(Unusable::Refused(error)) => return Err(error),
            Err(Unusable::Damaged { offset, damage }) => {
                let (number, path) = (file.head.number, file.path().clone());
                damaged.push(Damage { number, path, offset, damage });
            }
        }
    }
    usable.reverse();
    if loaded.is_none() && !segments::go_back(files) && !damaged.is_empty() {
        return Err(nothing_to_start_from(damaged.swap_remove(0)));
    }
    let newest_bytes = loaded.as_ref().map_or(0, |(_, _, head)| head.file_bytes);
    let (tables, states, head) = match loaded {
        Some((tables, states, head)) => (tables, states, Some(head)),
        None => {
            let began_ns = options.clock.boot_ns();
            let (tables, states) = Tables::new(options, keep, manifest, None)?;
            segments::expect(folder, None, files, progress)?;
            (memory_ns, load_ns) = (options.clock.boot_ns() - began_ns, 0);
            (tables, states, None)
        }
    };
    Ok(Start {
        replay: Replay::new(tables, options.adjust_retention_ms()),
        states,
        head,
        witnesses: whole.into_iter().map(|file| file.head).collect(),
        damaged: damaged.len(),
        memory_ns,
        load_ns,
        found: CheckpointsFound {
            kept: usable,
            damaged: damaged.iter().map(|damage| damage.number).collect(),
            next_number: numbers.last().map_or(0, |number| number + 1),
            newest_bytes,
            log_bytes: 0,
        },
    })
}

/// Whether an older checkpoint is one to fall back to. With a damaged one between them it may have been
/// left over, and its log be gone.
fn is_fallback(numbers: &[u64], used: &Head, older: &Head, files: &[Vec<u64>]) -> bool {
    let between = older.number + 1..used.number;
    let are_neighbours = !numbers.iter().any(|number| between.contains(number));
    are_neighbours || segments::missing_of(older, files).is_none()
}

/// The checkpoints whose heads are whole, the newest first, and what is wrong with the others.
fn look(
    folder: &Folder,
    manifest: &Manifest,
    numbers: &[u64],
) -> Result<(Vec<CheckpointFile>, Vec<Damage>), OpenError> {
    let storage = folder.storage();
    let (mut whole, mut damaged) = (Vec::new(), Vec::new());
    for number in numbers.iter().rev() {
        let path = checkpoint::path(*number);
        match CheckpointFile::open(storage, &path, manifest.engine_id) {
            Ok(file) => {
                check_head(&file, *number, manifest)?;
                whole.push(file);
            }
            Err(Unusable::Refused(error)) => return Err(error),
            Err(Unusable::Damaged { offset, damage }) => {
                let (number, path) = (*number, storage.root().join(path));
                damaged.push(Damage { number, path, offset, damage });
            }
        }
    }
    Ok((whole, damaged))
}

/// A whole head must be of this folder.
pub(super) fn check_head(
    file: &CheckpointFile,
    number: u64,
    manifest: &Manifest,
) -> Result<(), OpenError> {
    let head = &file.head;
    let of_shape = head.parts.len() == manifest.partitions as usize + 1
        && head.shards.len() == manifest.shards.len();
    let damage = if !of_shape {
        "a checkpoint of another number of partitions or log shards".into()
    } else if head.number != number {
        format!("checkpoint {} under the name of another", head.number)
    } else if head.epoch > manifest.epoch {
        format!("of open {}, but the manifest knows only {}", head.epoch, manifest.epoch)
    } else {
        return Ok(());
    };
    Err(OpenError::Corrupt { shard: None, path: file.path().clone(), offset: 0, damage })
}

fn nothing_to_start_from(Damage { path, offset, damage, .. }: Damage) -> OpenError {
    let damage = format!("{damage}; no other is whole, and the log before it was recycled");
    OpenError::Corrupt { shard: None, path, offset, damage }
}
