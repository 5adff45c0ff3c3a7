//! A checkpoint's file, and its head. The layout is defined here and in
//! [`chunk`](super::chunk), and nowhere else.
//!
//! ```text
//! head: HeadFixed | a LaneEntry a lane | a PartEntry a part | a ShardEntry a shard | hash | zeros
//! chunk: ChunkHeader | entries | zeros
//! chunk ...
//! ```
//!
//! A *part* is a partition, or, last, all SKUs. The chunks of a part follow each other; head and chunks
//! start at multiples of 4 KiB. All numbers are little-endian. The head is written last: it says how
//! long the file is, what each part holds, and where in the log the replay goes on.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checkpoint::chunk::{CHUNK_BYTES_MAX, OrderEntry};
use crate::clock::TimeMark;
use crate::ids::PARTITION_BITS;
use crate::log::{BlockMark, FORMAT_VERSION, LogPosition};
use crate::storage::{ALIGN_BYTES, AlignedBuffer};

const HEAD_MAGIC: [u8; 8] = *b"dbrCHKPT";
const HASH_BYTES: usize = 32;
const SHARDS_MAX: usize = 64;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HeadFixed {
    magic: [u8; 8],
    version: U16,
    shards: U16,
    partitions: U32,
    engine_id: [u8; 16],
    number: U64,
    epoch: U32,
    chunks: U32,
    file_bytes: U64,
    engine_ns: U64,
    boot_ns: U64,
    boot_id: U64,
    reserved: [u8; 48],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LaneEntry {
    begin_lsn: U64,
    end_lsn: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PartEntry {
    offset: U64,
    bytes: U64,
    entries: U64,
    next_sequence: U64,
    retired_to_ms: U64,
    first_chunk: U32,
    chunks: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MarkEntry {
    blocks: U64,
    epoch: U32,
    reserved: U32,
    hash: [u8; 32],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ShardEntry {
    begin: MarkEntry,
    begin_ordinal: U64,
    begin_offset: U64,
    end: MarkEntry,
}

/// How far a lane's records are in a checkpoint: all up to `begin_lsn`, some up to `end_lsn`, none
/// behind that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LaneMarks {
    pub(crate) begin_lsn: u64,
    pub(crate) end_lsn: u64,
}

/// Where a part's chunks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// Orders, or entries of SKUs.
    pub(crate) entries: u64,
    /// Orders with this sequence or a later one were placed after the part was begun.
    pub(crate) next_sequence: u64,
    /// When the last order finished that has left memory.
    pub(crate) retired_to_ms: u64,
    pub(crate) first_chunk: u32,
    pub(crate) chunks: u32,
}

impl Part {
    /// As many orders as it says, and no more than its bytes can hold.
    pub(crate) fn entries_max(&self) -> usize {
        self.entries.min(self.bytes / size_of::<OrderEntry>() as u64) as usize
    }
}

/// What a checkpoint says about a shard's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardSpan {
    /// Every record that is not in the checkpoint lies behind this.
    pub(crate) begin: LogPosition,
    /// All that the checkpoint holds lies before this, which was durable before it counted.
    pub(crate) end: BlockMark,
}

/// What stands in front of a checkpoint's chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) engine_id: [u8; 16],
    pub(crate) number: u64,
    pub(crate) epoch: u32,
    pub(crate) file_bytes: u64,
    pub(crate) chunks: u32,
    pub(crate) time: TimeMark,
    /// Those of the partitions, then one a shard for its SKUs.
    pub(crate) lanes: Vec<LaneMarks>,
    /// The partitions, then the SKUs.
    pub(crate) parts: Vec<Part>,
    pub(crate) shards: Vec<ShardSpan>,
}

/// Why bytes are no head or chunk of this checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotWhole {
    Damaged(&'static str),
    Newer(u16),
}

/// Bytes of the head of a checkpoint of this shape.
pub(crate) const fn head_bytes(partitions: usize, shards: usize) -> usize {
    content_bytes(partitions, shards).next_multiple_of(ALIGN_BYTES)
}

/// Without the zeros behind it.
const fn content_bytes(partitions: usize, shards: usize) -> usize {
    size_of::<HeadFixed>()
        + (partitions + shards) * size_of::<LaneEntry>()
        + (partitions + 1) * size_of::<PartEntry>()
        + shards * size_of::<ShardEntry>()
        + HASH_BYTES
}

impl Head {
    /// Where each shard's log is read from: behind this checkpoint, or from its beginning.
    pub(crate) fn begins(head: Option<&Self>, shards: usize) -> Vec<LogPosition> {
        let begin = |head: &Self, shard: usize| head.shards[shard].begin;
        (0..shards).map(|shard| head.map(|head| begin(head, shard)).unwrap_or_default()).collect()
    }

    pub(crate) fn encode(&self) -> AlignedBuffer {
        let (partitions, shards) = (self.parts.len() - 1, self.shards.len());
        let fixed = HeadFixed {
            magic: HEAD_MAGIC,
            version: FORMAT_VERSION.into(),
            shards: (shards as u16).into(),
            partitions: (partitions as u32).into(),
            engine_id: self.engine_id,
            number: self.number.into(),
            epoch: self.epoch.into(),
            chunks: self.chunks.into(),
            file_bytes: self.file_bytes.into(),
            engine_ns: self.time.engine_ns.into(),
            boot_ns: self.time.boot_ns.into(),
            boot_id: self.time.boot_id.into(),
            reserved: [0; 48],
        };
        let mut bytes = fixed.as_bytes().to_vec();
        for lane in &self.lanes {
            let entry =
                LaneEntry { begin_lsn: lane.begin_lsn.into(), end_lsn: lane.end_lsn.into() };
            bytes.extend_from_slice(entry.as_bytes());
        }
        for part in &self.parts {
            let entry = PartEntry {
                offset: part.offset.into(),
                bytes: part.bytes.into(),
                entries: part.entries.into(),
                next_sequence: part.next_sequence.into(),
                retired_to_ms: part.retired_to_ms.into(),
                first_chunk: part.first_chunk.into(),
                chunks: part.chunks.into(),
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        for shard in &self.shards {
            let entry = ShardEntry {
                begin: mark_entry(&shard.begin.mark),
                begin_ordinal: shard.begin.ordinal.into(),
                begin_offset: shard.begin.offset.into(),
                end: mark_entry(&shard.end),
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        let mut head = AlignedBuffer::zeroed(head_bytes(partitions, shards));
        head[..bytes.len()].copy_from_slice(&bytes);
        head
    }

    /// How long the head is, told by its first bytes. Bounded, whatever they are.
    pub(crate) fn bytes(first: &[u8]) -> Result<usize, NotWhole> {
        let (fixed, _) =
            HeadFixed::ref_from_prefix(first).map_err(|_| NotWhole::Damaged("too short"))?;
        if fixed.magic != HEAD_MAGIC {
            return Err(NotWhole::Damaged("no checkpoint magic"));
        }
        let (partitions, shards) = (fixed.partitions.get() as usize, fixed.shards.get() as usize);
        let fits = partitions.is_power_of_two()
            && partitions <= 1 << PARTITION_BITS
            && (1..=SHARDS_MAX).contains(&shards);
        fits.then(|| head_bytes(partitions, shards))
            .ok_or(NotWhole::Damaged("its shape makes no sense"))
    }

    /// Reads a head of the length that [`Head::bytes`] told.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NotWhole> {
        let damaged = NotWhole::Damaged("its head is cut short");
        let len = Self::bytes(bytes)?;
        let (fixed, rest) = HeadFixed::ref_from_prefix(bytes).map_err(|_| damaged)?;
        let (partitions, shards) = (fixed.partitions.get() as usize, fixed.shards.get() as usize);
        let (lanes, rest) = <[LaneEntry]>::ref_from_prefix_with_elems(rest, partitions + shards)
            .map_err(|_| damaged)?;
        let (parts, rest) =
            <[PartEntry]>::ref_from_prefix_with_elems(rest, partitions + 1).map_err(|_| damaged)?;
        let (spans, rest) =
            <[ShardEntry]>::ref_from_prefix_with_elems(rest, shards).map_err(|_| damaged)?;
        let hashed = bytes.len() - rest.len();
        let hash = rest.get(..HASH_BYTES).ok_or(damaged)?;
        if blake3::hash(&bytes[..hashed]).as_bytes() != hash {
            return Err(NotWhole::Damaged("the hash of its head differs"));
        }
        if fixed.version.get() > FORMAT_VERSION {
            return Err(NotWhole::Newer(fixed.version.get()));
        }
        let head = Self {
            engine_id: fixed.engine_id,
            number: fixed.number.get(),
            epoch: fixed.epoch.get(),
            file_bytes: fixed.file_bytes.get(),
            chunks: fixed.chunks.get(),
            time: TimeMark {
                engine_ns: fixed.engine_ns.get(),
                boot_ns: fixed.boot_ns.get(),
                boot_id: fixed.boot_id.get(),
            },
            lanes: lanes.iter().map(LaneMarks::from).collect(),
            parts: parts.iter().map(Part::from).collect(),
            shards: spans.iter().map(ShardSpan::from).collect(),
        };
        head.check_parts(len as u64)?;
        // Blocks begin at pages; a direct read from elsewhere would be an error of the disk.
        if !head.shards.iter().all(|span| is_aligned(span.begin.offset)) {
            return Err(NotWhole::Damaged("a log begins in the middle of a page"));
        }
        // Records up to the begin are skipped: new ones would be, if it lay behind the end.
        if head.lanes.iter().any(|lane| lane.begin_lsn > lane.end_lsn) {
            return Err(NotWhole::Damaged("a lane begins behind its end"));
        }
        Ok(head)
    }

    /// Whether the parts fill the file from the head to its end.
    fn check_parts(&self, head_bytes: u64) -> Result<(), NotWhole> {
        let (mut offset, mut chunk) = (head_bytes, 0);
        for part in &self.parts {
            let least = u64::from(part.chunks) * ALIGN_BYTES as u64;
            let most = u64::from(part.chunks) * CHUNK_BYTES_MAX as u64;
            if part.offset != offset
                || part.first_chunk != chunk
                || !(least..=most).contains(&part.bytes)
                || !is_aligned(part.bytes)
                || part.entries > part.bytes
            {
                return Err(NotWhole::Damaged("its parts do not follow each other"));
            }
            offset = offset.saturating_add(part.bytes);
            chunk = chunk.saturating_add(part.chunks);
        }
        match (offset, chunk) == (self.file_bytes, self.chunks) {
            true => Ok(()),
            false => Err(NotWhole::Damaged("its parts do not fill it")),
        }
    }

    /// Orders in it.
    pub(crate) fn orders(&self) -> u64 {
        self.parts[..self.parts.len() - 1].iter().map(|part| part.entries).sum()
    }
}

fn is_aligned(offset: u64) -> bool {
    offset.is_multiple_of(ALIGN_BYTES as u64)
}

fn mark_entry(mark: &BlockMark) -> MarkEntry {
    MarkEntry {
        blocks: mark.blocks.into(),
        epoch: mark.epoch.into(),
        reserved: 0.into(),
        hash: mark.hash,
    }
}

impl From<&MarkEntry> for BlockMark {
    fn from(entry: &MarkEntry) -> Self {
        Self { blocks: entry.blocks.get(), epoch: entry.epoch.get(), hash: entry.hash }
    }
}

impl From<&LaneEntry> for LaneMarks {
    fn from(entry: &LaneEntry) -> Self {
        Self { begin_lsn: entry.begin_lsn.get(), end_lsn: entry.end_lsn.get() }
    }
}

impl From<&PartEntry> for Part {
    fn from(entry: &PartEntry) -> Self {
        Self {
            offset: entry.offset.get(),
            bytes: entry.bytes.get(),
            entries: entry.entries.get(),
            next_sequence: entry.next_sequence.get(),
            retired_to_ms: entry.retired_to_ms.get(),
            first_chunk: entry.first_chunk.get(),
            chunks: entry.chunks.get(),
        }
    }
}

impl From<&ShardEntry> for ShardSpan {
    fn from(entry: &ShardEntry) -> Self {
        let begin = LogPosition {
            mark: (&entry.begin).into(),
            ordinal: entry.begin_ordinal.get(),
            offset: entry.begin_offset.get(),
        };
        Self { begin, end: (&entry.end).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let (partitions, shards) = (4, 2);
        let start = head_bytes(partitions, shards) as u64;
        let mut parts = vec![Part { offset: start, ..Part::default() }; partitions + 1];
        for (nth, part) in parts.iter_mut().enumerate() {
            part.offset = start + nth as u64 * 4096;
            (part.bytes, part.chunks, part.first_chunk) = (4096, 1, nth as u32);
            (part.entries, part.next_sequence) = (3, nth as u64);
        }
        let mark = |blocks| BlockMark { blocks, epoch: 2, hash: [blocks as u8; 32] };
        let span = |at| ShardSpan {
            begin: LogPosition { mark: mark(at), ordinal: at, offset: 4096 },
            end: mark(at + 1),
        };
        Head {
            engine_id: [7; 16],
            number: 5,
            epoch: 2,
            file_bytes: start + 5 * 4096,
            chunks: 5,
            time: TimeMark { engine_ns: 1, boot_ns: 2, boot_id: 3 },
            lanes: (0..6).map(|at| LaneMarks { begin_lsn: at, end_lsn: at + 1 }).collect(),
            parts,
            shards: vec![span(8), span(9)],
        }
    }

    #[test]
    fn a_head_reads_back_as_written_and_any_change_of_its_bytes_is_noticed() {
        let bytes = head().encode().to_vec();
        assert_eq!(Head::bytes(&bytes), Ok(bytes.len()));
        assert_eq!(Head::decode(&bytes), Ok(head()));
        for at in 0..content_bytes(4, 2) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            assert!(Head::decode(&changed).is_err(), "byte {at}");
            assert!(Head::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_head_that_leads_into_the_middle_of_a_page_is_damaged() {
        let mut log = head();
        log.shards[1].begin.offset = 4097;
        let mut part = head();
        (part.parts[1].bytes, part.parts[2].bytes) = (4096 + 4, 8192 - 4);
        part.parts[2].offset += 4;
        part.parts[3..].iter_mut().for_each(|part| part.offset += 4096);
        part.file_bytes += 4096;
        for head in [log, part] {
            assert!(matches!(Head::decode(&head.encode()), Err(NotWhole::Damaged(_))), "{head:?}");
        }
    }

    #[test]
    fn a_newer_head_is_named_as_such() {
        let mut bytes = head().encode().to_vec();
        bytes[8..10].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let used = content_bytes(4, 2);
        let body = used - HASH_BYTES;
        let hash = *blake3::hash(&bytes[..body]).as_bytes();
        bytes[body..used].copy_from_slice(&hash);
        assert_eq!(Head::decode(&bytes), Err(NotWhole::Newer(FORMAT_VERSION + 1)));
    }
}
