//! Chunks: what a checkpoint's parts are made of. Their layout is defined here and nowhere else.

use zerocopy::byteorder::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::log::RefusedBody;
use crate::order::Policy;
use crate::storage::{ALIGN_BYTES, AlignedBuffer};

const CHUNK_MAGIC: [u8; 8] = *b"dbrCHUNK";
/// No chunk is longer.
pub(crate) const CHUNK_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ChunkHeader {
    magic: [u8; 8],
    /// Number and epoch of the checkpoint: they tell it from what an older file left at this place.
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
    Merchants = 6,
    /// The engine's own.
    Switch = 7,
    /// Refusals that are remembered.
    Refusals = 8,
}

impl ChunkKind {
    const ALL: [Self; 9] = [
        Self::Orders,
        Self::Skus,
        Self::Gaps,
        Self::Sales,
        Self::MoreSales,
        Self::Buyers,
        Self::Merchants,
        Self::Switch,
        Self::Refusals,
    ];
}

/// An order, followed by the lines of a cart, of a partial order by the units (u32) that each line
/// lacks, and by the payload.
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
/// From this bit on the two of its [`Policy`].
pub(crate) const ORDER_POLICY_SHIFT: u32 = 2;
/// It waits or waited: a [`WaitedEntry`] follows its lines.
pub(crate) const ORDER_WAITED: u8 = 16;

/// Where an order stands or stood in its SKU's list.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct WaitedEntry {
    pub(crate) arrival: U64,
    pub(crate) patience_ends_ms: U64,
    pub(crate) class: u8,
    /// 1: its waiting ended with a hold.
    pub(crate) served: u8,
    pub(crate) reserved: [u8; 2],
    pub(crate) patience_ms: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct LineEntry {
    pub(crate) sku: U64,
    pub(crate) units: U32,
}

/// What a SKU's own records made of it, followed by its rules and some of its adjustments; more may follow
/// behind another entry of the same SKU.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SkuEntry {
    pub(crate) sku: U64,
    pub(crate) stocked: I64,
    /// Units sold by orders that have left memory.
    pub(crate) retired: I64,
    pub(crate) last_lsn: U64,
    /// The last number of its waiting list.
    pub(crate) list_sequence: U64,
    pub(crate) buyer_limit: U32,
    /// Adjustments that follow.
    pub(crate) adjusts: U32,
    /// 1: an `add` or `set` made it known.
    pub(crate) known: u8,
    /// Words that follow, as [`rule_words`](crate::log::rule_words) tells them.
    pub(crate) rules: u8,
    /// Adjustments with dated keys up to this time may have been forgotten.
    pub(crate) forgotten_ms: MsBytes,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct MerchantEntry {
    pub(crate) merchant: U64,
    pub(crate) last_lsn: U64,
    /// 0: no rate.
    pub(crate) orders_per_s: U32,
    pub(crate) burst: U32,
    pub(crate) switch: u8,
    pub(crate) reserved: [u8; 7],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SwitchEntry {
    pub(crate) last_lsn: U64,
    pub(crate) switch: u8,
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
    /// When it happened; 0: not after the checkpoint.
    pub(crate) at_ms: MsBytes,
}

/// Milliseconds, for some 8,900 years.
pub(crate) type MsBytes = [u8; 6];

pub(crate) fn ms_bytes(ms: u64) -> MsBytes {
    let mut bytes = MsBytes::default();
    bytes.copy_from_slice(&ms.to_le_bytes()[..6]);
    bytes
}

pub(crate) fn ms_of_bytes(bytes: MsBytes) -> u64 {
    let mut word = [0; 8];
    word[..6].copy_from_slice(&bytes);
    u64::from_le_bytes(word)
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

/// A refusal and where it is logged; in that order.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RefusalEntry {
    pub(crate) lsn: U64,
    pub(crate) refused: RefusedBody,
}

const _: () = assert!(size_of::<OrderEntry>() == 96 && size_of::<ChunkHeader>() == 56);
const CHUNK_HEADER_BYTES: usize = size_of::<ChunkHeader>();

/// Which chunk of which checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkId {
    pub(crate) number: u64,
    pub(crate) epoch: u32,
    pub(crate) part: u32,
    pub(crate) nth: u32,
}

/// A chunk that is being filled, in memory that has been touched: a caller that waits for the lock of what is copied
/// into it does not wait for a page fault too.
#[derive(Debug)]
pub(crate) struct ChunkBuffer {
    bytes: AlignedBuffer,
    used: usize,
    entries: u32,
    about: ChunkAbout,
    /// How long the chunk is that was sealed.
    sealed: usize,
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
        Self { bytes, used: CHUNK_HEADER_BYTES, entries: 0, about, sealed: 0 }
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
        self.sealed = total;
        &self.bytes[..total]
    }

    /// The chunk that was sealed last, until another is begun.
    pub(crate) fn sealed(&self) -> &[u8] {
        &self.bytes[..self.sealed]
    }
}

/// An order of a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderParts<'a> {
    pub(crate) order: &'a OrderEntry,
    /// Of a cart.
    pub(crate) lines: &'a [LineEntry],
    /// Of a partial order, by line.
    pub(crate) missing: &'a [U32],
    pub(crate) waited: Option<&'a WaitedEntry>,
    pub(crate) payload: &'a [u8],
}

/// What a chunk is made of.
pub(crate) trait FixedEntry: IntoBytes + Immutable {}
impl FixedEntry for OrderEntry {}
impl FixedEntry for LineEntry {}
impl FixedEntry for WaitedEntry {}
impl FixedEntry for SkuEntry {}
impl FixedEntry for AdjustedEntry {}
impl FixedEntry for GapEntry {}
impl FixedEntry for SaleEntry {}
impl FixedEntry for BuyerEntry {}
impl FixedEntry for MerchantEntry {}
impl FixedEntry for SwitchEntry {}
impl FixedEntry for RefusalEntry {}

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
    ) -> impl Iterator<Item = Result<OrderParts<'a>, &'static str>> + use<'a> {
        entries(self.payload, self.entries, |bytes| {
            let (order, rest) = OrderEntry::ref_from_prefix(bytes).ok()?;
            let lines = usize::from(order.lines.get());
            let (lines, rest) = <[LineEntry]>::ref_from_prefix_with_elems(rest, lines).ok()?;
            let missing = match Policy::from_bits(order.flags >> ORDER_POLICY_SHIFT) {
                Ok(Policy::Partial) => lines.len().max(1),
                _ => 0,
            };
            let (missing, rest) = <[U32]>::ref_from_prefix_with_elems(rest, missing).ok()?;
            let (waited, rest) = match order.flags & ORDER_WAITED {
                0 => (None, rest),
                _ => {
                    let (waited, rest) = WaitedEntry::ref_from_prefix(rest).ok()?;
                    (Some(waited), rest)
                }
            };
            let (payload, rest) = rest.split_at_checked(order.payload_bytes.get() as usize)?;
            Some((OrderParts { order, lines, missing, waited, payload }, rest))
        })
    }

    /// How many orders it holds.
    pub(crate) fn orders_in(&self) -> u64 {
        match self.about.kind {
            ChunkKind::Orders => self.entries.into(),
            _ => 0,
        }
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
    ) -> impl Iterator<Item = Result<SkuParts<'a>, &'static str>> + use<'a> {
        entries(self.payload, self.entries, |bytes| {
            let (sku, rest) = SkuEntry::ref_from_prefix(bytes).ok()?;
            let (rules, rest) = <[U64]>::ref_from_prefix_with_elems(rest, sku.rules.into()).ok()?;
            let adjusts = sku.adjusts.get() as usize;
            let (adjusts, rest) =
                <[AdjustedEntry]>::ref_from_prefix_with_elems(rest, adjusts).ok()?;
            Some(((sku, rules, adjusts), rest))
        })
    }
}

/// A SKU, its rules, and some of its adjustments.
pub(crate) type SkuParts<'a> = (&'a SkuEntry, &'a [U64], &'a [AdjustedEntry]);

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

    #[test]
    fn any_change_of_a_chunk_is_noticed() {
        let id = ChunkId { number: 3, epoch: 1, part: 2, nth: 9 };
        let mut chunk = ChunkBuffer::new();
        let flags = Policy::Partial.bits() << ORDER_POLICY_SHIFT;
        let (lines, payload_bytes) = (1.into(), 3.into());
        let entry = OrderEntry { flags, lines, payload_bytes, ..OrderEntry::new_zeroed() };
        chunk.entry(&entry);
        chunk.append(&LineEntry { sku: 5.into(), units: 6.into() });
        chunk.append_bytes(&7_u32.to_le_bytes());
        chunk.append_bytes(b"abc");
        let bytes = chunk.seal(id).to_vec();
        let view = ChunkView::parse(&bytes, id).expect("whole");
        assert_eq!(view.bytes, bytes.len());
        let orders: Vec<_> = view.orders().collect();
        let [Ok(OrderParts { lines: [line], missing: [missing], payload: b"abc", .. })] =
            &orders[..]
        else {
            panic!("{orders:?}");
        };
        assert_eq!((line.units.get(), missing.get()), (6, 7));
        assert!(ChunkView::parse(&bytes, ChunkId { number: 4, ..id }).is_err());
        for at in 0..CHUNK_HEADER_BYTES + size_of::<OrderEntry>() + 19 {
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
                    state = crate::routing::mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
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
