//! What a host rules: [`SaleRules`] of a SKU, [`MerchantRules`], [`Switch`]; their validation, and the stricter of
//! two, field by field (rule R8).

#[cfg(feature = "serde")]
mod serialised;

use std::time::Duration;

use crate::bounds::Bounds;
use crate::error::{MerchantError, StockError};
use crate::ids::{MerchantId, Quantity, SkuId};
use crate::order::CLASS_MAX;

const CLASSES: usize = CLASS_MAX as usize + 1;

/// Longest [`SaleRules::early_access`]: 30 days.
pub const EARLY_ACCESS_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Most orders a second, and largest burst, of [`MerchantRules::rate`].
pub const RATE_MAX: u32 = 1_000_000;

/// A SKU opens at once.
pub(crate) const OPEN_AT_ONCE: u64 = 0;
/// A SKU never closes.
pub(crate) const NEVER_CLOSES: u64 = u64::MAX;

/// What goes on of a SKU, a merchant or the whole engine. Where several act, the strictest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)]
pub enum Switch {
    /// Everything.
    #[default]
    Open = 0,
    /// Nothing new is held; confirm, cancel, fulfil and expiry go on.
    NoNewHolds = 1,
    /// Nothing: what would change an order is answered with a value that names the switch, and holds
    /// that are over end when the halt does.
    Halted = 2,
}

impl Switch {
    /// The switch with this number, as records hold it.
    pub(crate) const fn from_code(code: u64) -> Option<Self> {
        match code {
            0 => Some(Self::Open),
            1 => Some(Self::NoNewHolds),
            2 => Some(Self::Halted),
            _ => None,
        }
    }
}

/// Whose switch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Scope {
    /// The whole engine's.
    Engine,
    /// Of a merchant, for all SKUs that belong to it.
    Merchant(MerchantId),
    /// A SKU's own.
    Sku(SkuId),
}

/// What a SKU's sale allows. A value left out stays as it was.
///
/// ```
/// use std::time::Duration;
/// use doorbuster::{MerchantId, SaleRules};
///
/// let drop = SaleRules::new()
///     .opens_at_ms(1_800_000_000_000)
///     .closes_at_ms(1_800_000_600_000)
///     .early_access(0, Duration::from_secs(60))
///     .buyer_limit(2)
///     .hold_for(Duration::from_secs(300))
///     .safety_stock(20)
///     .merchant(MerchantId::new(7));
/// # let _ = drop;
/// ```
#[must_use = "rules do nothing until they are given to `Engine::rules`"]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaleRules {
    changes: RuleChanges,
    early: Vec<(u8, Duration)>,
    hold: Option<Option<Duration>>,
}

impl SaleRules {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many units one buyer may have held, confirmed or fulfilled at a time; 0 lifts the limit.
    ///
    /// Orders placed before are counted too. A lower limit acts at once; a higher one, or none,
    /// once its record is durable.
    pub fn buyer_limit(mut self, units: impl Into<Quantity>) -> Self {
        self.changes.buyer_limit = Some(units.into().get());
        self
    }

    /// The engine time from which orders are held, in milliseconds (see [`Engine::now_ms`](crate::Engine::now_ms)):
    /// no order before, every order from then on. 0, the default: at once.
    pub fn opens_at_ms(mut self, engine_ms: u64) -> Self {
        self.changes.opens_at_ms = Some(engine_ms);
        self
    }

    /// From which engine time on nothing new is held, in milliseconds; later than it opens.
    /// [`u64::MAX`], the default: never.
    pub fn closes_at_ms(mut self, engine_ms: u64) -> Self {
        self.changes.closes_at_ms = Some(engine_ms);
        self
    }

    /// How long before the opening a class of buyers may buy (see [`Order::class`](crate::Order::class)),
    /// rounded up to whole milliseconds; at most [`EARLY_ACCESS_MAX`]. Each class has its own; the
    /// default, and zero, is none.
    pub fn early_access(mut self, class: u8, before: Duration) -> Self {
        self.early.push((class, before));
        self
    }

    /// How long orders are held that leave it to the engine, rounded up to whole milliseconds; 1 ms to
    /// [`Options::hold_max`](crate::Options::hold_max). Of a cart the shortest of its SKUs' counts. `None`,
    /// the default: [`Options::hold_default`](crate::Options::hold_default).
    pub fn hold_for(mut self, hold: impl Into<Option<Duration>>) -> Self {
        self.hold = Some(hold.into());
        self
    }

    /// Units that are kept back: stocked, and not available. A higher value takes more from what is available at
    /// once, which may leave the SKU owing. A lower value returns units when it is durable. Default: 0.
    pub fn safety_stock(mut self, units: impl Into<Quantity>) -> Self {
        self.changes.safety_stock = Some(units.into().get());
        self
    }

    /// How many orders may wait for the SKU when there is too little of it, of those that [may](crate::Fill::Wait).
    /// 0, the default, closes the list: the orders in it are still served. See
    /// [`guide::waiting`](crate::guide::waiting) for the order of service and its cost.
    pub fn waiting_max(mut self, orders: u32) -> Self {
        self.changes.waiting_max = Some(orders);
        self
    }

    /// Whether an order for which there is enough is served before an earlier order that wants more than there is.
    /// Default: the earlier order blocks it.
    pub fn waiting_passes(mut self, passes: bool) -> Self {
        self.changes.waiting_passes = Some(passes);
        self
    }

    /// What goes on of the SKU. Default: [`Switch::Open`].
    pub fn switch(mut self, switch: Switch) -> Self {
        self.changes.switch = Some(switch);
        self
    }

    /// The SKU's merchant, whose switch and rate act on it. `None`, the default: no merchant. A merchant that has no
    /// rules yet is made, and counts towards [`Options::merchants_max`](crate::Options::merchants_max).
    pub fn merchant(mut self, merchant: impl Into<Option<MerchantId>>) -> Self {
        self.changes.merchant = Some(merchant.into());
        self
    }

    /// Checks everything that does not depend on the present rules.
    pub(crate) fn validate(&self, sku: SkuId, bounds: &Bounds) -> Result<RuleChanges, StockError> {
        let mut changes = self.changes;
        for (class, before) in &self.early {
            let early = usize::from(*class);
            let early = changes.early_ms.get_mut(early).ok_or(StockError::ClassOutOfRange {
                sku,
                class: *class,
                max: CLASS_MAX,
            })?;
            let (early_ms, max_ms) = (whole_ms(*before), whole_ms(EARLY_ACCESS_MAX));
            if early_ms > max_ms {
                return Err(StockError::EarlyAccessOutOfRange { sku, early_ms, max_ms });
            }
            *early = Some(early_ms as u32);
        }
        if let Some(hold) = self.hold {
            let hold_ms = hold.map(whole_ms);
            let max_ms = bounds.hold_max_ms;
            if let Some(hold_ms) = hold_ms.filter(|ms| !(1..=u64::from(max_ms)).contains(ms)) {
                return Err(StockError::HoldOutOfRange { sku, hold_ms, min_ms: 1, max_ms });
            }
            changes.hold_ms = Some(hold_ms.unwrap_or(0) as u32);
        }
        Ok(changes)
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// New values of a SKU's rules; `None`: it stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleChanges {
    pub(crate) buyer_limit: Option<u32>,
    pub(crate) opens_at_ms: Option<u64>,
    pub(crate) closes_at_ms: Option<u64>,
    /// 0: the engine's default.
    pub(crate) hold_ms: Option<u32>,
    pub(crate) safety_stock: Option<u32>,
    pub(crate) waiting_max: Option<u32>,
    pub(crate) waiting_passes: Option<bool>,
    pub(crate) switch: Option<Switch>,
    pub(crate) merchant: Option<Option<MerchantId>>,
    /// By class.
    pub(crate) early_ms: [Option<u32>; CLASSES],
}

/// A SKU's rules, each with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// 0: none.
    pub(crate) buyer_limit: u32,
    pub(crate) opens_at_ms: u64,
    pub(crate) closes_at_ms: u64,
    /// 0: the engine's default.
    pub(crate) hold_ms: u32,
    pub(crate) safety_stock: u32,
    /// 0: there is no list.
    pub(crate) waiting_max: u32,
    pub(crate) waiting_passes: bool,
    pub(crate) switch: Switch,
    pub(crate) merchant: Option<MerchantId>,
    pub(crate) early_ms: [u32; CLASSES],
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            buyer_limit: 0,
            opens_at_ms: OPEN_AT_ONCE,
            closes_at_ms: NEVER_CLOSES,
            hold_ms: 0,
            safety_stock: 0,
            waiting_max: 0,
            waiting_passes: false,
            switch: Switch::Open,
            merchant: None,
            early_ms: [0; CLASSES],
        }
    }
}

impl Rules {
    /// With these values changed.
    pub(crate) fn with(&self, changes: &RuleChanges) -> Self {
        Self {
            buyer_limit: changes.buyer_limit.unwrap_or(self.buyer_limit),
            opens_at_ms: changes.opens_at_ms.unwrap_or(self.opens_at_ms),
            closes_at_ms: changes.closes_at_ms.unwrap_or(self.closes_at_ms),
            hold_ms: changes.hold_ms.unwrap_or(self.hold_ms),
            safety_stock: changes.safety_stock.unwrap_or(self.safety_stock),
            waiting_max: changes.waiting_max.unwrap_or(self.waiting_max),
            waiting_passes: changes.waiting_passes.unwrap_or(self.waiting_passes),
            switch: changes.switch.unwrap_or(self.switch),
            merchant: changes.merchant.unwrap_or(self.merchant),
            early_ms: std::array::from_fn(|class| {
                changes.early_ms[class].unwrap_or(self.early_ms[class])
            }),
        }
    }

    /// All that is not as it is without rules.
    pub(crate) fn as_changes(&self) -> RuleChanges {
        fn unless<T: PartialEq>(value: T, default: T) -> Option<T> {
            (value != default).then_some(value)
        }
        let none = Self::default();
        RuleChanges {
            buyer_limit: unless(self.buyer_limit, none.buyer_limit),
            opens_at_ms: unless(self.opens_at_ms, none.opens_at_ms),
            closes_at_ms: unless(self.closes_at_ms, none.closes_at_ms),
            hold_ms: unless(self.hold_ms, none.hold_ms),
            safety_stock: unless(self.safety_stock, none.safety_stock),
            waiting_max: unless(self.waiting_max, none.waiting_max),
            waiting_passes: unless(self.waiting_passes, none.waiting_passes),
            switch: unless(self.switch, none.switch),
            merchant: unless(self.merchant, none.merchant),
            early_ms: std::array::from_fn(|class| {
                unless(self.early_ms[class], none.early_ms[class])
            }),
        }
    }

    /// Returns of each rule the stricter, where the engine holds orders for `hold_default_ms` unless a rule
    /// says otherwise. (Of merchants all act: the SKU keeps a list of them.)
    pub(crate) fn stricter(&self, other: &Self, hold_default_ms: u32) -> Self {
        Self {
            buyer_limit: stricter(self.buyer_limit, other.buyer_limit),
            opens_at_ms: self.opens_at_ms.max(other.opens_at_ms),
            closes_at_ms: self.closes_at_ms.min(other.closes_at_ms),
            hold_ms: shorter_hold(self.hold_ms, other.hold_ms, hold_default_ms),
            safety_stock: self.safety_stock.max(other.safety_stock),
            waiting_max: self.waiting_max.min(other.waiting_max),
            waiting_passes: self.waiting_passes && other.waiting_passes,
            switch: self.switch.max(other.switch),
            merchant: other.merchant,
            early_ms: std::array::from_fn(|class| self.early_ms[class].min(other.early_ms[class])),
        }
    }
}

/// The stricter of two bounds, 0 being none.
fn stricter(a: u32, b: u32) -> u32 {
    match (a, b) {
        (0, other) | (other, 0) => other,
        _ => a.min(b),
    }
}

/// Returns the shorter of two holds; 0 is the engine's default, which may be shorter than the other.
fn shorter_hold(a: u32, b: u32, default_ms: u32) -> u32 {
    let length_ms = |hold_ms: &u32| if *hold_ms == 0 { default_ms } else { *hold_ms };
    std::cmp::min_by_key(a, b, length_ms)
}

/// What a merchant may do. A value left out stays as it was.
///
/// ```
/// use doorbuster::{MerchantRules, Switch};
///
/// let throttled = MerchantRules::new().rate(100, 20);
/// let delisted = MerchantRules::new().switch(Switch::NoNewHolds);
/// # let _ = (throttled, delisted);
/// ```
#[must_use = "rules do nothing until they are given to `Engine::merchant`"]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MerchantRules {
    pub(crate) switch: Option<Switch>,
    /// `Some(None)`: no rate any more.
    pub(crate) rate: Option<Option<Rate>>,
}

impl MerchantRules {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What goes on of all the merchant's SKUs. Default: [`Switch::Open`].
    pub fn switch(mut self, switch: Switch) -> Self {
        self.switch = Some(switch);
        self
    }

    /// How many new orders a second of the merchant's SKUs are held, and how many at once after a pause:
    /// 1 to [`RATE_MAX`] each. An order counts once, whatever its lines; repeats and refusals do not.
    /// After a restart the burst is full again.
    pub fn rate(mut self, orders_per_s: u32, burst: u32) -> Self {
        self.rate = Some(Some(Rate { orders_per_s, burst }));
        self
    }

    /// As many orders as there is stock for: the default.
    pub fn no_rate(mut self) -> Self {
        self.rate = Some(None);
        self
    }

    pub(crate) fn validate(&self, merchant: MerchantId) -> Result<(), MerchantError> {
        let Some(Some(Rate { orders_per_s, burst })) = self.rate else { return Ok(()) };
        for (field, value) in [("orders_per_s", orders_per_s), ("burst", burst)] {
            if !(1..=RATE_MAX).contains(&value) {
                let (min, max) = (1, RATE_MAX);
                return Err(MerchantError::RateOutOfRange { merchant, field, value, min, max });
            }
        }
        Ok(())
    }
}

/// A rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) orders_per_s: u32,
    pub(crate) burst: u32,
}

impl Rate {
    /// Of two rates, if they are two, the stricter in both its numbers.
    pub(crate) fn stricter(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (None, other) | (other, None) => other,
            (Some(a), Some(b)) => Some(Self {
                orders_per_s: a.orders_per_s.min(b.orders_per_s),
                burst: a.burst.min(b.burst),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_of_two_rules_is_taken_field_by_field() {
        let a = Rules {
            buyer_limit: 0,
            opens_at_ms: 10,
            closes_at_ms: 20,
            hold_ms: 5,
            safety_stock: 1,
            waiting_max: 3,
            waiting_passes: true,
            switch: Switch::Halted,
            ..Rules::default()
        };
        let b = Rules { buyer_limit: 4, opens_at_ms: 15, hold_ms: 0, ..Rules::default() };
        let both = Rules {
            buyer_limit: 4,
            opens_at_ms: 15,
            closes_at_ms: 20,
            hold_ms: 5,
            safety_stock: 1,
            waiting_max: 0,
            waiting_passes: false,
            switch: Switch::Halted,
            ..Rules::default()
        };
        assert_eq!((a.stricter(&b, 9), b.stricter(&a, 9)), (both, both));
        let both = Rules { hold_ms: 0, ..both };
        assert_eq!((a.stricter(&b, 4), b.stricter(&a, 4)), (both, both), "the default is shorter");
    }

    #[test]
    fn rules_are_what_their_changes_make_of_none() {
        let early_ms = std::array::from_fn(|class| class as u32);
        let (switch, merchant) = (Switch::NoNewHolds, Some(MerchantId::new(0)));
        let rules = Rules { safety_stock: 9, switch, merchant, early_ms, ..Rules::default() };
        assert_eq!(Rules::default().with(&rules.as_changes()), rules);
        assert_eq!(Rules::default().as_changes(), RuleChanges::default());
    }
}
