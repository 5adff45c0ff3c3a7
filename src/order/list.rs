//! Waiting lists, as orders know them.

/// Where an order stands in its SKU's waiting list: those of lower classes first, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListPlace {
    pub(crate) class: u8,
    /// A number of the list's own sequence.
    pub(crate) arrival: u64,
}
