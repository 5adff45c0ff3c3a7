//! A checkpoint's file. Its layout is defined here and nowhere else.
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

use zerocopy::byteorder::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::clock::TimeMark;
use crate::ids::PARTITION_BITS;
use crate::log::{BlockMark, FORMAT_VERSION, LogPosition};
use crate::storage::{ALIGN_BYTES, AlignedBuffer};

const HEAD_MAGIC: [u8; 8] = *b"dbrCHKPT";
const CHUNK_MAGIC: [u8; 8] = *b"dbrCHUNK";
const HASH_BYTES: usize = 32;
const SHARDS_MAX: usize = 64;
/// No chunk is longer.
pub(crate) const CHUNK_BYTES_MAX: usize = 1 << 20;

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

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ChunkHeader {
    magic: [u8; 8],
    /// Number and epoch of the checkpoint: what an older file left at this place is told apart.
    number: U64,
    epoch: U32,
    part: U32,
    /// In the file, from 0.
    nth: U32,
    entries: U32,
    payload_bytes: U32,
    payload_crc: U32,
    /// Of the header, this field being zero.
    header_crc: U32,
    /// One of [`ChunkKind`].
    kind: u8,
    /// Of [`ChunkKind::Buyers`]: the first of the maps, and the first behind them.
    maps: [u8; 2],
    reserved: u8,
    /// Of [`ChunkKind::Sales`] and [`ChunkKind::Buyers`]: all of the lane's records up to this one are
    /// in, and none behind it.
    lsn: U64,
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ChunkKind {
    Orders = 0,
    Skus = 1,
    /// Sequences that were never given.
    Gaps = 2,
    /// SKUs whose buyers are or were counted. A first chunk of these voids what came before of a
    /// partition's sales and buyers.
    Sales = 3,
    MoreSales = 4,
    /// What buyers have of them.
    Buyers = 5,
}

impl ChunkKind {
    const ALL: [Self; 6] =
        [Self::Orders, Self::Skus, Self::Gaps, Self::Sales, Self::MoreSales, Self::Buyers];
}

/// An order, followed by the lines of a cart and the payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct OrderEntry {
    pub(crate) sequence: U64,
    pub(crate) buyer: [u8; 16],
    pub(crate) key: [u8; 16],
    pub(crate) last_lsn: U64,
    pub(crate) deadline_ms: U64,
    pub(crate) changed_ms: U64,
    pub(crate) lines_digest: U64,
    /// 0 for a cart.
    pub(crate) sku: U64,
    pub(crate) units: U32,
    pub(crate) hold_ms: U32,
    pub(crate) payload_bytes: U32,
    /// Lines of a cart that follow; 0: the one line is in here.
    pub(crate) lines: U16,
    pub(crate) state: u8,
    pub(crate) flags: u8,
}

/// The key is a UUID of version 7.
pub(crate) const ORDER_KEY_UUID_V7: u8 = 1;
/// The hold time was the engine's default.
pub(crate) const ORDER_DEFAULT_HOLD: u8 = 2;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct LineEntry {
    pub(crate) sku: U64,
    pub(crate) units: U32,
}

/// What a SKU's own records made of it, followed by some of its adjustments; more may follow behind
/// another entry of the same SKU.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SkuEntry {
    pub(crate) sku: U64,
    pub(crate) stocked: I64,
    /// Units sold by orders that have left memory.
    pub(crate) retired: I64,
    pub(crate) last_lsn: U64,
    pub(crate) buyer_limit: U32,
    /// Adjustments that follow.
    pub(crate) adjusts: U32,
    /// 1: an `add` or `set` made it known.
    pub(crate) known: u8,
    pub(crate) reserved: [u8; 7],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct AdjustedEntry {
    pub(crate) key: [u8; 16],
    pub(crate) reference_digest: U64,
    pub(crate) delta: I64,
    pub(crate) stocked: U64,
    pub(crate) lsn: U64,
    pub(crate) units: U32,
    pub(crate) expected: U32,
    pub(crate) kind: u8,
    /// 1: the key is a UUID of version 7.
    pub(crate) key_kind: u8,
    pub(crate) reserved: [u8; 6],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct GapEntry {
    pub(crate) first: U64,
    pub(crate) end: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SaleEntry {
    pub(crate) sku: U64,
    /// Orders with lower sequences belong to a sale that ended.
    pub(crate) first_sequence: U64,
    /// 1: its buyers are counted; 0: not any more.
    pub(crate) counted: u8,
    pub(crate) reserved: [u8; 7],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct BuyerEntry {
    pub(crate) buyer: [u8; 16],
    pub(crate) sku: U64,
    pub(crate) units: U32,
}

const _: () = assert!(size_of::<OrderEntry>() == 96 && size_of::<ChunkHeader>() == 56);
const CHUNK_HEADER_BYTES: usize = size_of::<ChunkHeader>();

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
    let bytes = size_of::<HeadFixed>()
        + (partitions + shards) * size_of::<LaneEntry>()
        + (partitions + 1) * size_of::<PartEntry>()
        + shards * size_of::<ShardEntry>()
        + HASH_BYTES;
    bytes.next_multiple_of(ALIGN_BYTES)
}

impl Head {
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

/// Which chunk of which checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkId {
    pub(crate) number: u64,
    pub(crate) epoch: u32,
    pub(crate) part: u32,
    pub(crate) nth: u32,
}

/// A chunk that is being filled, in memory that has been touched: nobody who waits for the lock of
/// what is copied into it waits for a page fault too.
#[derive(Debug)]
pub(crate) struct ChunkBuffer {
    bytes: AlignedBuffer,
    used: usize,
    entries: u32,
    about: ChunkAbout,
}

/// What a chunk's header says about its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkAbout {
    pub(crate) kind: ChunkKind,
    /// See [`ChunkHeader`].
    pub(crate) lsn: u64,
    pub(crate) maps: [u8; 2],
}

impl ChunkAbout {
    pub(crate) const fn of(kind: ChunkKind) -> Self {
        Self { kind, lsn: 0, maps: [0; 2] }
    }
}

impl ChunkBuffer {
    pub(crate) fn new() -> Self {
        let mut bytes = AlignedBuffer::zeroed(CHUNK_BYTES_MAX);
        bytes.fill(1);
        let about = ChunkAbout::of(ChunkKind::Orders);
        Self { bytes, used: CHUNK_HEADER_BYTES, entries: 0, about }
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        // What the header says counts for these.
        self.entries == 0 && !matches!(self.about.kind, ChunkKind::Sales | ChunkKind::Buyers)
    }

    /// Orders, or entries of SKUs.
    pub(crate) fn counted_entries(&self) -> u32 {
        match self.about.kind {
            ChunkKind::Orders | ChunkKind::Skus => self.entries,
            _ => 0,
        }
    }

    /// Empties it, for entries of this kind.
    pub(crate) fn begin(&mut self, about: ChunkAbout) {
        self.clear();
        self.about = about;
    }

    pub(crate) fn room(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// The memory, for another use; what is in it is gone.
    pub(crate) fn as_memory(&mut self) -> &mut AlignedBuffer {
        self.clear();
        &mut self.bytes
    }

    fn clear(&mut self) {
        (self.used, self.entries) = (CHUNK_HEADER_BYTES, 0);
    }

    /// Begins an entry; the caller has looked for room for all of it.
    pub(crate) fn entry(&mut self, fixed: &impl FixedEntry) {
        self.entries += 1;
        self.append(fixed);
    }

    /// Goes on with the entry.
    pub(crate) fn append(&mut self, part: &impl FixedEntry) {
        self.append_bytes(part.as_bytes());
    }

    pub(crate) fn append_bytes(&mut self, bytes: &[u8]) {
        self.bytes[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// The whole chunk, as it is written.
    pub(crate) fn seal(&mut self, id: ChunkId) -> &[u8] {
        let total = self.used.next_multiple_of(ALIGN_BYTES);
        self.bytes[self.used..total].fill(0);
        let payload = &self.bytes[CHUNK_HEADER_BYTES..self.used];
        let mut header = ChunkHeader {
            magic: CHUNK_MAGIC,
            number: id.number.into(),
            epoch: id.epoch.into(),
            part: id.part.into(),
            nth: id.nth.into(),
            entries: self.entries.into(),
            payload_bytes: (payload.len() as u32).into(),
            payload_crc: crc32c::crc32c(payload).into(),
            header_crc: 0.into(),
            kind: self.about.kind as u8,
            maps: self.about.maps,
            reserved: 0,
            lsn: self.about.lsn.into(),
        };
        header.header_crc = crc32c::crc32c(header.as_bytes()).into();
        self.bytes[..CHUNK_HEADER_BYTES].copy_from_slice(header.as_bytes());
        &self.bytes[..total]
    }
}

/// What a chunk is made of.
pub(crate) trait FixedEntry: IntoBytes + Immutable {}
impl FixedEntry for OrderEntry {}
impl FixedEntry for LineEntry {}
impl FixedEntry for SkuEntry {}
impl FixedEntry for AdjustedEntry {}
impl FixedEntry for GapEntry {}
impl FixedEntry for SaleEntry {}
impl FixedEntry for BuyerEntry {}

/// A whole chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkView<'a> {
    pub(crate) about: ChunkAbout,
    pub(crate) entries: u32,
    pub(crate) payload: &'a [u8],
    /// Of the chunk in its file.
    pub(crate) bytes: usize,
}

impl<'a> ChunkView<'a> {
    /// Reads the chunk at the front of `bytes`.
    pub(crate) fn parse(bytes: &'a [u8], id: ChunkId) -> Result<Self, &'static str> {
        let (header, rest) =
            ChunkHeader::ref_from_prefix(bytes).map_err(|_| "a chunk is cut short")?;
        let zeroed = ChunkHeader { header_crc: 0.into(), ..*header };
        if header.magic != CHUNK_MAGIC
            || crc32c::crc32c(zeroed.as_bytes()) != header.header_crc.get()
        {
            return Err("a chunk's header is damaged");
        }
        let found = ChunkId {
            number: header.number.get(),
            epoch: header.epoch.get(),
            part: header.part.get(),
            nth: header.nth.get(),
        };
        if found != id {
            return Err("a chunk of another checkpoint or place");
        }
        let len = header.payload_bytes.get() as usize;
        let payload = rest.get(..len).ok_or("a chunk is cut short")?;
        if crc32c::crc32c(payload) != header.payload_crc.get() {
            return Err("the checksum of a chunk differs");
        }
        let bytes = (CHUNK_HEADER_BYTES + len).next_multiple_of(ALIGN_BYTES);
        let kind = ChunkKind::ALL.get(usize::from(header.kind)).copied();
        let kind = kind.ok_or("a chunk of an unknown kind")?;
        let about = ChunkAbout { kind, lsn: header.lsn.get(), maps: header.maps };
        Ok(Self { about, entries: header.entries.get(), payload, bytes })
    }

    /// Its orders; an `Err` names what does not fit and ends it.
    pub(crate) fn orders(
        &self,
    ) -> impl Iterator<Item = Result<(&'a OrderEntry, &'a [LineEntry], &'a [u8]), &'static str>> + use<'a>
    {
        entries(self.payload, self.entries, |bytes| {
            let (order, rest) = OrderEntry::ref_from_prefix(bytes).ok()?;
            let lines = usize::from(order.lines.get());
            let (lines, rest) = <[LineEntry]>::ref_from_prefix_with_elems(rest, lines).ok()?;
            let (payload, rest) = rest.split_at_checked(order.payload_bytes.get() as usize)?;
            Some(((order, lines, payload), rest))
        })
    }

    /// Its entries, where they are all of one size.
    pub(crate) fn fixed<T>(&self) -> Result<&'a [T], &'static str>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        <[T]>::ref_from_bytes(self.payload)
            .ok()
            .filter(|entries| entries.len() == self.entries as usize)
            .ok_or("a chunk's entries do not fill it")
    }

    /// Its SKUs.
    pub(crate) fn skus(
        &self,
    ) -> impl Iterator<Item = Result<(&'a SkuEntry, &'a [AdjustedEntry]), &'static str>> + use<'a>
    {
        entries(self.payload, self.entries, |bytes| {
            let (sku, rest) = SkuEntry::ref_from_prefix(bytes).ok()?;
            let adjusts = sku.adjusts.get() as usize;
            let (adjusts, rest) =
                <[AdjustedEntry]>::ref_from_prefix_with_elems(rest, adjusts).ok()?;
            Some(((sku, adjusts), rest))
        })
    }
}

/// So many entries, which take all of the bytes.
fn entries<'a, T>(
    mut bytes: &'a [u8],
    count: u32,
    next: impl Fn(&'a [u8]) -> Option<(T, &'a [u8])>,
) -> impl Iterator<Item = Result<T, &'static str>> {
    let mut left = count;
    std::iter::from_fn(move || {
        if left == 0 {
            let rest = std::mem::take(&mut bytes);
            return (!rest.is_empty()).then_some(Err("a chunk holds more than its entries"));
        }
        let Some((entry, rest)) = next(bytes) else {
            (left, bytes) = (0, &[]);
            return Some(Err("an entry is longer than its chunk"));
        };
        left -= 1;
        bytes = rest;
        Some(Ok(entry))
    })
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

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
        let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
        for at in 0..used {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            assert!(Head::decode(&changed).is_err(), "byte {at}");
            assert!(Head::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_head_is_named_as_such() {
        let mut bytes = head().encode().to_vec();
        bytes[8..10].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let body = used - HASH_BYTES;
        let hash = *blake3::hash(&bytes[..body]).as_bytes();
        bytes[body..used].copy_from_slice(&hash);
        assert_eq!(Head::decode(&bytes), Err(NotWhole::Newer(FORMAT_VERSION + 1)));
    }

    #[test]
    fn any_change_of_a_chunk_is_noticed() {
        let id = ChunkId { number: 3, epoch: 1, part: 2, nth: 9 };
        let mut chunk = ChunkBuffer::new();
        let entry =
            OrderEntry { lines: 1.into(), payload_bytes: 3.into(), ..OrderEntry::new_zeroed() };
        chunk.entry(&entry);
        chunk.append(&LineEntry { sku: 5.into(), units: 6.into() });
        chunk.append_bytes(b"abc");
        let bytes = chunk.seal(id).to_vec();
        let view = ChunkView::parse(&bytes, id).expect("whole");
        assert_eq!(view.bytes, bytes.len());
        let orders: Vec<_> = view.orders().collect();
        assert!(matches!(&orders[..], [Ok((_, [line], b"abc"))] if line.units.get() == 6));
        assert!(ChunkView::parse(&bytes, ChunkId { number: 4, ..id }).is_err());
        for at in 0..CHUNK_HEADER_BYTES + size_of::<OrderEntry>() + 15 {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(ChunkView::parse(&changed, id).is_err(), "byte {at}");
            assert!(ChunkView::parse(&bytes[..at], id).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn any_bytes_give_entries_or_a_named_error() {
        let mut state = 1_u64;
        for _ in 0..2_000 {
            let bytes: Vec<u8> = (0..300)
                .map(|_| {
                    state = crate::order::mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
                    if state & 0x700 == 0 { state as u8 } else { (state & 1) as u8 }
                })
                .collect();
            let about = ChunkAbout::of(ChunkKind::Orders);
            let view = ChunkView { about, entries: state as u32 % 6, payload: &bytes, bytes: 4096 };
            assert!(view.orders().count() <= 7 && view.skus().count() <= 7);
            assert!(view.orders().any(|entry| entry.is_err()), "they do not fill it by chance");
        }
    }
}
