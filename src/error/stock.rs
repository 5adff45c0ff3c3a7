//! Errors of the verbs by which a host runs its sales: stock, rules, merchants.

use crate::error::Unavailable;
use crate::ids::{MerchantId, SkuId};

/// Why [`Engine::stock`](crate::Engine::stock), [`Engine::rules`](crate::Engine::rules) or
/// [`Engine::end_sale`](crate::Engine::end_sale) could not answer. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StockError {
    /// An adjustment without an idempotency key.
    #[error("key of the adjustment of {sku}: none given; a retry would count twice")]
    MissingKey {
        /// The SKU.
        sku: SkuId,
    },
    /// A `set` without the figure that it replaces.
    #[error("expected figure of the adjustment of {sku}: none given; a set needs one")]
    MissingExpected {
        /// The SKU.
        sku: SkuId,
    },
    /// An expected figure with an adjustment that is no `set`.
    #[error("expected figure of the adjustment of {sku}: {expected} given; only a set takes one")]
    ExpectedWithoutSet {
        /// The SKU.
        sku: SkuId,
        /// The figure.
        expected: u32,
    },
    /// An `add`, `take` or `take_up_to` of no units.
    #[error("quantity of the adjustment of {sku}: 0 given, at least 1 needed")]
    ZeroQuantity {
        /// The SKU.
        sku: SkuId,
    },
    /// The reference is longer than
    /// [`Options::payload_bytes_max`](crate::Options::payload_bytes_max).
    #[error("reference: {bytes} bytes given, at most {max}")]
    ReferenceTooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The stocked figure would exceed [`STOCK_MAX`](crate::STOCK_MAX).
    #[error("stock of {sku}: {units} units in all, at most {max}")]
    StockTooLarge {
        /// The SKU.
        sku: SkuId,
        /// What the figure would be.
        units: u64,
        /// The bound.
        max: u32,
    },
    /// A `set` that would leave more units held and owed than any stock is. Wait until additions and returned units
    /// are durable, then try again.
    #[error("stock of {sku}: {units} units would be owed, at most {max}")]
    OwesTooMuch {
        /// The SKU.
        sku: SkuId,
        /// What would be owed.
        units: u64,
        /// The bound.
        max: u32,
    },
    /// The SKU would close before it opens, or as it opens.
    #[error(
        "closes_at_ms of {sku}: {closes_at_ms} given, it opens at {opens_at_ms}; must be later"
    )]
    ClosesBeforeItOpens {
        /// The SKU.
        sku: SkuId,
        /// When it would open.
        opens_at_ms: u64,
        /// When it would close.
        closes_at_ms: u64,
    },
    /// Early access for a class above the last one.
    #[error("class of the early access to {sku}: {class} given, at most {max}")]
    ClassOutOfRange {
        /// The SKU.
        sku: SkuId,
        /// The class.
        class: u8,
        /// The bound.
        max: u8,
    },
    /// Early access longer than [`EARLY_ACCESS_MAX`](crate::EARLY_ACCESS_MAX).
    #[error("early access to {sku}: {early_ms} ms given, at most {max_ms}")]
    EarlyAccessOutOfRange {
        /// The SKU.
        sku: SkuId,
        /// What was given.
        early_ms: u64,
        /// The bound.
        max_ms: u64,
    },
    /// A SKU's hold that is shorter than 1 ms or longer than
    /// [`Options::hold_max`](crate::Options::hold_max).
    #[error("hold of {sku}: {hold_ms} ms given, {min_ms} to {max_ms} ms allowed")]
    HoldOutOfRange {
        /// The SKU.
        sku: SkuId,
        /// What was given.
        hold_ms: u64,
        /// The lower bound.
        min_ms: u32,
        /// The upper bound.
        max_ms: u32,
    },
    /// The SKU went from merchant to merchant, and none of that is durable yet. Wait for one of these
    /// changes and try again.
    #[error(
        "merchant of {sku}: {max} merchants of changes that are not durable yet, at most {max}"
    )]
    MerchantsInFlight {
        /// The SKU.
        sku: SkuId,
        /// The bound.
        max: usize,
    },
    /// The end of the SKU's last sale is not durable, so a new limit and another end are refused. Wait for the
    /// commit of [`Engine::end_sale`](crate::Engine::end_sale) and try again.
    #[error("sale of {sku}: its end is not durable yet; wait for its commit and try again")]
    SaleEnding {
        /// The SKU.
        sku: SkuId,
    },
    /// A `take`, `take_up_to` or rules for a SKU that no stock was ever set for.
    #[error("{sku} is not known; an add or a set makes it known")]
    UnknownSku {
        /// The SKU.
        sku: SkuId,
    },
    /// Carts that may still fail kept the answer open for too long. Try again.
    #[error("{sku} is contended: {tries} tries did not settle whether there is enough; try again")]
    Contended {
        /// The SKU that could not be settled.
        sku: SkuId,
        /// How often the engine tried.
        tries: u32,
    },
    /// The engine is full, closed or latched.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why [`Engine::merchant`](crate::Engine::merchant) could not answer. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MerchantError {
    /// A rate or burst of zero, or over [`RATE_MAX`](crate::RATE_MAX).
    #[error("{field} of {merchant}: {value} given, {min} to {max} allowed")]
    RateOutOfRange {
        /// The merchant.
        merchant: MerchantId,
        /// `orders_per_s` or `burst`.
        field: &'static str,
        /// What was given.
        value: u32,
        /// The lower bound.
        min: u32,
        /// The upper bound.
        max: u32,
    },
    /// The engine is full, closed or latched.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
