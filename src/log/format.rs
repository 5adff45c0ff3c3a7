//! The block: what one write and one sync make durable. Its layout is defined here and nowhere else.
//!
//! ```text
//! BlockHeader | durable vector: one VectorEntry a shard | sections | zeros up to 4 KiB
//! section:  SectionHeader | records
//! ```
//!
//! All numbers are little-endian. A block starts on a multiple of 4 KiB, so a torn write can never
//! reach into an older block. Its hash covers header, vector and sections, and stands in the next
//! block's header: a chain (BLAKE3) through the whole shard. CRC-32C tells damage apart from absence
//! quickly, and without the chain.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::clock::TimeMark;
use crate::storage::ALIGN_BYTES;

/// Version of blocks, records and manifest. A folder with a higher one is refused.
pub(crate) const FORMAT_VERSION: u16 = 1;
pub(crate) const BLOCK_MAGIC: [u8; 8] = *b"dbrBLOCK";
pub(crate) const BLOCK_HEADER_BYTES: usize = size_of::<BlockHeader>();
pub(crate) const VECTOR_ENTRY_BYTES: usize = size_of::<VectorEntry>();
pub(crate) const SECTION_HEADER_BYTES: usize = size_of::<SectionHeader>();

/// A block without records, which only witnesses the one before it (rule R13).
pub(crate) const FLAG_WITNESS: u8 = 1;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct BlockHeader {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U16,
    pub(crate) shard: U16,
    pub(crate) shards: U16,
    /// 0: synced before it was acknowledged; 1: only written.
    pub(crate) durability: u8,
    pub(crate) flags: u8,
    pub(crate) engine_id: [u8; 16],
    pub(crate) epoch: U32,
    pub(crate) records: U32,
    pub(crate) number: U64,
    /// Bytes and number of the sections.
    pub(crate) payload_bytes: U32,
    pub(crate) sections: U32,
    pub(crate) engine_ns: U64,
    pub(crate) boot_ns: U64,
    pub(crate) boot_id: U64,
    pub(crate) previous_hash: [u8; 32],
    pub(crate) payload_crc: U32,
    /// Of header and vector, this field being zero.
    pub(crate) header_crc: U32,
    pub(crate) reserved: U64,
}

/// The last block of a shard that was durable when this block was closed to appends (rule R12).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct VectorEntry {
    /// How many blocks the shard had: the number of the last one, plus one.
    pub(crate) blocks: U64,
    pub(crate) hash_prefix: U64,
    pub(crate) epoch: U32,
    pub(crate) reserved: U32,
}

/// Records of one lane, in the order of their LSNs.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SectionHeader {
    pub(crate) lane: U32,
    pub(crate) records: U32,
    pub(crate) first_lsn: U64,
    pub(crate) bytes: U32,
    pub(crate) reserved: U32,
}

const _: () = assert!(BLOCK_HEADER_BYTES == 128 && VECTOR_ENTRY_BYTES == 24);
const _: () = assert!(SECTION_HEADER_BYTES == 24);

/// What every block of an engine has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) engine_id: [u8; 16],
    pub(crate) epoch: u32,
    pub(crate) shards: u16,
    /// Whether blocks are synced before they are acknowledged.
    pub(crate) synced: bool,
}

/// How far a shard has got: after `blocks` blocks, the last of which was written in `epoch` and has
/// this hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockMark {
    pub(crate) blocks: u64,
    pub(crate) epoch: u32,
    pub(crate) hash: [u8; 32],
}

impl BlockMark {
    pub(crate) fn hash_prefix(&self) -> u64 {
        hash_prefix(&self.hash)
    }
}

/// Where a shard's log goes on: after which block, in which segment, and at which byte of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogPosition {
    pub(crate) mark: BlockMark,
    pub(crate) ordinal: u64,
    pub(crate) offset: u64,
}

pub(crate) fn hash_prefix(hash: &[u8; 32]) -> u64 {
    u64::from_le_bytes(hash[..8].try_into().expect("32 bytes hold eight"))
}

/// Bytes before the sections.
pub(crate) const fn prefix_bytes(shards: u16) -> usize {
    BLOCK_HEADER_BYTES + shards as usize * VECTOR_ENTRY_BYTES
}

/// Bytes of a whole block in its segment.
pub(crate) const fn block_bytes(shards: u16, payload_bytes: usize) -> usize {
    (prefix_bytes(shards) + payload_bytes).next_multiple_of(ALIGN_BYTES)
}

/// A block's place in its shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) shard: u16,
    pub(crate) previous: &'a BlockMark,
    pub(crate) time: TimeMark,
    pub(crate) flags: u8,
    pub(crate) sections: u32,
    pub(crate) records: u32,
    /// The durable vector, read after the block was closed to appends.
    pub(crate) vector: &'a [BlockMark],
}

impl Seal<'_> {
    /// Writes header and vector in front of `payload_bytes` bytes of sections that stand in `block` already, and
    /// zeroes the padding. Returns the block's length and the mark after it.
    pub(crate) fn close(self, block: &mut [u8], payload_bytes: usize) -> (usize, BlockMark) {
        let prefix = prefix_bytes(self.identity.shards);
        let total = block_bytes(self.identity.shards, payload_bytes);
        block[prefix + payload_bytes..total].fill(0);
        let payload_crc = crc32c::crc32c(&block[prefix..prefix + payload_bytes]);
        let mut header = BlockHeader {
            magic: BLOCK_MAGIC,
            version: FORMAT_VERSION.into(),
            shard: self.shard.into(),
            shards: self.identity.shards.into(),
            durability: u8::from(!self.identity.synced),
            flags: self.flags,
            engine_id: self.identity.engine_id,
            epoch: self.identity.epoch.into(),
            records: self.records.into(),
            number: self.previous.blocks.into(),
            payload_bytes: (payload_bytes as u32).into(),
            sections: self.sections.into(),
            engine_ns: self.time.engine_ns.into(),
            boot_ns: self.time.boot_ns.into(),
            boot_id: self.time.boot_id.into(),
            previous_hash: self.previous.hash,
            payload_crc: payload_crc.into(),
            header_crc: 0.into(),
            reserved: 0.into(),
        };
        for (place, mark) in
            block[BLOCK_HEADER_BYTES..prefix].chunks_exact_mut(VECTOR_ENTRY_BYTES).zip(self.vector)
        {
            let entry = VectorEntry {
                blocks: mark.blocks.into(),
                hash_prefix: mark.hash_prefix().into(),
                epoch: mark.epoch.into(),
                reserved: 0.into(),
            };
            place.copy_from_slice(entry.as_bytes());
        }
        block[..BLOCK_HEADER_BYTES].copy_from_slice(header.as_bytes());
        header.header_crc = crc32c::crc32c(&block[..prefix]).into();
        block[..BLOCK_HEADER_BYTES].copy_from_slice(header.as_bytes());
        let mark = BlockMark {
            blocks: self.previous.blocks + 1,
            epoch: self.identity.epoch,
            hash: *blake3::hash(&block[..prefix + payload_bytes]).as_bytes(),
        };
        (total, mark)
    }
}

/// A header that stands on its own: the magic is ours, header and vector are whole, and the lengths
/// make sense.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefix<'a> {
    pub(crate) header: &'a BlockHeader,
    pub(crate) vector: &'a [VectorEntry],
}

/// Why bytes are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotABlock {
    /// All zero: never written.
    Blank,
    /// Something else.
    Damaged(&'static str),
    /// A whole header of a newer format.
    Newer(u16),
}

impl<'a> Prefix<'a> {
    /// Reads the first [`ALIGN_BYTES`] bytes of what may be a block.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, NotABlock> {
        let (header, rest) =
            BlockHeader::ref_from_prefix(bytes).map_err(|_| NotABlock::Damaged("too short"))?;
        if header.magic != BLOCK_MAGIC {
            return Err(match bytes.iter().all(|byte| *byte == 0) {
                true => NotABlock::Blank,
                false => NotABlock::Damaged("no block magic"),
            });
        }
        let shards = header.shards.get() as usize;
        let vector = rest
            .get(..shards * VECTOR_ENTRY_BYTES)
            .and_then(|bytes| <[VectorEntry]>::ref_from_bytes(bytes).ok())
            .ok_or(NotABlock::Damaged("more shards than a header holds"))?;
        let zeroed = BlockHeader { header_crc: 0.into(), ..*header };
        let crc = crc32c::crc32c(zeroed.as_bytes());
        let crc = crc32c::crc32c_append(crc, vector.as_bytes());
        if crc != header.header_crc.get() {
            return Err(NotABlock::Damaged("header checksum differs"));
        }
        if header.version.get() > FORMAT_VERSION {
            return Err(NotABlock::Newer(header.version.get()));
        }
        Ok(Self { header, vector })
    }

    pub(crate) fn payload_range(&self) -> std::ops::Range<usize> {
        let start = prefix_bytes(self.header.shards.get());
        start..start + self.header.payload_bytes.get() as usize
    }

    pub(crate) fn block_bytes(&self) -> usize {
        block_bytes(self.header.shards.get(), self.header.payload_bytes.get() as usize)
    }

    pub(crate) fn time(&self) -> TimeMark {
        TimeMark {
            engine_ns: self.header.engine_ns.get(),
            boot_ns: self.header.boot_ns.get(),
            boot_id: self.header.boot_id.get(),
        }
    }
}

/// One section of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    pub(crate) lane: u32,
    pub(crate) first_lsn: u64,
    pub(crate) records: u32,
    pub(crate) bytes: &'a [u8],
}

/// Puts a section's header in front of records that follow it.
pub(crate) fn section_header(lane: u32, first_lsn: u64, records: u32, bytes: usize) -> [u8; 24] {
    let header = SectionHeader {
        lane: lane.into(),
        records: records.into(),
        first_lsn: first_lsn.into(),
        bytes: (bytes as u32).into(),
        reserved: 0.into(),
    };
    header.as_bytes().try_into().expect("a section header has 24 bytes")
}

/// The sections of a block's payload; `None` in place of one that does not fit.
pub(crate) fn sections(mut payload: &[u8]) -> impl Iterator<Item = Option<Section<'_>>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let taken = SectionHeader::ref_from_prefix(payload).ok().and_then(|(header, rest)| {
            let bytes = rest.get(..header.bytes.get() as usize)?;
            payload = &rest[bytes.len()..];
            Some(Section {
                lane: header.lane.get(),
                first_lsn: header.first_lsn.get(),
                records: header.records.get(),
                bytes,
            })
        });
        if taken.is_none() {
            payload = &[];
        }
        Some(taken)
    })
}
