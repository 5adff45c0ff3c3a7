//! What a record permits when it is durable.

use crate::order::ListPlace;

/// Something that becomes visible to others only when record `lsn` of its lane is durable: the one
/// principle's second half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) lsn: u64,
    /// Index of the SKU, or of the merchant.
    pub(crate) sku: u32,
    pub(crate) kind: EffectKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EffectKind {
    /// Units of a cancelled or expired order go back to stock.
    Return { units: u32 },
    /// Units that the host put in can be had.
    Restock { units: u32 },
    /// The SKU's rules were changed.
    Rules,
    /// The SKU's sale was ended, which changes its rules.
    EndSale,
    /// The merchant's rules were changed.
    Merchant,
    /// The whole engine was switched.
    Switch,
    /// An order has left the SKU's waiting list without being served.
    Left(ListPlace),
}
