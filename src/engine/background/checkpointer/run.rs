//! A checkpoint on its way: what is copied, written, read back and published, a step at a time.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::checkpoint::{
    self, CHECKPOINT_FOLDER, CheckpointFile, ChunkBuffer, ChunkCursor, ChunkId, Head, LaneMarks,
    PREPARE_PATH, Part, PartitionCursor, ShardSpan, SkuCursor, Slot, Unusable, head_bytes,
};
use crate::engine::core::Core;
use crate::log::{LogPosition, Segments};
use crate::mutants::{self, Mutant};
use crate::recovery::CheckpointsFound;
use crate::storage::{AlignedBuffer, StorageFile, remove_if_there};
use crate::sync::Ordering;

/// How much is written at once: the log's own writes come in between.
const PIECE_BYTES: usize = 256 << 10;
/// The file is synced after this many bytes, so that no sync is long.
const SYNC_BYTES: u64 = 8 << 20;
const READING_BACK: &str = "reading back";

/// Removes the checkpoints that the open found damaged.
///
/// An open reads all of the checkpoint that it loads, and only the header of the one before it. A damaged checkpoint
/// with a whole header would pass for that older one. The engine would then recycle the log that the last whole
/// checkpoint needs.
fn remove_damaged(core: &Core, damaged: &[u64]) -> Result<(), Failure> {
    let storage = core.storage.as_ref();
    for path in damaged.iter().map(|number| checkpoint::path(*number)) {
        remove_if_there(storage, &path).map_err(failed("removal", &path))?;
    }
    if damaged.is_empty() {
        return Ok(());
    }
    storage.sync_folder(CHECKPOINT_FOLDER).map_err(failed("sync of the folder", CHECKPOINT_FOLDER))
}

/// As long as it lives, no order leaves memory.
struct Pause(Arc<Core>);

impl Pause {
    fn new(core: &Arc<Core>) -> Self {
        // Seen by every thread that locks a partition after it was begun, because this thread locked it then.
        core.retirement_paused.store(true, Ordering::Relaxed);
        Self(core.clone())
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.retirement_paused.store(false, Ordering::Relaxed);
    }
}

/// A checkpoint on its way.
pub(super) struct Run {
    /// Until all is copied.
    pause: Option<Pause>,
    number: u64,
    file: Arc<dyn StorageFile>,
    /// Where each shard's log stood before anything was copied.
    begins: Vec<LogPosition>,
    pub(super) begin_bytes: u64,
    lanes: Vec<LaneMarks>,
    parts: Vec<Part>,
    /// What is sealed of the chunk and not yet written, and what is written and not yet synced.
    unwritten: Range<usize>,
    unsynced_bytes: u64,
    /// Where the file goes on, and how many chunks it has.
    offset: u64,
    chunks: u32,
    /// Checkpoints that the open found damaged.
    damaged: Vec<u64>,
    stage: Stage,
    pub(super) slots: Vec<Arc<Slot>>,
}

enum Stage {
    Partition(PartitionCursor),
    Skus(SkuCursor),
    AwaitLog,
    /// Where each shard's log stood when all that was copied was durable, and how many are synced.
    SyncLog(Vec<LogPosition>, usize),
    WriteHead(Vec<LogPosition>),
    ReadBack(ReadBack),
    Publish(Head),
}

pub(super) enum Progress {
    Worked,
    Waiting,
    Published(Head),
}

pub(super) struct Failure {
    pub(super) operation: &'static str,
    pub(super) detail: String,
}

pub(super) fn failed(operation: &'static str, path: &str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure { operation, detail: format!("{path}: {error}") }
}

impl Run {
    pub(super) fn begin(
        core: &Arc<Core>,
        found: &CheckpointsFound,
        file: Arc<dyn StorageFile>,
        begin_bytes: u64,
    ) -> Self {
        // A request from here on receives the next checkpoint: this one may miss what the caller did before.
        let slots = core.checkpoint_requests.take();
        let pause = Some(Pause::new(core));
        // Before any part is begun: what is not in the log by now is behind its lane's begin. No sale is being
        // ended meanwhile, so that a replay that finds the end in a partition's lane finds it in the home lane.
        let begins = {
            let _passing = core.passing.lock();
            core.marks.positions()
        };
        Self {
            pause,
            number: found.next_number,
            damaged: found.damaged.clone(),
            file,
            unwritten: 0..0,
            unsynced_bytes: 0,
            begins,
            begin_bytes,
            lanes: Vec::new(),
            parts: Vec::new(),
            offset: head_bytes(core.partitions.len(), core.shards.len()) as u64,
            chunks: 0,
            stage: Stage::Partition(PartitionCursor::begin(&core.partitions[0])),
            slots,
        }
    }

    pub(super) fn go_on(
        &mut self,
        core: &Core,
        segments: &[Arc<Segments>],
        chunk: &mut ChunkBuffer,
    ) -> Result<Progress, Failure> {
        if !self.unwritten.is_empty() {
            self.write_piece(chunk)?;
            return Ok(Progress::Worked);
        }
        match &mut self.stage {
            Stage::Partition(cursor) => {
                let partition = &core.partitions[self.lanes.len()];
                let is_done = cursor.fill(partition, &core.skus, chunk);
                let (marks, next_sequence, retired_to_ms) =
                    (cursor.marks, cursor.next_sequence, cursor.retired_to_ms);
                self.seal(core, chunk);
                if is_done {
                    self.lanes.push(marks);
                    if let Some(part) = self.parts.last_mut() {
                        (part.next_sequence, part.retired_to_ms) = (next_sequence, retired_to_ms);
                    }
                    self.stage = self.next_part(core);
                }
            }
            Stage::Skus(cursor) => {
                let is_done = cursor.fill(&core.skus, &core.switches, chunk);
                if is_done {
                    cursor.note_end(core.sku_lanes());
                }
                let marks = is_done.then(|| std::mem::take(&mut cursor.marks));
                self.seal(core, chunk);
                if let Some(marks) = marks {
                    self.lanes.extend(marks);
                    self.stage = Stage::AwaitLog;
                    self.pause = None;
                }
            }
            Stage::AwaitLog => match self.is_logged(core) {
                true => self.stage = after_log(core),
                false => return Ok(Progress::Waiting),
            },
            Stage::SyncLog(ends, synced) => match segments.get(*synced) {
                Some(segments) => {
                    sync_log(core, segments)?;
                    *synced += 1;
                }
                None => self.stage = Stage::WriteHead(std::mem::take(ends)),
            },
            Stage::WriteHead(ends) => {
                let ends = std::mem::take(ends);
                let head = self.write_head(core, &ends)?;
                self.stage = Stage::ReadBack(read_back(core, &head)?);
            }
            Stage::ReadBack(reading) => {
                if reading.go_on(chunk.as_memory()).map_err(reads_otherwise)? {
                    self.stage = Stage::Publish(reading.file.head.clone());
                }
            }
            Stage::Publish(head) => {
                publish(core, self.number, &self.damaged)?;
                return Ok(Progress::Published(head.clone()));
            }
        }
        Ok(Progress::Worked)
    }

    fn next_part(&self, core: &Core) -> Stage {
        match core.partitions.get(self.lanes.len()) {
            Some(partition) => Stage::Partition(PartitionCursor::begin(partition)),
            None => {
                let lanes = core.sku_lanes();
                Stage::Skus(SkuCursor::begin(lanes, &core.skus, &core.switches))
            }
        }
    }

    /// Whether the log is durable up to all that was copied.
    fn is_logged(&self, core: &Core) -> bool {
        let mut lanes = core.lanes.iter().zip(&self.lanes);
        lanes.all(|(lane, marks)| lane.is_durable(marks.end_lsn))
            || mutants::is(Mutant::PublishesBeforeLogIsDurable)
    }

    /// Writes what was copied of the part whose lanes' marks come next.
    fn seal(&mut self, core: &Core, chunk: &mut ChunkBuffer) {
        let nth_part = self.lanes.len();
        if self.parts.len() == nth_part {
            let (offset, first_chunk) = (self.offset, self.chunks);
            self.parts.push(Part { offset, first_chunk, ..Part::default() });
        }
        if chunk.is_empty() {
            return;
        }
        let entries = u64::from(chunk.counted_entries());
        let id = ChunkId {
            number: self.number,
            epoch: core.manifest.epoch,
            part: nth_part as u32,
            nth: self.chunks,
        };
        self.unwritten = 0..chunk.seal(id).len();
        self.chunks += 1;
        let part = &mut self.parts[nth_part];
        part.bytes += self.unwritten.len() as u64;
        part.entries += entries;
        part.chunks += 1;
    }

    fn write_piece(&mut self, chunk: &ChunkBuffer) -> Result<(), Failure> {
        let Range { start, end } = self.unwritten;
        let next = end.min(start + PIECE_BYTES);
        let piece = &chunk.sealed()[start..next];
        self.file.write_at(piece, self.offset).map_err(failed("write", PREPARE_PATH))?;
        self.unwritten.start = next;
        self.offset += piece.len() as u64;
        self.unsynced_bytes += piece.len() as u64;
        if self.unsynced_bytes >= SYNC_BYTES {
            self.file.sync().map_err(failed("sync", PREPARE_PATH))?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    fn write_head(&mut self, core: &Core, ends: &[LogPosition]) -> Result<Head, Failure> {
        let spans = self.begins.iter().zip(ends);
        let head = Head {
            engine_id: core.manifest.engine_id,
            number: self.number,
            epoch: core.manifest.epoch,
            file_bytes: self.offset,
            chunks: self.chunks,
            time: core.time.mark(),
            lanes: self.lanes.clone(),
            parts: self.parts.clone(),
            shards: spans.map(|(begin, end)| ShardSpan { begin: *begin, end: end.mark }).collect(),
        };
        self.file.write_at(&head.encode(), 0).map_err(failed("write", PREPARE_PATH))?;
        self.file.sync().map_err(failed("sync", PREPARE_PATH))?;
        Ok(head)
    }
}

/// A file that is being read, chunk by chunk: whether all of it is whole.
pub(super) struct ReadBack {
    file: CheckpointFile,
    part: usize,
    cursor: ChunkCursor,
}

impl ReadBack {
    pub(super) fn new(file: CheckpointFile) -> Self {
        let cursor = file.chunks(0);
        Self { file, part: 0, cursor }
    }

    /// Reads one chunk; whether that was all.
    pub(super) fn go_on(&mut self, buffer: &mut AlignedBuffer) -> Result<bool, Unusable> {
        if self.file.next_chunk(&mut self.cursor, buffer)?.is_some() {
            return Ok(false);
        }
        self.part += 1;
        if self.part == self.file.head.parts.len() {
            return Ok(true);
        }
        self.cursor = self.file.chunks(self.part);
        Ok(false)
    }
}

/// Returns the stage that follows once the log is durable up to all that was copied.
fn after_log(core: &Core) -> Stage {
    let ends = core.marks.positions();
    match core.manifest.synced {
        true => Stage::WriteHead(ends),
        false => Stage::SyncLog(ends, 0),
    }
}

/// Opens the file that was written, and compares its head: a disk that lost the writes shows an older one.
fn read_back(core: &Core, head: &Head) -> Result<ReadBack, Failure> {
    let file = CheckpointFile::open(core.storage.as_ref(), PREPARE_PATH, core.manifest.engine_id);
    let file = file.map_err(reads_otherwise)?;
    if file.head != *head {
        let detail = format!("{PREPARE_PATH}: the head is that of {}", file.head.number);
        return Err(Failure { operation: READING_BACK, detail });
    }
    Ok(ReadBack::new(file))
}

/// Publishes the file under its name, durably.
fn publish(core: &Core, number: u64, damaged: &[u64]) -> Result<(), Failure> {
    let (path, storage) = (checkpoint::path(number), core.storage.as_ref());
    remove_damaged(core, damaged)?;
    storage.rename(PREPARE_PATH, &path).map_err(failed("renaming to", &path))?;
    storage.sync_folder(CHECKPOINT_FOLDER).map_err(failed("sync of the folder of", &path))
}

/// A log that cannot be synced is latched, as it is by its keeper.
fn sync_log(core: &Core, segments: &Segments) -> Result<(), Failure> {
    segments.sync_written().map_err(|error| {
        core.latch.set("sync of the log for a checkpoint", &error.path, &error.source);
        failed("sync of the log", &error.path)(error.source)
    })
}

fn reads_otherwise(unusable: Unusable) -> Failure {
    let detail = match unusable {
        Unusable::Damaged { offset, damage } => {
            format!("{PREPARE_PATH} at byte {offset}: {damage}")
        }
        Unusable::Refused(error) => error.to_string(),
    };
    Failure { operation: READING_BACK, detail }
}
