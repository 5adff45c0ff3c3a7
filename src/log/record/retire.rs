//! The record of a retirement.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::OrderId;
use crate::log::record::{
    KIND_RETIRE, LineBody, LoggedLines, RecordHeader, header, pad, write_lines,
};

/// The order ids follow (u64 each), then the sums ([`LineBody`] each).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RetireBody {
    orders: U32,
    sums: U32,
    finished_ms: U64,
}

/// Finished orders left memory. What they sold stays: the sums tell it, so that it can be known
/// without the orders (rule R16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RetireRecord<'a> {
    pub(crate) time_low: u32,
    /// When the last of them finished.
    pub(crate) finished_ms: u64,
    pub(crate) orders: LoggedOrders<'a>,
    /// Units sold, by SKU.
    pub(crate) sums: LoggedLines<'a>,
}

/// Order ids in memory, or as they stand in a record.
#[derive(Clone, Debug)]
pub(crate) enum LoggedOrders<'a> {
    Memory(&'a [OrderId]),
    Bytes(&'a [u8]),
}

impl LoggedOrders<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = OrderId> + '_ {
        let (memory, bytes): (&[OrderId], &[u8]) = match self {
            Self::Memory(orders) => (orders, &[]),
            Self::Bytes(bytes) => (&[], bytes),
        };
        let (ids, _) = bytes.as_chunks();
        memory
            .iter()
            .copied()
            .chain(ids.iter().map(|id| OrderId::from_u64(u64::from_le_bytes(*id))))
    }

    fn count(&self) -> usize {
        match self {
            Self::Memory(orders) => orders.len(),
            Self::Bytes(bytes) => bytes.len() / size_of::<u64>(),
        }
    }
}

impl PartialEq for LoggedOrders<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for LoggedOrders<'_> {}

/// Bytes that a retire record takes.
pub(crate) fn retire_bytes(orders: usize, sums: usize) -> usize {
    let fixed = size_of::<RecordHeader>() + size_of::<RetireBody>();
    (fixed + orders * size_of::<u64>() + sums * size_of::<LineBody>()).next_multiple_of(8)
}

impl RetireRecord<'_> {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let (start, orders, sums) = (to.len(), self.orders.count(), self.sums.count());
        let bytes = retire_bytes(orders, sums);
        let body = RetireBody {
            orders: (orders as u32).into(),
            sums: (sums as u32).into(),
            finished_ms: self.finished_ms.into(),
        };
        to.extend_from_slice(header(KIND_RETIRE, 0, bytes, self.time_low).as_bytes());
        to.extend_from_slice(body.as_bytes());
        for order in self.orders.iter() {
            to.extend_from_slice(&order.get().to_le_bytes());
        }
        write_lines(&self.sums, to);
        pad(to, start, bytes);
    }
}

pub(super) fn parse_retire<'a>(
    header: &RecordHeader,
    body: &'a [u8],
) -> Result<RetireRecord<'a>, &'static str> {
    let (retire, rest) =
        RetireBody::ref_from_prefix(body).map_err(|_| "retire record too short")?;
    let part = |count: U32, bytes: usize| (count.get() as usize).checked_mul(bytes);
    let (orders, rest) = part(retire.orders, size_of::<u64>())
        .and_then(|bytes| rest.split_at_checked(bytes))
        .ok_or("more retired orders than the record holds")?;
    let sums = part(retire.sums, size_of::<LineBody>())
        .and_then(|bytes| rest.get(..bytes))
        .ok_or("more sums than the record holds")?;
    Ok(RetireRecord {
        time_low: header.time_low.get(),
        finished_ms: retire.finished_ms.get(),
        orders: LoggedOrders::Bytes(orders),
        sums: LoggedLines::Bytes(sums),
    })
}
