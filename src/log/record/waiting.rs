//! What is logged of waiting lists, besides that an order joins one.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::OrderId;
use crate::log::record::{KIND_PROMOTE, RecordHeader, header};
use crate::order::{CLASS_MAX, LIST_SEQUENCE_MAX, ListPlace};

/// At the end of the record of an order that joins a list.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct JoinsBody {
    arrival: U64,
    patience_ms: U32,
    class: u8,
    reserved: [u8; 3],
}

pub(super) const JOINS_BYTES: usize = size_of::<JoinsBody>();

/// A placed order holds nothing yet: it joins its SKU's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joins {
    pub(crate) place: ListPlace,
    /// How long it waits from the record's time on.
    pub(crate) patience_ms: u32,
}

impl Joins {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let body = JoinsBody {
            arrival: self.place.arrival.into(),
            patience_ms: self.patience_ms.into(),
            class: self.place.class,
            reserved: [0; 3],
        };
        to.extend_from_slice(body.as_bytes());
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), &'static str> {
        let (body, rest) =
            JoinsBody::ref_from_prefix(bytes).map_err(|_| "a join longer than the record")?;
        if body.class > CLASS_MAX {
            return Err("a class out of range");
        }
        let place = ListPlace { class: body.class, arrival: possible(body.arrival)? };
        Ok((Self { place, patience_ms: body.patience_ms.get() }, rest))
    }
}

/// Bytes of a promotion.
pub(crate) const PROMOTE_BYTES: usize = size_of::<RecordHeader>() + size_of::<PromoteBody>();

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PromoteBody {
    order: U64,
    list_sequence: U64,
}

/// An order that waited was served: it is held, from this record's time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PromoteRecord {
    pub(crate) order: OrderId,
    pub(crate) time_low: u32,
    /// The number of this in the list.
    pub(crate) list_sequence: u64,
}

impl PromoteRecord {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let body = PromoteBody {
            order: self.order.get().into(),
            list_sequence: self.list_sequence.into(),
        };
        to.extend_from_slice(header(KIND_PROMOTE, 0, PROMOTE_BYTES, self.time_low).as_bytes());
        to.extend_from_slice(body.as_bytes());
    }
}

pub(super) fn parse_promote(
    header: &RecordHeader,
    body: &[u8],
) -> Result<PromoteRecord, &'static str> {
    let (body, _) = PromoteBody::ref_from_prefix(body).map_err(|_| "promotion too short")?;
    Ok(PromoteRecord {
        order: OrderId::from_u64(body.order.get()),
        time_low: header.time_low.get(),
        list_sequence: possible(body.list_sequence)?,
    })
}

/// The number at the end of a verb's record; 0: there is none.
pub(super) fn parse_sequence(rest: &[u8]) -> Result<u64, &'static str> {
    match U64::ref_from_prefix(rest) {
        Ok((sequence, _)) => possible(*sequence),
        Err(_) => Ok(0),
    }
}

/// A number that a list can have.
pub(super) fn possible(sequence: U64) -> Result<u64, &'static str> {
    let is_possible = sequence.get() > 0 && sequence.get() <= LIST_SEQUENCE_MAX;
    is_possible.then_some(sequence.get()).ok_or("a waiting list's number is out of range")
}
