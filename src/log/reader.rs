//! Reads a shard's blocks in order, and decides how its log ends.
//!
//! The decision table ([`Reader::next_block`] is the code of it):
//!
//! | what stands where the next block should be | verdict |
//! |---|---|
//! | that block, whole, chained to the one before | read on |
//! | anything else, and the next segment starts with that block | read on there |
//! | a number left out; a later open's epoch | corrupt |
//! | at the start of a segment: a block of another engine or shard | corrupt |
//! | a block with that number, whole, that does not follow from the one before | corrupt |
//! | nothing or damage, fewer blocks than the manifest saw | corrupt |
//! | nothing or damage, and a later block of this epoch anywhere behind | corrupt |
//! | zeros, or a block of an earlier life of this place | the end: clean |
//! | damage, and nothing of this epoch behind | the end: torn, or the midst of an earlier life's block |
//! | a read error | refused, nothing is cut |
//! | a whole header of a newer format | refused |
//!
//! A recycled segment is full of blocks of its earlier life, and the log may end in the midst of one.
//! Then a buyer's payload stands where a header should, and may have been made to look like one; all
//! that it cannot have is the engine's id, which is random and never told. So behind a segment's start
//! only headers with that id are believed in anything.
//!
//! Recovery, which sees all shards, decides whether another shard saw more than this end. Every length is checked
//! against what was read before it is used: any bytes return blocks or a named error.

use std::ops::Range;
use std::sync::Arc;

use zerocopy::FromBytes;

use crate::clock::TimeMark;
use crate::error::OpenError;
use crate::log::format::{
    BlockHeader, BlockMark, FORMAT_VERSION, LogPosition, NotABlock, Prefix, Section, VectorEntry,
    sections,
};
use crate::log::segment_name::SegmentName;
use crate::mutants::{self, Mutant};
use crate::storage::{ALIGN_BYTES, Access, AlignedBuffer, Storage, StorageFile};

/// How much is read at a time; holds the largest block.
const WINDOW_BYTES: usize = 4 << 20;

/// What the manifest says about a shard's log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) engine_id: [u8; 16],
    pub(crate) shard: u16,
    pub(crate) shards: u16,
    /// Epoch of the blocks past `mark`.
    pub(crate) epoch: u32,
    /// How far the shard had got when the manifest was written.
    pub(crate) mark: BlockMark,
    /// Damage in the current epoch ends the log instead of making it corrupt (see
    /// [`Options::cut_after_power_loss`](crate::Options::cut_after_power_loss)).
    pub(crate) cut_at_damage: bool,
}

impl Expected {
    /// What is wrong with a block that is not of this log.
    fn foreign(&self, header: &BlockHeader) -> Option<String> {
        let (shard, shards) = (header.shard.get(), header.shards.get());
        if header.engine_id != self.engine_id {
            Some("a block of another engine".into())
        } else if (shard, shards) != (self.shard, self.shards) {
            Some(format!("a block of shard {shard} of {shards}"))
        } else {
            None
        }
    }
}

/// The number and the epoch of the block at the start of a segment, whatever stands behind it; `None`
/// where no whole header tells. A block that is not of this log is refused.
pub(crate) fn first_block(
    storage: &dyn Storage,
    expected: &Expected,
    ordinal: u64,
) -> Result<Option<(u64, u32)>, OpenError> {
    let path = storage.root().join(SegmentName::of_shard(expected.shard).path(ordinal));
    let mut page = AlignedBuffer::zeroed(ALIGN_BYTES);
    let read = storage
        .open(&SegmentName::of_shard(expected.shard).path(ordinal), Access::Direct)
        .and_then(|file| file.read_at(&mut page, 0))
        .map_err(|error| OpenError::io("read", &path, error))?;
    let header = match Prefix::parse(&page[..read]) {
        Ok(prefix) => prefix.header,
        Err(NotABlock::Blank | NotABlock::Damaged(_)) => return Ok(None),
        Err(NotABlock::Newer(found)) => {
            return Err(OpenError::NewerFormat { path, found, known: FORMAT_VERSION });
        }
    };
    match expected.foreign(header) {
        None => Ok(Some((header.number.get(), header.epoch.get()))),
        Some(damage) => {
            Err(OpenError::Corrupt { shard: Some(expected.shard), path, offset: 0, damage })
        }
    }
}

/// A whole block.
#[derive(Debug)]
pub(crate) struct BlockView<'a> {
    pub(crate) number: u64,
    pub(crate) time: TimeMark,
    pub(crate) vector: &'a [VectorEntry],
    pub(crate) mark: BlockMark,
    pub(crate) records: u32,
    /// With its padding.
    pub(crate) bytes: u64,
    payload: &'a [u8],
}

impl<'a> BlockView<'a> {
    pub(crate) fn sections(&self) -> impl Iterator<Item = Option<Section<'a>>> + use<'a> {
        sections(self.payload)
    }
}

/// How a shard's log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TailState {
    /// After the last whole block.
    pub(crate) mark: BlockMark,
    /// Segment and offset after it; `None` when the shard has no segment.
    pub(crate) end: Option<(u64, u64)>,
    /// What stands there is neither zeros nor whole: a write that a crash tore.
    pub(crate) torn: bool,
    /// Something other than zeros stands there: it must be overwritten before the end is relied on.
    pub(crate) must_blank: bool,
}

pub(crate) struct Reader<'a> {
    storage: &'a dyn Storage,
    expected: Expected,
    name: SegmentName,
    ordinals: Vec<u64>,
    /// Place in `ordinals`.
    segment: usize,
    file: Option<Arc<dyn StorageFile>>,
    offset: u64,
    last: BlockMark,
    window: Window,
    bytes_read: u64,
    /// Behind the end there are whole blocks of an earlier life.
    saw_earlier_life: bool,
}

/// What stands where the next block should be.
enum Found {
    /// That block; its bytes in the window.
    Block(Range<usize>),
    Blank,
    /// A block of an earlier life of this place.
    Stale,
    /// A whole block with the right number that does not carry the hash of the one before.
    Unchained,
    Damaged(&'static str),
}

impl<'a> Reader<'a> {
    /// Reads from a position on. What lies before it is not looked at.
    pub(crate) fn new(
        storage: &'a dyn Storage,
        expected: Expected,
        from: LogPosition,
        mut ordinals: Vec<u64>,
    ) -> Result<Self, OpenError> {
        ordinals.retain(|ordinal| *ordinal >= from.ordinal);
        let mut reader = Self {
            storage,
            expected,
            name: SegmentName::of_shard(expected.shard),
            ordinals,
            segment: 0,
            file: None,
            offset: 0,
            last: from.mark,
            window: Window::default(),
            bytes_read: 0,
            saw_earlier_life: false,
        };
        let mut wanted = (from.ordinal..).zip(&reader.ordinals);
        let gap = wanted.find(|(wanted, found)| wanted != *found).map(|(wanted, _)| wanted);
        let has_none = reader.ordinals.is_empty() && from != LogPosition::default();
        if let Some(ordinal) = gap.or(has_none.then_some(from.ordinal)) {
            let path = reader.name.path(ordinal);
            return Err(reader.corrupt_at(&path, 0, "the segment is missing".into()));
        }
        reader.open_segment(0)?;
        reader.offset = from.offset;
        Ok(reader)
    }

    /// Reads from the beginning of a shard's first segment, whatever block that begins with, if it is one of
    /// this log: what was there before it was recycled.
    pub(crate) fn from_oldest(
        storage: &'a dyn Storage,
        expected: Expected,
        ordinals: Vec<u64>,
    ) -> Result<Self, OpenError> {
        let ordinal = ordinals.first().copied().unwrap_or(0);
        let from = LogPosition { ordinal, ..LogPosition::default() };
        let mut reader = Self::new(storage, expected, from, ordinals)?;
        let first = reader.read(0, ALIGN_BYTES)?;
        let Ok(prefix) = Prefix::parse(&reader.window.bytes()[first]) else {
            return Err(reader.corrupt("the first block that is left is damaged".into()));
        };
        let header = prefix.header;
        let (blocks, epoch) = (header.number.get(), header.epoch.get());
        reader.last = BlockMark { blocks, epoch, hash: header.previous_hash };
        Ok(reader)
    }

    /// The next block; `None` at the end, which [`Reader::tail`] then describes.
    pub(crate) fn next_block(&mut self) -> Result<Option<BlockView<'_>>, OpenError> {
        let found = loop {
            match self.look()? {
                Found::Block(range) => break range,
                _ if self.goes_on_in_next()? => self.open_segment(self.segment + 1)?,
                Found::Unchained => {
                    let number = self.last.blocks;
                    return Err(self.corrupt(format!(
                        "block {number} does not follow from the one before it: the chain is broken"
                    )));
                }
                found => {
                    self.check_end(&found)?;
                    return Ok(None);
                }
            }
        };
        let bytes = &self.window.bytes()[found];
        let Ok(prefix) = Prefix::parse(&bytes[..bytes.len().min(ALIGN_BYTES)]) else {
            return Ok(None); // `look` has parsed it.
        };
        let payload = prefix.payload_range();
        // Of a segment that was cut short, the padding may be gone.
        let block_bytes = prefix.block_bytes() as u64;
        self.bytes_read += block_bytes;
        let mark = BlockMark {
            blocks: self.last.blocks + 1,
            epoch: prefix.header.epoch.get(),
            hash: *blake3::hash(&bytes[..payload.end]).as_bytes(),
        };
        if mark.blocks == self.expected.mark.blocks && mark != self.expected.mark {
            let damage = format!("block {} is not the one the manifest saw", self.last.blocks);
            return Err(self.corrupt(damage));
        }
        let view = BlockView {
            number: self.last.blocks,
            time: prefix.time(),
            vector: prefix.vector,
            records: prefix.header.records.get(),
            bytes: block_bytes,
            mark,
            payload: &bytes[payload],
        };
        self.last = mark;
        self.offset += block_bytes;
        Ok(Some(view))
    }

    /// How the log ends; asked after [`Reader::next_block`] gave `None`.
    pub(crate) fn tail(&mut self) -> Result<TailState, OpenError> {
        let found = self.look()?;
        let next = self.look_at_next()?;
        let end = self.ordinals.get(self.segment).map(|ordinal| (*ordinal, self.offset));
        Ok(TailState {
            mark: self.last,
            end,
            torn: !self.saw_earlier_life
                && [&found, &next].iter().any(|found| matches!(found, Found::Damaged(_))),
            must_blank: !matches!(found, Found::Blank),
        })
    }

    /// Where the block that was just read ends: segment and offset.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.ordinals.get(self.segment).copied().unwrap_or(0), self.offset)
    }

    fn position(&self) -> (String, u64) {
        let (ordinal, offset) = self.place();
        (self.name.path(ordinal), offset)
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// An error about the block that was just read.
    pub(crate) fn corrupt(&self, damage: String) -> OpenError {
        let (path, offset) = self.position();
        self.corrupt_at(&path, offset, damage)
    }

    fn corrupt_at(&self, path: &str, offset: u64, damage: String) -> OpenError {
        OpenError::Corrupt {
            shard: Some(self.expected.shard),
            path: self.storage.root().join(path),
            offset,
            damage,
        }
    }

    fn open_segment(&mut self, segment: usize) -> Result<(), OpenError> {
        self.segment = segment;
        self.offset = 0;
        self.window.forget();
        self.file = match self.ordinals.get(segment) {
            None => None,
            Some(ordinal) => Some(self.open_file(*ordinal)?),
        };
        Ok(())
    }

    fn open_file(&self, ordinal: u64) -> Result<Arc<dyn StorageFile>, OpenError> {
        let path = self.name.path(ordinal);
        self.storage
            .open(&path, Access::Direct)
            .map_err(|error| OpenError::io("open", self.storage.root().join(&path), error))
    }

    fn read(&mut self, offset: u64, bytes: usize) -> Result<Range<usize>, OpenError> {
        let Some(file) = self.file.clone() else { return Ok(0..0) };
        self.window.read(file.as_ref(), offset, bytes).map_err(|error| {
            OpenError::io("read", self.storage.root().join(self.position().0), error)
        })
    }

    /// What stands where the next block should be.
    fn look(&mut self) -> Result<Found, OpenError> {
        let range = self.read(self.offset, ALIGN_BYTES)?;
        if range.is_empty() {
            return Ok(Found::Blank);
        }
        let start = range.start;
        let prefix = match Prefix::parse(&self.window.bytes()[range]) {
            Ok(prefix) => prefix,
            Err(NotABlock::Blank) => return Ok(Found::Blank),
            Err(NotABlock::Damaged(what)) => return Ok(Found::Damaged(what)),
            Err(NotABlock::Newer(_)) if !self.may_believe(start) => {
                return Ok(Found::Damaged("a header of another engine"));
            }
            Err(NotABlock::Newer(found)) => return Err(self.newer(found)),
        };
        let (header, block_bytes) = (*prefix.header, prefix.block_bytes());
        let payload = prefix.payload_range();
        if !self.may_believe(start) {
            return Ok(Found::Damaged("a block of another engine or shard"));
        }
        if !prefix.time().is_possible() {
            return Err(self.corrupt("a block whose time makes no sense".into()));
        }
        if let Some(found) = self.judge(&header)? {
            return Ok(found);
        }
        if block_bytes > WINDOW_BYTES {
            return Err(self.corrupt(format!("block {} is too long", self.last.blocks)));
        }
        debug_assert!(start.is_multiple_of(ALIGN_BYTES));
        let range = self.read(self.offset, block_bytes)?;
        let Some(payload) = self.window.bytes()[range.clone()].get(payload) else {
            return Ok(Found::Damaged("the segment ends within the block"));
        };
        if crc32c::crc32c(payload) != header.payload_crc.get() {
            return Ok(Found::Damaged("payload checksum differs"));
        }
        if header.previous_hash != self.last.hash {
            return Ok(Found::Unchained);
        }
        Ok(Found::Block(range))
    }

    /// Whether a whole header is that of the next block: `None`. Numbers, epoch and chain tell it from
    /// blocks of an earlier life of its place.
    fn judge(&self, header: &BlockHeader) -> Result<Option<Found>, OpenError> {
        let Expected { epoch, mark, .. } = self.expected;
        let (next, number) = (self.last.blocks, header.number.get());
        if let Some(damage) = self.expected.foreign(header) {
            return Err(self.corrupt(damage));
        }
        let newest = if number < mark.blocks { mark.epoch } else { epoch };
        if header.epoch.get() > newest {
            return Err(self.corrupt(format!(
                "block {number} is of open {}, but the manifest knows only {newest}",
                header.epoch.get()
            )));
        }
        // Opens never go back along the log: one that is older than the last block's was cut off.
        let is_older = header.epoch.get() < self.last.epoch;
        if number < next || is_older || (number >= mark.blocks && header.epoch.get() < epoch) {
            return Ok(Some(Found::Stale));
        }
        if number > next {
            if self.expected.cut_at_damage && next >= mark.blocks {
                return Ok(Some(Found::Damaged("a block is missing")));
            }
            return Err(self.corrupt(format!("block {next} is missing; block {number} is there")));
        }
        Ok(None)
    }

    /// Whether to believe the header at this place of the window. See the module.
    fn may_believe(&self, start: usize) -> bool {
        let header = BlockHeader::ref_from_prefix(&self.window.bytes()[start..]);
        self.offset == 0 || header.is_ok_and(|(header, _)| self.is_ours(header))
    }

    fn newer(&self, found: u16) -> OpenError {
        let path = self.storage.root().join(self.position().0);
        OpenError::NewerFormat { path, found, known: FORMAT_VERSION }
    }

    /// Whether the next segment starts with the next block.
    fn goes_on_in_next(&mut self) -> Result<bool, OpenError> {
        Ok(matches!(self.look_at_next()?, Found::Block(_)))
    }

    /// What stands at the start of the next segment.
    fn look_at_next(&mut self) -> Result<Found, OpenError> {
        if self.segment + 1 >= self.ordinals.len() {
            return Ok(Found::Blank);
        }
        let here = (self.segment, self.offset);
        self.open_segment(self.segment + 1)?;
        let found = self.look();
        self.open_segment(here.0)?;
        self.offset = here.1;
        found
    }

    /// Whether the log may end here, as far as this shard and the manifest know.
    fn check_end(&mut self, found: &Found) -> Result<(), OpenError> {
        let (next, mark) = (self.last.blocks, self.expected.mark);
        let what = match found {
            Found::Damaged(what) => what,
            _ => "nothing is there",
        };
        if next < mark.blocks {
            return Err(self.corrupt(format!(
                "block {next} of the {} that the manifest saw: {what}",
                mark.blocks
            )));
        }
        let later = self.later_block()?;
        if self.expected.cut_at_damage || mutants::is(Mutant::AcceptsDamagedMiddle) {
            return Ok(());
        }
        if let Some((path, offset, number)) = later {
            return Err(self.corrupt(format!(
                "block {next}: {what}, but block {number} is at byte {offset} of {path}"
            )));
        }
        Ok(())
    }

    /// A block of this epoch behind the end: path, offset, number. One that is not of this log is
    /// refused: it would be as soon as the log has grown up to it.
    ///
    /// A writer leaves a segment only when the next block does not fit. So if the largest block would
    /// still fit behind the end, a segment that starts with zeros, or with a block of its earlier life,
    /// is a spare, and is not read through.
    fn later_block(&mut self) -> Result<Option<(String, u64, u64)>, OpenError> {
        let here = (self.segment, self.offset);
        let segment_bytes = self.segment_bytes()?;
        let may_have_left = self.offset + WINDOW_BYTES as u64 > segment_bytes;
        let mut later = None;
        let mut offset = self.offset + ALIGN_BYTES as u64;
        while later.is_none() && self.segment < self.ordinals.len() {
            loop {
                let range = self.read(offset, ALIGN_BYTES)?;
                if range.is_empty() {
                    break;
                }
                let parsed = Prefix::parse(&self.window.bytes()[range]);
                let header = parsed.as_ref().map(|prefix| *prefix.header);
                if let Ok(header) = header
                    && self.is_later(&header)
                {
                    later = Some((self.position().0, offset, header.number.get()));
                    break;
                }
                if offset == 0
                    && let Some(damage) =
                        header.as_ref().ok().and_then(|it| self.expected.foreign(it))
                {
                    return Err(self.corrupt_at(&self.position().0, offset, damage));
                }
                let earlier = header.is_ok_and(|header| {
                    self.is_ours(&header) && header.number.get() < self.last.blocks
                });
                self.saw_earlier_life |= earlier;
                let is_spare = earlier || matches!(parsed, Err(NotABlock::Blank));
                if offset == 0 && is_spare && !may_have_left {
                    break;
                }
                offset += ALIGN_BYTES as u64;
            }
            if later.is_none() {
                self.open_segment(self.segment + 1)?;
                offset = 0;
            }
        }
        self.open_segment(here.0)?;
        self.offset = here.1;
        Ok(later)
    }

    fn segment_bytes(&self) -> Result<u64, OpenError> {
        let Some(file) = &self.file else { return Ok(0) };
        file.len().map_err(|error| {
            OpenError::io("measure", self.storage.root().join(self.position().0), error)
        })
    }

    /// Not the next block itself: torn at the start of a segment, its header may be whole.
    fn is_later(&self, header: &BlockHeader) -> bool {
        self.is_ours(header)
            && header.epoch.get() == self.expected.epoch
            && header.number.get() > self.last.blocks
            && header.number.get() >= self.expected.mark.blocks
    }

    fn is_ours(&self, header: &BlockHeader) -> bool {
        header.engine_id == self.expected.engine_id && header.shard.get() == self.expected.shard
    }
}

/// A part of a file in memory.
#[derive(Default)]
struct Window {
    buffer: Option<AlignedBuffer>,
    /// Which part of the file it holds.
    start: u64,
    len: usize,
}

impl Window {
    fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[..self.len])
    }

    fn forget(&mut self) {
        self.len = 0;
    }

    /// Where `bytes` bytes from `offset` stand in the window; fewer at the end of the file. `offset`
    /// is a multiple of [`ALIGN_BYTES`].
    fn read(
        &mut self,
        file: &dyn StorageFile,
        offset: u64,
        bytes: usize,
    ) -> std::io::Result<Range<usize>> {
        let held = self.start..self.start + self.len as u64;
        if !(held.contains(&offset) && offset + bytes as u64 <= held.end) {
            let left = file.len()?.saturating_sub(offset);
            let wanted = (WINDOW_BYTES as u64).min(left) as usize;
            let room = wanted.next_multiple_of(ALIGN_BYTES);
            if self.buffer.as_ref().is_none_or(|buffer| buffer.len() < room) {
                self.buffer = Some(AlignedBuffer::zeroed(room));
            }
            self.start = offset;
            self.len = 0;
            if let Some(buffer) = self.buffer.as_mut().filter(|_| room > 0) {
                self.len = file.read_at(&mut buffer[..room], offset)?;
            }
        }
        let at = (offset - self.start) as usize;
        Ok(at..(at + bytes).min(self.len))
    }
}
