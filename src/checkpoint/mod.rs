//! Checkpoints: files that hold what the log up to a moment comes to, so that what lies before it need
//! not be read again, nor kept.
//!
//! A checkpoint is *fuzzy*: it is copied part by part while orders go on. Its meaning comes from
//! the marks that it carries:
//!
//! - a lane's *begin*: the lane's last record when its part was begun. All records up to it are in.
//! - an order's (or SKU's) *last LSN*: its records up to that one are in, later ones are not.
//! - a part's *next sequence*: orders from this one on are not in; their records lie behind the begin.
//! - a lane's *end*: no record behind it is in.
//! - a shard's *begin*: a position in its log, taken before any part was begun, so that every record
//!   behind a lane's begin lies behind it; the replay starts there.
//! - a shard's *end*: blocks that were durable before the checkpoint counted, those of every lane's end
//!   among them. A log that does not reach it has lost something.
//!
//! - which sales are counted, and what buyers have of them, have LSNs of their own: all records up to them
//!   are in, none behind. No sale begins or ends between that of the sales and those of the buyers.
//! - no order leaves memory from before the first begin until all is copied, so what retired orders
//!   sold is of the begins of all lanes at once, and every order that a later record is about is there.
//!
//! Replaying the log from the begins, and skipping what the marks say is in, restores the state at the log's end
//! exactly. What is available is not stored: it is what is stocked, less what orders have (rule R16).
//!
//! Invariants:
//! - A file with a checkpoint's name is whole and durable, and so is the log up to its end: it is written
//!   as `prepare`, synced, read back, renamed, and the folder is synced, after the log is durable. It may
//!   be longer than it says: it was written over one that was given up.
//! - The newest two are kept. A segment of the log is recycled only when it lies before the begin of the
//!   *older* one: should the newer be damaged, the older and its log are there.
//! - Numbers count up; a number is not used again within one open, and number and epoch together never.
//!
//! A crash, or a failed call, at any point of a checkpoint leaves the two before it and their log as
//! they were: until the rename nothing but `prepare` is touched, which no open reads; the rename is
//! atomic; segments are released and older files given up only after it is durable.

mod capture;
mod chunk;
mod head;
mod requests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use capture::{PartitionCursor, SkuCursor};
pub(crate) use chunk::{
    AdjustedEntry, BuyerEntry, CHUNK_BYTES_MAX, ChunkBuffer, ChunkId, ChunkKind, ChunkView,
    GapEntry, LineEntry, MerchantEntry, ORDER_DEFAULT_HOLD, ORDER_KEY_UUID_V7, ORDER_POLICY_SHIFT,
    OrderEntry, OrderParts, RefusalEntry, SaleEntry, SkuEntry, SwitchEntry, WaitedEntry,
    ms_of_bytes,
};
use head::NotWhole;
pub(crate) use head::{Head, LaneMarks, Part, ShardSpan, head_bytes};
pub use requests::{Checkpoint, Checkpointing};
pub(crate) use requests::{CheckpointRequests, Slot};

use crate::error::OpenError;
use crate::log::{FORMAT_VERSION, LOST_AND_FOUND};
use crate::storage::{ALIGN_BYTES, Access, AlignedBuffer, Storage, StorageFile};

/// The folder that holds the checkpoints.
pub(crate) const CHECKPOINT_FOLDER: &str = "checkpoints";
/// A checkpoint that is not finished.
pub(crate) const PREPARE_PATH: &str = "checkpoints/prepare";
const PREPARE: &str = "prepare";

/// The path of a checkpoint.
pub(crate) fn path(number: u64) -> String {
    format!("{CHECKPOINT_FOLDER}/{number:010}.checkpoint")
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".checkpoint").filter(|digits| digits.len() == 10)?.parse().ok()
}

/// The numbers of the folder's checkpoints, ascending; a foreign name as an error.
pub(crate) fn list(storage: &dyn Storage) -> Result<Vec<u64>, OpenError> {
    let folder = || storage.root().join(CHECKPOINT_FOLDER);
    let names = match storage.list(CHECKPOINT_FOLDER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(|error| OpenError::io("list", folder(), error))?,
    };
    let mut numbers = Vec::new();
    for name in names.into_iter().filter(|name| name != PREPARE && name != LOST_AND_FOUND) {
        let foreign = || OpenError::NotAnEngine { path: folder(), found: name.clone() };
        numbers.push(number(&name).ok_or_else(foreign)?);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Why a checkpoint cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It is not whole; one before it may do.
    Damaged { offset: u64, damage: String },
    /// The folder is not to be opened.
    Refused(OpenError),
}

impl Unusable {
    /// Why the folder is refused, when no other checkpoint will do.
    pub(crate) fn into_error(self, path: PathBuf) -> OpenError {
        match self {
            Self::Refused(error) => error,
            Self::Damaged { offset, damage } => {
                OpenError::Corrupt { shard: None, path, offset, damage }
            }
        }
    }
}

/// A checkpoint whose head is whole.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    pub(crate) head: Head,
    file: Arc<dyn StorageFile>,
    path: PathBuf,
}

impl CheckpointFile {
    /// Opens a checkpoint of this engine. Reads past the page cache: what counts is what the disk has.
    pub(crate) fn open(
        storage: &dyn Storage,
        path: &str,
        engine_id: [u8; 16],
    ) -> Result<Self, Unusable> {
        let full_path = storage.root().join(path);
        let io = |operation, error| Unusable::Refused(OpenError::io(operation, &full_path, error));
        let file = storage.open(path, Access::Direct).map_err(|error| io("open", error))?;
        let mut first = AlignedBuffer::zeroed(ALIGN_BYTES);
        let read = file.read_at(&mut first, 0).map_err(|error| io("read", error))?;
        let whole = |found: Result<usize, NotWhole>| {
            found.map_err(|not_whole| not_whole.into_unusable(&full_path))
        };
        let mut bytes = AlignedBuffer::zeroed(whole(Head::bytes(&first[..read]))?);
        let read = file.read_at(&mut bytes, 0).map_err(|error| io("read", error))?;
        let head = Head::decode(&bytes[..read])
            .map_err(|not_whole| not_whole.into_unusable(&full_path))?;
        if head.engine_id != engine_id {
            return Err(Unusable::Refused(OpenError::Corrupt {
                shard: None,
                path: full_path,
                offset: 0,
                damage: "a checkpoint of another engine".into(),
            }));
        }
        let len = file.len().map_err(|error| io("measure", error))?;
        // Behind it there may be more of one that it was written over.
        if len < head.file_bytes {
            let damage = format!("it has {len} bytes, but its head says {}", head.file_bytes);
            return Err(Unusable::Damaged { offset: len, damage });
        }
        Ok(Self { head, file, path: full_path })
    }

    /// Reads the chunks of a part.
    pub(crate) fn chunks(&self, part: usize) -> ChunkCursor {
        let Part { offset, bytes, first_chunk, chunks, .. } = self.head.parts[part];
        ChunkCursor {
            part: part as u32,
            offset,
            end: offset + bytes,
            nth: first_chunk,
            left: chunks,
        }
    }

    /// The next chunk, whole; `None` behind the part's last one.
    pub(crate) fn next_chunk<'a>(
        &self,
        cursor: &mut ChunkCursor,
        buffer: &'a mut AlignedBuffer,
    ) -> Result<Option<ChunkView<'a>>, Unusable> {
        let ChunkCursor { offset, end, part, nth, left } = *cursor;
        if left == 0 {
            return match offset == end {
                true => Ok(None),
                false => Err(Unusable::Damaged { offset, damage: "bytes between parts".into() }),
            };
        }
        let wanted = (buffer.len() as u64).min(end - offset) as usize;
        let read = self
            .file
            .read_at(&mut buffer[..wanted], offset)
            .map_err(|error| Unusable::Refused(OpenError::io("read", &self.path, error)))?;
        let id = ChunkId { number: self.head.number, epoch: self.head.epoch, part, nth };
        let view = ChunkView::parse(&buffer[..read], id)
            .map_err(|damage| Unusable::Damaged { offset, damage: damage.into() })?;
        *cursor = ChunkCursor {
            offset: offset + view.bytes as u64,
            nth: nth + 1,
            left: left - 1,
            ..*cursor
        };
        Ok(Some(view))
    }

    /// Reads it all: whether every chunk is whole.
    pub(crate) fn check(&self) -> Result<(), Unusable> {
        let mut buffer = AlignedBuffer::zeroed(CHUNK_BYTES_MAX);
        for part in 0..self.head.parts.len() {
            let mut cursor = self.chunks(part);
            while self.next_chunk(&mut cursor, &mut buffer)?.is_some() {}
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }
}

impl NotWhole {
    fn into_unusable(self, path: &std::path::Path) -> Unusable {
        match self {
            Self::Damaged(what) => Unusable::Damaged { offset: 0, damage: what.into() },
            Self::Newer(found) => Unusable::Refused(OpenError::NewerFormat {
                path: path.into(),
                found,
                known: FORMAT_VERSION,
            }),
        }
    }
}

/// How far the chunks of a part have been read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkCursor {
    part: u32,
    offset: u64,
    end: u64,
    nth: u32,
    left: u32,
}

impl ChunkCursor {
    /// Where the chunk that was just read ends.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}
