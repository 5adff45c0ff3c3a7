//! What reads show: [`OrderView`], [`StockLevels`].

use bytes::Bytes;

use crate::ids::{BuyerId, OrderId, RequestKey, SkuId};
use crate::log::Commit;
use crate::order::{Line, OrderState};

/// An order as it stood at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OrderView {
    /// Its name.
    pub order: OrderId,
    /// Whose it is.
    pub buyer: BuyerId,
    /// The idempotency key that made it.
    pub key: RequestKey,
    /// Where it stood.
    pub state: OrderState,
    /// Its folded lines, sorted by SKU; of a partial order with what it got of each, perhaps nothing.
    pub lines: Vec<Line>,
    /// What a partial order did not get, by SKU; only lines that miss some.
    pub missing: Vec<Line>,
    /// When it was placed, in engine time, in milliseconds.
    pub placed_ms: u64,
    /// When it came into its present state, in engine time, in milliseconds. For an order that is held: when it was
    /// placed, or served from its list.
    pub changed_ms: u64,
    /// When its hold ends or ended, or while it waits its patience, in engine time, in milliseconds.
    pub deadline_ms: u64,
    /// How long it is or was held, in milliseconds; for an order that was never served, how long the hold would have
    /// been.
    pub hold_ms: u32,
    /// The buyer's [class](crate::Order::class), if the order waits or waited. `None` for all other orders, which
    /// do not keep it.
    pub class: Option<u8>,
    /// Whether it waited and was served. Its hold began when it was served, not when it was placed.
    pub served_from_list: bool,
    /// The host's bytes.
    #[cfg_attr(feature = "serde", serde(with = "crate::serialised::payload"))]
    pub payload: Bytes,
    /// Whether a crash at that moment would have left the order in this state. If not, await
    /// [`Viewed::when_durable`](crate::Viewed::when_durable).
    pub durable: bool,
}

/// An [`OrderView`] that can be awaited until what it shows is durable.
#[derive(Debug)]
pub struct Viewed {
    view: OrderView,
    pending: Commit<()>,
}

impl Viewed {
    pub(crate) fn new(view: OrderView, pending: Commit<()>) -> Self {
        Self { view, pending }
    }

    /// The order as it stood when it was read; [`OrderView::durable`] says whether that would
    /// survive a crash.
    #[must_use]
    pub fn view(&self) -> &OrderView {
        &self.view
    }

    /// The same view once it is durable.
    pub fn when_durable(mut self) -> Commit<OrderView> {
        self.view.durable = true;
        self.pending.with(self.view)
    }
}

impl std::ops::Deref for Viewed {
    type Target = OrderView;

    fn deref(&self) -> &OrderView {
        &self.view
    }
}

/// A SKU's units, each term counted on its own.
///
/// `stocked = available + held + sold + returning + kept_back` whenever no verb on the SKU is in flight.
/// While one is, a unit may be seen in two terms or in none, since the terms are read one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StockLevels {
    /// The SKU.
    pub sku: SkuId,
    /// Units put in less units taken out by the host, as far as buyers can count on it.
    pub stocked: i64,
    /// Units that a buyer can have; negative when the SKU owes (see [`Adjust::set`](crate::Adjust::set)).
    pub available: i64,
    /// Units of orders that are held.
    pub held: i64,
    /// Units of orders that are confirmed or fulfilled.
    pub sold: i64,
    /// Units given back by a cancel or an expiry whose record is not durable yet.
    pub returning: i64,
    /// Units kept back by [`SaleRules::safety_stock`](crate::SaleRules::safety_stock).
    pub kept_back: i64,
    /// Units that those in the waiting list want; no term of the sum.
    pub waiting: u64,
}

impl StockLevels {
    /// Whether the terms add up.
    #[must_use]
    pub fn add_up(&self) -> bool {
        let had = self.held + self.sold + self.returning;
        self.stocked == self.available + had + self.kept_back
    }
}
