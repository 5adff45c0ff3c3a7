//! Waiting lists, as orders know them.

/// The last number that anything in a waiting list may have: no list reaches half of all numbers, so that the
/// next one is never out of range.
pub(crate) const LIST_SEQUENCE_MAX: u64 = u64::MAX / 2;

/// Where an order stands in its SKU's waiting list: those of lower classes first, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListPlace {
    pub(crate) class: u8,
    /// A number of the list's own sequence.
    pub(crate) arrival: u64,
}
