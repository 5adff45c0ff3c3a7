//! Records: what a lane's section holds. Their layout is defined here and nowhere else.
//!
//! Every record starts with a [`RecordHeader`] and has a length in words of eight bytes. An order of
//! one line takes 64 bytes. Times are the low 32 bits of engine time in milliseconds; the block's
//! header supplies the rest, see [`full_time_ms`].
//!
//! Replay applies outcomes and never decides anew, so a record says what happened, not what was
//! asked for, and both where they can differ.

mod place;
mod refuse;
mod retire;
mod rules;
mod waiting;

use zerocopy::byteorder::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{KeyKind, OrderId, RequestKey, SkuId};
use crate::order::{AdjustKind, Line, Verb};
use place::parse_place;
pub(crate) use place::{LoggedParts, PLACE_BYTES, PlaceRecord, place_bytes};
use refuse::parse_refuse;
pub(crate) use refuse::{REFUSE_BYTES, RefuseRecord, RefusedBody};
use retire::parse_retire;
pub(crate) use retire::{LoggedOrders, RetireRecord, retire_bytes};
pub(crate) use rules::{MerchantRecord, RulesRecord, SwitchRecord, rule_words, rules_of_words};
use rules::{parse_merchant, parse_rules, parse_switch};
pub(crate) use waiting::{Joins, PROMOTE_BYTES, PromoteRecord};
use waiting::{parse_promote, parse_sequence};

/// Bytes of a confirm, cancel, fulfil or expiry.
pub(crate) const ORDER_BYTES: usize = size_of::<OrderBody>() + size_of::<RecordHeader>();
/// Bytes of a cancel or expiry of an order that waits.
pub(crate) const LEAVE_BYTES: usize = ORDER_BYTES + size_of::<U64>();
const ADJUST_BYTES: usize = size_of::<AdjustBody>() + size_of::<RecordHeader>();

const KIND_PLACE: u8 = 1;
const KIND_CONFIRM: u8 = 2;
const KIND_CANCEL: u8 = 3;
const KIND_FULFIL: u8 = 4;
const KIND_EXPIRE: u8 = 5;
const KIND_RETIRE: u8 = 6;
const KIND_COUNT_BUYERS: u8 = 7;
const KIND_FORGET_BUYERS: u8 = 8;
const KIND_PROMOTE: u8 = 9;
const KIND_REFUSE: u8 = 10;
const KIND_KEEP_BUYERS: u8 = 11;
const KIND_END_BUYERS: u8 = 12;
const KIND_ADJUST: u8 = 32;
const KIND_RULES: u8 = 33;
const KIND_END_SALE: u8 = 34;
const KIND_SWITCH: u8 = 35;
const KIND_MERCHANT: u8 = 36;

/// The key is a [`KeyKind::UuidV7`].
const FLAG_KEY_UUID_V7: u8 = 1;
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RecordHeader {
    kind: u8,
    flags: u8,
    words: U16,
    time_low: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LineBody {
    sku: U64,
    quantity: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct OrderBody {
    order: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AdjustBody {
    sku: U64,
    key: [u8; 16],
    delta: I64,
    units: U32,
    expected: U32,
    kind: u8,
    reserved: [u8; 3],
    reference_bytes: U32,
}

/// Of a record that is about a SKU and says all else by its kind.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SkuBody {
    sku: U64,
}

const _: () = assert!(ORDER_BYTES == 16);

/// A record as it is written and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Place(PlaceRecord<'a>),
    Order(OrderRecord),
    Promote(PromoteRecord),
    Retire(RetireRecord<'a>),
    Refuse(RefuseRecord),
    Buyers(BuyersRecord),
    Adjust(AdjustRecord<'a>),
    Rules(RulesRecord),
    EndSale(EndSaleRecord),
    Switch(SwitchRecord),
    Merchant(MerchantRecord),
}

/// Lines in memory, or as they stand in a record.
#[derive(Clone, Debug)]
pub(crate) enum LoggedLines<'a> {
    Memory(&'a [Line]),
    One(Line),
    Bytes(&'a [u8]),
}

impl LoggedLines<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Line> + '_ {
        let (memory, bytes): (&[Line], &[u8]) = match self {
            Self::Memory(lines) => (lines, &[]),
            Self::One(line) => (std::slice::from_ref(line), &[]),
            Self::Bytes(bytes) => (&[], bytes),
        };
        let logged = bytes.chunks_exact(size_of::<LineBody>()).map(|bytes| {
            let line = LineBody::ref_from_bytes(bytes).expect("a chunk is one line long");
            Line { sku: line.sku.get().into(), quantity: line.quantity.get().into() }
        });
        memory.iter().copied().chain(logged)
    }

    /// The line, if there is one only.
    fn single(&self) -> Option<Line> {
        match self {
            Self::One(line) | Self::Memory([line]) => Some(*line),
            // A record has lines in bytes only if it has several.
            Self::Memory(_) | Self::Bytes(_) => None,
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Memory(lines) => lines.len(),
            Self::One(_) => 1,
            Self::Bytes(bytes) => bytes.len() / size_of::<LineBody>(),
        }
    }
}

impl PartialEq for LoggedLines<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for LoggedLines<'_> {}

/// A verb moved an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderRecord {
    pub(crate) order: OrderId,
    pub(crate) verb: Verb,
    pub(crate) time_low: u32,
    /// Of an order that waited: its leaving has this number in the list. 0: it did not wait.
    pub(crate) list_sequence: u64,
}

/// What happened in a partition to its counts of what each buyer has of a SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BuyersRecord {
    pub(crate) sku: SkuId,
    pub(crate) counting: Counting,
    pub(crate) time_low: u32,
}

/// See [`BuyersRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// They are counted from here on.
    Begins,
    /// What they have from orders before this record is forgotten, provided that the SKU's home lane has its
    /// [`EndSaleRecord`] under this LSN: a crash may have taken it.
    Ends {
        /// LSN of that record.
        home_lsn: u64,
    },
    /// What they have from orders before this record is forgotten. Only in logs of before the end of a sale
    /// depended on its home lane.
    Forgotten,
    /// The last end is void, because a crash took its [`EndSaleRecord`].
    GoesOn,
}

/// The host ended a SKU's sale: it has no buyer limit any more. The partitions' records of the same end name the
/// LSN of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndSaleRecord {
    pub(crate) sku: SkuId,
    pub(crate) time_low: u32,
}

/// The host changed a SKU's stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdjustRecord<'a> {
    pub(crate) sku: SkuId,
    pub(crate) key: RequestKey,
    pub(crate) time_low: u32,
    pub(crate) kind: AdjustKind,
    pub(crate) units: u32,
    pub(crate) expected: u32,
    /// By how much the stocked figure changed.
    pub(crate) delta: i64,
    pub(crate) reference: &'a [u8],
}

#[cfg(test)]
impl Record<'_> {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Place(record) => record.write(to),
            Self::Order(record) => record.write(to),
            Self::Promote(record) => record.write(to),
            Self::Retire(record) => record.write(to),
            Self::Refuse(record) => record.write(to),
            Self::Buyers(record) => record.write(to),
            Self::Adjust(record) => record.write(to),
            Self::Rules(record) => record.write(to),
            Self::EndSale(record) => record.write(to),
            Self::Switch(record) => record.write(to),
            Self::Merchant(record) => record.write(to),
        }
    }
}

fn header(kind: u8, flags: u8, bytes: usize, time_low: u32) -> RecordHeader {
    debug_assert!(bytes.is_multiple_of(8) && bytes / 8 <= usize::from(u16::MAX));
    RecordHeader { kind, flags, words: ((bytes / 8) as u16).into(), time_low: time_low.into() }
}

fn pad(to: &mut Vec<u8>, start: usize, bytes: usize) {
    to.resize(start + bytes, 0);
}

const fn key_flag(key: RequestKey) -> u8 {
    match key.kind() {
        KeyKind::Opaque => 0,
        KeyKind::UuidV7 => FLAG_KEY_UUID_V7,
    }
}

const fn logged_key(bytes: [u8; 16], flags: u8) -> RequestKey {
    let kind = if flags & FLAG_KEY_UUID_V7 == 0 { KeyKind::Opaque } else { KeyKind::UuidV7 };
    RequestKey::from_logged(bytes, kind)
}

impl OrderRecord {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let kind = match self.verb {
            Verb::Confirm => KIND_CONFIRM,
            Verb::Cancel => KIND_CANCEL,
            Verb::Fulfil => KIND_FULFIL,
            Verb::Expire => KIND_EXPIRE,
        };
        let bytes = if self.list_sequence == 0 { ORDER_BYTES } else { LEAVE_BYTES };
        to.extend_from_slice(header(kind, 0, bytes, self.time_low).as_bytes());
        to.extend_from_slice(&self.order.get().to_le_bytes());
        if self.list_sequence != 0 {
            to.extend_from_slice(&self.list_sequence.to_le_bytes());
        }
    }
}

fn write_lines(lines: &LoggedLines<'_>, to: &mut Vec<u8>) {
    for line in lines.iter() {
        let body = LineBody { sku: line.sku.get().into(), quantity: line.quantity.get().into() };
        to.extend_from_slice(body.as_bytes());
    }
}

/// Bytes of a record that says all but the SKU by its kind.
pub(crate) const SKU_BYTES: usize = size_of::<RecordHeader>() + size_of::<SkuBody>();

/// Bytes of a partition's record that a sale ends.
pub(crate) const END_BUYERS_BYTES: usize = SKU_BYTES + size_of::<U64>();

fn write_sku(kind: u8, sku: SkuId, time_low: u32, to: &mut Vec<u8>) {
    to.extend_from_slice(header(kind, 0, SKU_BYTES, time_low).as_bytes());
    to.extend_from_slice(SkuBody { sku: sku.get().into() }.as_bytes());
}

impl BuyersRecord {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let kind = match self.counting {
            Counting::Begins => KIND_COUNT_BUYERS,
            Counting::Forgotten => KIND_FORGET_BUYERS,
            Counting::GoesOn => KIND_KEEP_BUYERS,
            Counting::Ends { home_lsn } => {
                let head = header(KIND_END_BUYERS, 0, END_BUYERS_BYTES, self.time_low);
                to.extend_from_slice(head.as_bytes());
                to.extend_from_slice(SkuBody { sku: self.sku.get().into() }.as_bytes());
                to.extend_from_slice(U64::new(home_lsn).as_bytes());
                return;
            }
        };
        write_sku(kind, self.sku, self.time_low, to);
    }
}

impl EndSaleRecord {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        write_sku(KIND_END_SALE, self.sku, self.time_low, to);
    }
}

impl AdjustRecord<'_> {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let start = to.len();
        let bytes = (ADJUST_BYTES + self.reference.len()).next_multiple_of(8);
        let body = AdjustBody {
            sku: self.sku.get().into(),
            key: self.key.to_bytes(),
            delta: self.delta.into(),
            units: self.units.into(),
            expected: self.expected.into(),
            kind: self.kind.code(),
            reserved: [0; 3],
            reference_bytes: (self.reference.len() as u32).into(),
        };
        to.extend_from_slice(
            header(KIND_ADJUST, key_flag(self.key), bytes, self.time_low).as_bytes(),
        );
        to.extend_from_slice(body.as_bytes());
        to.extend_from_slice(self.reference);
        pad(to, start, bytes);
    }

    /// Bytes that the record takes.
    pub(crate) fn bytes(reference_bytes: usize) -> usize {
        (ADJUST_BYTES + reference_bytes).next_multiple_of(8)
    }
}

/// The records of a section; an `Err` names what does not fit and ends it.
pub(crate) fn records(mut bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, &'static str>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let read = split(bytes).and_then(|(header, body, rest)| {
            bytes = rest;
            parse(header, body)
        });
        if read.is_err() {
            bytes = &[];
        }
        Some(read)
    })
}

/// Bytes of the record that starts here, by its header.
pub(crate) fn record_bytes(bytes: &[u8]) -> usize {
    RecordHeader::ref_from_prefix(bytes)
        .map_or(0, |(header, _)| usize::from(header.words.get()) * 8)
}

fn split(bytes: &[u8]) -> Result<(&RecordHeader, &[u8], &[u8]), &'static str> {
    let (header, _) =
        RecordHeader::ref_from_prefix(bytes).map_err(|_| "record shorter than its header")?;
    let len = usize::from(header.words.get()) * 8;
    if len < size_of::<RecordHeader>() || len > bytes.len() {
        return Err("record length out of its section");
    }
    let (record, rest) = bytes.split_at(len);
    Ok((header, &record[size_of::<RecordHeader>()..], rest))
}

const CUT_SHORT: &str = "record shorter or longer than its kind";

fn parse_buyers<'a>(
    header: &RecordHeader,
    body: &[u8],
    counting: Counting,
) -> Result<Record<'a>, &'static str> {
    let (sku, time_low) = (parse_sku(body)?, header.time_low.get());
    Ok(Record::Buyers(BuyersRecord { sku, counting, time_low }))
}

fn parse<'a>(header: &RecordHeader, body: &'a [u8]) -> Result<Record<'a>, &'static str> {
    let verb = match header.kind {
        KIND_PLACE => return parse_place(header, body).map(Record::Place),
        KIND_ADJUST => return parse_adjust(header, body).map(Record::Adjust),
        KIND_RETIRE => return parse_retire(header, body).map(Record::Retire),
        KIND_PROMOTE => return parse_promote(header, body).map(Record::Promote),
        KIND_REFUSE => return parse_refuse(header, body).map(Record::Refuse),
        KIND_COUNT_BUYERS => return parse_buyers(header, body, Counting::Begins),
        KIND_FORGET_BUYERS => return parse_buyers(header, body, Counting::Forgotten),
        KIND_KEEP_BUYERS => return parse_buyers(header, body, Counting::GoesOn),
        KIND_END_BUYERS => {
            let (sku, home_lsn) = body.split_at_checked(size_of::<SkuBody>()).ok_or(CUT_SHORT)?;
            let home_lsn = U64::read_from_bytes(home_lsn).map_err(|_| CUT_SHORT)?.get();
            return parse_buyers(header, sku, Counting::Ends { home_lsn });
        }
        KIND_RULES => return parse_rules(header, body).map(Record::Rules),
        KIND_SWITCH => return parse_switch(header, body).map(Record::Switch),
        KIND_MERCHANT => return parse_merchant(header, body).map(Record::Merchant),
        KIND_END_SALE => {
            let (sku, time_low) = (parse_sku(body)?, header.time_low.get());
            return Ok(Record::EndSale(EndSaleRecord { sku, time_low }));
        }
        KIND_CONFIRM => Verb::Confirm,
        KIND_CANCEL => Verb::Cancel,
        KIND_FULFIL => Verb::Fulfil,
        KIND_EXPIRE => Verb::Expire,
        _ => return Err("record of an unknown kind"),
    };
    let (body, rest) = OrderBody::ref_from_prefix(body).map_err(|_| "order record too short")?;
    Ok(Record::Order(OrderRecord {
        order: OrderId::from_u64(body.order.get()),
        verb,
        time_low: header.time_low.get(),
        list_sequence: parse_sequence(rest)?,
    }))
}

fn parse_adjust<'a>(
    header: &RecordHeader,
    body: &'a [u8],
) -> Result<AdjustRecord<'a>, &'static str> {
    let (adjust, rest) =
        AdjustBody::ref_from_prefix(body).map_err(|_| "adjustment record too short")?;
    Ok(AdjustRecord {
        sku: adjust.sku.get().into(),
        key: logged_key(adjust.key, header.flags),
        time_low: header.time_low.get(),
        kind: AdjustKind::from_code(adjust.kind).ok_or("adjustment of an unknown kind")?,
        units: adjust.units.get(),
        expected: adjust.expected.get(),
        delta: adjust.delta.get(),
        reference: rest
            .get(..adjust.reference_bytes.get() as usize)
            .ok_or("reference longer than the record")?,
    })
}

fn parse_sku(body: &[u8]) -> Result<SkuId, &'static str> {
    let (body, _) = SkuBody::ref_from_prefix(body).map_err(|_| "SKU record too short")?;
    Ok(body.sku.get().into())
}

/// A record's time in full: the latest with these low 32 bits that is not after its block's. A record
/// is appended before its block is closed, and waits for that less than 49 days.
pub(crate) fn full_time_ms(time_low: u32, block_ms: u64) -> u64 {
    block_ms.saturating_sub(u64::from((block_ms as u32).wrapping_sub(time_low)))
}

#[cfg(test)]
mod tests;
