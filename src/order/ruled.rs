//! What reads show of rules: [`Ruled`].

use crate::ids::{MerchantId, Quantity};
use crate::order::rules::{Rate, Rules};
use crate::order::{CLASS_MAX, Switch};

/// Rules as they stand at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Ruled<T> {
    /// The rules that act now. Until a change is durable, the stricter of the values before and after it acts, field
    /// by field.
    pub acting: T,
    /// The rules after the last change that was logged. They act when all changes are durable.
    pub logged: T,
    /// Whether a crash at this moment would leave the logged rules; `acting` and `logged` are equal then. For a SKU,
    /// a change of its stock that is not durable makes this `false` too.
    pub durable: bool,
}

/// The rules of a SKU, each with its value; see [`SaleRules`](crate::SaleRules), which changes them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SkuRules {
    /// How many units a buyer may have; `None`: there is no limit.
    pub buyer_limit: Option<Quantity>,
    /// When it opens, in engine time, in milliseconds; 0: it is open from the beginning.
    pub opens_at_ms: u64,
    /// When it closes, in engine time, in milliseconds; [`u64::MAX`]: never.
    pub closes_at_ms: u64,
    /// How long before the opening each class may buy, in milliseconds.
    pub early_access_ms: [u32; CLASS_MAX as usize + 1],
    /// How long an order without a hold time of its own is held, in milliseconds; `None`:
    /// [`Options::hold_default`](crate::Options::hold_default).
    pub hold_ms: Option<u32>,
    /// How many units are kept back as safety stock.
    pub safety_stock: Quantity,
    /// How many orders may wait; 0: none.
    pub waiting_max: u32,
    /// Whether smaller orders pass larger ones that wait.
    pub waiting_passes: bool,
    /// Its own switch.
    pub switch: Switch,
    /// The merchant that owns it, if any. While a change of the merchant is not durable, several may act.
    pub merchants: Vec<MerchantId>,
}

impl SkuRules {
    pub(crate) fn new(rules: &Rules, merchants: Vec<MerchantId>) -> Self {
        Self {
            buyer_limit: Some(rules.buyer_limit).filter(|units| *units > 0).map(Quantity::from),
            opens_at_ms: rules.opens_at_ms,
            closes_at_ms: rules.closes_at_ms,
            early_access_ms: rules.early_ms,
            hold_ms: Some(rules.hold_ms).filter(|hold_ms| *hold_ms > 0),
            safety_stock: rules.safety_stock.into(),
            waiting_max: rules.waiting_max,
            waiting_passes: rules.waiting_passes,
            switch: rules.switch,
            merchants,
        }
    }
}

/// What a merchant may do; see [`MerchantRules`](crate::MerchantRules), which change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MerchantLimits {
    /// Its switch, which acts on all its SKUs.
    pub switch: Switch,
    /// How many new orders a second are held; `None`: there is no rate.
    pub orders_per_s: Option<u32>,
    /// How many orders are held at once after a pause; `None`: there is no rate.
    pub burst: Option<u32>,
}

impl MerchantLimits {
    pub(crate) fn new(switch: Switch, rate: Option<Rate>) -> Self {
        let (orders_per_s, burst) = (rate.map(|rate| rate.orders_per_s), rate.map(|it| it.burst));
        Self { switch, orders_per_s, burst }
    }
}
