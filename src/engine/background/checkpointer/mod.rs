//! Takes checkpoints, one small step after the other: each makes at most a few calls to the disk, and
//! holds no lock across one.
//!
//! The order of the steps is what makes a checkpoint true whenever it is there (see
//! [`checkpoint`](crate::checkpoint)):
//!
//! 1. Let no more orders leave memory until all parts are copied. Note where each shard's log stands;
//!    only then copy the parts.
//! 2. Wait until the log is durable up to all that was copied.
//! 3. Note where each shard's log stands now. Where the log is only written, sync it: all that those
//!    blocks, and those that they name, rest on was written before (rule R12).
//! 4. Write the head, sync the file, read it all back.
//! 5. Remove those that the open found damaged. Rename, sync the folder: now it counts.
//! 6. Release the log before the older of the two that are left. The next checkpoint is written over the third:
//!    removing a large file would delay the log's writes, and a file written before is synced sooner. Number and
//!    epoch in every chunk tell what is left of the old file from what is new.

mod run;

use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::{
    self, CHECKPOINT_FOLDER, Checkpoint, CheckpointFile, ChunkBuffer, Head, PREPARE_PATH, Slot,
};
use crate::engine::core::Core;
use crate::error::{CheckpointError, Unavailable};
use crate::log::Segments;
use crate::recovery::{CheckpointsFound, KeptCheckpoint};
use crate::storage::{Access, StorageFile, remove_if_there};
use crate::sync::Ordering;
use run::{Failure, Progress, ReadBack, Run, failed};

/// After a failure the next one is due when this part of the usual log bytes is written.
const RETRY_DIVISOR: u64 = 4;
/// After a step the checkpointer rests for this many times its length: it takes a quarter of a processor and of the
/// disk's time.
const REST_FACTOR: u32 = 3;
/// No rest is longer.
const REST_MAX: Duration = Duration::from_millis(20);
/// None is shorter while the log's writers are behind.
const REST_BEHIND: Duration = Duration::from_millis(5);
/// A file longer than this many checkpoints is removed, and not written over.
const SPARE_CHECKPOINTS: u64 = 2;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckpointStep {
    /// No checkpoint is asked for or due.
    Idle,
    /// It went on.
    Worked,
    /// It goes on when the log's writers have gone on.
    Waiting,
}

pub(crate) struct Checkpointer {
    core: Arc<Core>,
    segments: Vec<Arc<Segments>>,
    found: CheckpointsFound,
    /// Log bytes, as [`Checkpointer::log_bytes`] counts them, at which the next one is due.
    due_bytes: u64,
    /// Made for the first checkpoint.
    chunk: Option<ChunkBuffer>,
    run: Option<Run>,
    /// A checkpoint that was given up is there to be written over, and durably has no name of its own.
    has_spare: bool,
    /// Recovery read only the header of the older checkpoint. The log before it is kept until the whole file is
    /// verified: if it is damaged, that log is the only fallback.
    older: Older,
}

/// See [`Checkpointer`].
enum Older {
    /// Nothing hangs on it, or not any more.
    Settled,
    Unread,
    Reading(Box<ReadBack>),
}

impl Checkpointer {
    pub(crate) fn new(
        core: Arc<Core>,
        segments: Vec<Arc<Segments>>,
        found: CheckpointsFound,
    ) -> Self {
        let due_bytes = core.checkpoint_bytes.max(found.newest_bytes);
        let mut shards = segments.iter().enumerate();
        let older = match shards.any(|(shard, it)| it.has_before(found.needed_ordinal(shard))) {
            true => Older::Unread,
            false => Older::Settled,
        };
        Self { core, segments, found, due_bytes, chunk: None, run: None, has_spare: false, older }
    }

    /// Goes on with a checkpoint, or begins one if it is asked for or due.
    pub(crate) fn step(&mut self) -> CheckpointStep {
        if let Err(unavailable) = self.core.check_open() {
            self.answer(Err(unavailable.into()));
            self.run = None;
            return CheckpointStep::Idle;
        }
        if self.run.is_none() && !self.is_due() {
            return self.read_older();
        }
        match self.go_on() {
            Ok(step) => step,
            Err(Failure { operation, detail }) => {
                let wait_bytes = self.core.checkpoint_bytes / RETRY_DIVISOR;
                self.due_bytes = self.log_bytes().saturating_add(wait_bytes);
                self.core.checkpoint_counts.failed.fetch_add(1, Ordering::Relaxed);
                if self.run.is_some() {
                    // What is left of it is replaced by the next one.
                    let _ = self.core.storage.remove(PREPARE_PATH);
                }
                // Last: a waker may close the engine, and then the folder may be another's.
                self.answer(Err(CheckpointError::Failed { operation, detail }));
                self.run = None;
                CheckpointStep::Worked
            }
        }
    }

    /// Goes on with reading the older checkpoint; at its end the log before it is given up.
    fn read_older(&mut self) -> CheckpointStep {
        let read = match &mut self.older {
            Older::Settled => return CheckpointStep::Idle,
            Older::Unread => {
                let Some(older) = self.found.kept.first() else { return CheckpointStep::Idle };
                let path = checkpoint::path(older.number);
                let storage = self.core.storage.as_ref();
                let file = CheckpointFile::open(storage, &path, self.core.manifest.engine_id);
                file.map(|file| {
                    self.older = Older::Reading(Box::new(ReadBack::new(file)));
                    false
                })
            }
            Older::Reading(reading) => {
                reading.go_on(self.chunk.get_or_insert_with(ChunkBuffer::new).as_memory())
            }
        };
        match read {
            Ok(false) => {}
            Ok(true) => self.settle_older(),
            Err(_) => {
                // It is none to fall back to.
                let older = self.found.kept.remove(0);
                self.found.damaged.push(older.number);
                self.older = Older::Settled;
            }
        }
        CheckpointStep::Worked
    }

    fn settle_older(&mut self) {
        let backups = self.core.backups.lock();
        if backups.running == 0 {
            self.release_log();
        }
        drop(backups);
        // If a backup runs, the next checkpoint does it.
        self.older = Older::Settled;
    }

    /// What lies before the older of two checkpoints is not needed any more.
    fn release_log(&self) {
        for (shard, segments) in self.segments.iter().enumerate() {
            segments.release_before(self.found.needed_ordinal(shard));
        }
    }

    fn is_due(&self) -> bool {
        self.core.checkpoint_requests.is_asked() || self.log_bytes() >= self.due_bytes
    }

    /// How long to rest after a step that took so long. The longer the log has become since the checkpoint
    /// was begun, the shorter: it must be over before the next one is due.
    pub(crate) fn rest(&self, worked: Duration) -> Duration {
        let Some(run) = &self.run else { return Duration::ZERO };
        let factor = match self.log_bytes().saturating_sub(run.begin_bytes) {
            grown if grown < self.core.checkpoint_bytes / 2 => REST_FACTOR,
            grown if grown < self.core.checkpoint_bytes => 1,
            _ => return Duration::ZERO,
        };
        let is_behind = !self.core.lanes.iter().all(|lane| lane.has_ample_room());
        let least = if is_behind { REST_BEHIND } else { Duration::ZERO };
        (worked * factor).clamp(least, REST_MAX)
    }

    /// Bytes of the log behind the checkpoint with which the engine was opened.
    fn log_bytes(&self) -> u64 {
        let written = self.core.counters.iter();
        let written = written.map(|counters| counters.written_bytes.load(Ordering::Relaxed));
        self.found.log_bytes + written.sum::<u64>()
    }

    /// The callers that wait for the checkpoint that is on its way, or else for the next one.
    fn answer(&mut self, answer: Result<Checkpoint, CheckpointError>) {
        let slots = match &mut self.run {
            Some(run) => std::mem::take(&mut run.slots),
            None => self.core.checkpoint_requests.take(),
        };
        self.answer_all(&slots, &answer);
    }

    fn answer_all(&self, slots: &[Arc<Slot>], answer: &Result<Checkpoint, CheckpointError>) {
        self.core.wakes.push(slots.iter().filter_map(|slot| slot.answer(answer.clone())));
    }

    fn go_on(&mut self) -> Result<CheckpointStep, Failure> {
        let Some(run) = &mut self.run else {
            let begin_bytes = self.log_bytes();
            let file = prepare(&self.core, std::mem::take(&mut self.has_spare), &self.found)?;
            self.run = Some(Run::begin(&self.core, &self.found, file, begin_bytes));
            self.found.next_number += 1;
            return Ok(CheckpointStep::Worked);
        };
        let chunk = self.chunk.get_or_insert_with(ChunkBuffer::new);
        match run.go_on(&self.core, &self.segments, chunk)? {
            Progress::Worked => Ok(CheckpointStep::Worked),
            Progress::Waiting => Ok(CheckpointStep::Waiting),
            Progress::Published(head) => {
                self.conclude(&head);
                Ok(CheckpointStep::Worked)
            }
        }
    }

    /// A new checkpoint counts.
    fn conclude(&mut self, head: &Head) {
        self.found.damaged.clear();
        let kept = &mut self.found.kept;
        kept.push(KeptCheckpoint::new(head));
        if kept.len() > 2 {
            kept.remove(0);
        }
        // What is kept now was read by the open or read back.
        self.older = Older::Settled;
        let mut backups = self.core.backups.lock();
        backups.newest = Some(head.number);
        if backups.running == 0
            && let Some(has_spare) = give_up_others(&self.core, &self.found.kept)
        {
            self.has_spare = has_spare;
            // Not before: one that came back after a loss of power would want its log.
            self.release_log();
        }
        drop(backups);
        let found = &mut self.found;
        found.newest_bytes = head.file_bytes;
        let begin_bytes = self.run.as_ref().map_or(0, |run| run.begin_bytes);
        let usual_bytes = self.core.checkpoint_bytes.max(head.file_bytes);
        self.due_bytes = begin_bytes.saturating_add(usual_bytes);
        self.core.checkpoint_counts.taken.fetch_add(1, Ordering::Relaxed);
        let (number, orders, bytes) = (head.number, head.orders(), head.file_bytes);
        self.answer(Ok(Checkpoint { number, orders, bytes }));
        self.run = None;
    }
}

impl Drop for Checkpointer {
    /// However the checkpoint ends, no caller waits for it any more.
    fn drop(&mut self) {
        let why = self.core.latch.check().err().unwrap_or(Unavailable::Closed);
        let answer = Err(why.into());
        self.answer_all(&self.core.checkpoint_requests.close(), &answer);
        if self.run.is_some() {
            self.answer(answer);
        }
    }
}

impl std::fmt::Debug for Checkpointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpointer").field("found", &self.found).finish_non_exhaustive()
    }
}

/// Makes the oldest that is not kept the spare, and removes others; when that is durable, whether there is
/// a spare. One that stays costs room, its log's too, and is given up by a later round.
fn give_up_others(core: &Core, kept: &[KeptCheckpoint]) -> Option<bool> {
    let storage = core.storage.as_ref();
    let mut numbers = checkpoint::list(storage).ok()?;
    numbers.retain(|number| kept.iter().all(|kept| kept.number != *number));
    let mut paths = numbers.into_iter().map(checkpoint::path);
    let oldest = paths.next();
    if let Some(path) = &oldest {
        storage.rename(path, PREPARE_PATH).ok()?;
    }
    for path in paths {
        storage.remove(&path).ok()?;
    }
    storage.sync_folder(CHECKPOINT_FOLDER).ok()?;
    Some(oldest.is_some())
}

/// The file to write into.
fn prepare(
    core: &Core,
    has_spare: bool,
    found: &CheckpointsFound,
) -> Result<Arc<dyn StorageFile>, Failure> {
    core.look_at_place();
    let storage = core.storage.as_ref();
    let made = storage.create_folder(CHECKPOINT_FOLDER).and_then(|()| storage.sync_folder(""));
    made.map_err(failed("making the folder", CHECKPOINT_FOLDER))?;
    if has_spare {
        let failed = failed("opening", PREPARE_PATH);
        let file = storage.open(PREPARE_PATH, Access::Direct).map_err(&failed)?;
        if file.len().map_err(failed)? <= found.newest_bytes.saturating_mul(SPARE_CHECKPOINTS) {
            return Ok(file);
        }
    }
    remove_if_there(storage, PREPARE_PATH).map_err(failed("removal", PREPARE_PATH))?;
    storage.create(PREPARE_PATH, Access::Direct).map_err(failed("creation", PREPARE_PATH))
}
