//! The record of a placed order.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{BuyerId, OrderId, Quantity, RequestKey};
use crate::log::record::waiting::{JOINS_BYTES, Joins};
use crate::log::record::{
    KIND_PLACE, LineBody, LoggedLines, RecordHeader, header, key_flag, logged_key, pad, write_lines,
};
use crate::order::{Line, Policy};

/// Bytes of an order with one line and no payload.
pub(crate) const PLACE_BYTES: usize = size_of::<PlaceFixed>();

/// A cart: `sku` is the number of lines, which follow; `quantity` is 0.
const FLAG_CART: u8 = 2;
/// A payload follows: its length in bytes (u32), then the bytes.
const FLAG_PAYLOAD: u8 = 4;
/// The hold time was the engine's default.
const FLAG_DEFAULT_HOLD: u8 = 8;
/// The order holds nothing: it joins its SKU's list. A [`Joins`] follows the lines.
const FLAG_JOINS: u8 = 64;
/// From this bit on the two of the order's [`Policy`].
const POLICY_SHIFT: u32 = 4;
/// Of [`Policy::Partial`]: something lacks, or has a minimum. A [`PartBody`] of every line follows the lines,
/// which say what is held.
const FLAG_PARTS: u8 = 128;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PlaceFixed {
    header: RecordHeader,
    body: PlaceBody,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PlaceBody {
    order: U64,
    buyer: [u8; 16],
    key: [u8; 16],
    sku: U64,
    quantity: U32,
    hold_ms: U32,
}

/// What a line of a partial order lacks.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PartBody {
    missing: U32,
    minimum: U32,
}

const _: () = assert!(PLACE_BYTES == 64);

/// An order was made and its stock held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlaceRecord<'a> {
    pub(crate) order: OrderId,
    pub(crate) buyer: BuyerId,
    pub(crate) key: RequestKey,
    pub(crate) time_low: u32,
    pub(crate) hold_ms: u32,
    pub(crate) default_hold: bool,
    pub(crate) policy: Policy,
    /// What is held.
    pub(crate) lines: LoggedLines<'a>,
    /// Of [`Policy::Partial`], if something lacks or has a minimum.
    pub(crate) parts: LoggedParts<'a>,
    /// Of [`Policy::Wait`], if it waits; the lines say what for.
    pub(crate) joins: Option<Joins>,
    pub(crate) payload: &'a [u8],
}

/// What a line of a partial order asked for beside what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) missing: u32,
    pub(crate) minimum: u32,
}

/// A part for every line, in memory, or as they stand in a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LoggedParts<'a> {
    /// Nothing lacks, and nothing has a minimum.
    None,
    /// `minimums` may be empty: then there are none.
    Memory {
        wanted: &'a [Line],
        held: &'a [Line],
        minimums: &'a [u32],
    },
    Bytes(&'a [u8]),
}

impl LoggedParts<'_> {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Part> + '_ {
        let (wanted, held, minimums, bytes): (&[Line], &[Line], &[u32], &[u8]) = match self {
            Self::None => (&[], &[], &[], &[]),
            Self::Memory { wanted, held, minimums } => (wanted, held, minimums, &[]),
            Self::Bytes(bytes) => (&[], &[], &[], bytes),
        };
        let minimums = minimums.iter().copied().chain(std::iter::repeat(0));
        let memory = wanted.iter().zip(held).zip(minimums).map(|((wanted, held), minimum)| Part {
            missing: wanted.quantity.get().saturating_sub(held.quantity.get()),
            minimum,
        });
        memory.chain(bytes.chunks_exact(size_of::<PartBody>()).map(|bytes| {
            let part = PartBody::ref_from_bytes(bytes).expect("a chunk is one part long");
            Part { missing: part.missing.get(), minimum: part.minimum.get() }
        }))
    }
}

impl PartialEq for LoggedParts<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for LoggedParts<'_> {}

impl PlaceRecord<'_> {
    /// What every place record begins with. The record has `bytes` bytes.
    #[inline(always)]
    fn fixed(&self, bytes: usize) -> PlaceFixed {
        let lines = self.lines.count();
        let cart = lines > 1;
        let flags = key_flag(self.key)
            | if cart { FLAG_CART } else { 0 }
            | if self.payload.is_empty() { 0 } else { FLAG_PAYLOAD }
            | if self.default_hold { FLAG_DEFAULT_HOLD } else { 0 }
            | if self.joins.is_some() { FLAG_JOINS } else { 0 }
            | if self.parts.is_none() { 0 } else { FLAG_PARTS }
            | self.policy.bits() << POLICY_SHIFT;
        let (sku, quantity) = match self.lines.single() {
            Some(line) => (line.sku.get(), line.quantity.get()),
            None => (lines as u64, 0),
        };
        let body = PlaceBody {
            order: self.order.get().into(),
            buyer: self.buyer.to_bytes(),
            key: self.key.to_bytes(),
            sku: sku.into(),
            quantity: quantity.into(),
            hold_ms: self.hold_ms.into(),
        };
        PlaceFixed { header: header(KIND_PLACE, flags, bytes, self.time_low), body }
    }

    /// The record of an order of one line that has nothing else.
    #[inline(always)]
    pub(crate) fn plain(&self) -> [u8; PLACE_BYTES] {
        zerocopy::transmute!(self.fixed(PLACE_BYTES))
    }

    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let (start, lines) = (to.len(), self.lines.count());
        let has_parts = !self.parts.is_none();
        let bytes = place_bytes(lines, has_parts, self.joins.is_some(), self.payload.len());
        let fixed = self.fixed(bytes);
        to.extend_from_slice(fixed.as_bytes());
        if bytes == PLACE_BYTES {
            return;
        }
        if lines > 1 {
            write_lines(&self.lines, to);
        }
        for part in self.parts.iter() {
            let body = PartBody { missing: part.missing.into(), minimum: part.minimum.into() };
            to.extend_from_slice(body.as_bytes());
        }
        self.joins.iter().for_each(|joins| joins.write(to));
        if !self.payload.is_empty() {
            to.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
            to.extend_from_slice(self.payload);
        }
        pad(to, start, bytes);
    }
}

/// Bytes that a place record takes.
pub(crate) fn place_bytes(lines: usize, parts: bool, joins: bool, payload_bytes: usize) -> usize {
    let cart = if lines > 1 { lines * size_of::<LineBody>() } else { 0 };
    let parts = if parts { lines * size_of::<PartBody>() } else { 0 };
    let joins = if joins { JOINS_BYTES } else { 0 };
    let payload = if payload_bytes > 0 { 4 + payload_bytes } else { 0 };
    (PLACE_BYTES + cart + parts + joins + payload).next_multiple_of(8)
}

pub(super) fn parse_place<'a>(
    header: &RecordHeader,
    body: &'a [u8],
) -> Result<PlaceRecord<'a>, &'static str> {
    let (place, rest) = PlaceBody::ref_from_prefix(body).map_err(|_| "place record too short")?;
    let policy = Policy::from_bits(header.flags >> POLICY_SHIFT)?;
    let (lines, rest) = if header.flags & FLAG_CART == 0 {
        let quantity = Quantity::new(place.quantity.get());
        (LoggedLines::One(Line { sku: place.sku.get().into(), quantity }), rest)
    } else {
        let bytes = (place.sku.get() as usize)
            .checked_mul(size_of::<LineBody>())
            .filter(|bytes| *bytes <= rest.len())
            .ok_or("more lines than the record holds")?;
        (LoggedLines::Bytes(&rest[..bytes]), &rest[bytes..])
    };
    let (parts, rest) = if header.flags & FLAG_PARTS == 0 {
        (LoggedParts::None, rest)
    } else {
        if policy != Policy::Partial {
            return Err("parts of an order that is all or none");
        }
        let bytes = lines.count() * size_of::<PartBody>();
        let (parts, rest) =
            rest.split_at_checked(bytes).ok_or("more parts than the record holds")?;
        (LoggedParts::Bytes(parts), rest)
    };
    let (joins, rest) = if header.flags & FLAG_JOINS == 0 {
        (None, rest)
    } else {
        if policy != Policy::Wait || lines.count() != 1 {
            return Err("an order joins a list that may not wait");
        }
        let (joins, rest) = Joins::parse(rest)?;
        (Some(joins), rest)
    };
    let payload = if header.flags & FLAG_PAYLOAD == 0 {
        &[]
    } else {
        let (len, rest) = U32::read_from_prefix(rest).map_err(|_| "payload length missing")?;
        rest.get(..len.get() as usize).ok_or("payload longer than the record")?
    };
    Ok(PlaceRecord {
        order: OrderId::from_u64(place.order.get()),
        buyer: BuyerId::from_uuid_bytes(place.buyer),
        key: logged_key(place.key, header.flags),
        time_low: header.time_low.get(),
        hold_ms: place.hold_ms.get(),
        default_hold: header.flags & FLAG_DEFAULT_HOLD != 0,
        policy,
        lines,
        parts,
        joins,
        payload,
    })
}
