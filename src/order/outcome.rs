//! Answers. An outcome is a value that the host matches on; what keeps the engine from answering
//! is an error (see [`crate::error`]).

use crate::ids::{MerchantId, OrderId, Quantity, SkuId};
use crate::order::{Line, OrderState, Scope, Switch};

/// What became of an [`Order`](crate::Order).
#[must_use]
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Placed {
    /// The stock is set aside for this buyer until the deadline.
    Held(Held),
    /// Some of it is set aside, and some is missing: of an order with
    /// [`Fill::Partial`](crate::Fill::Partial).
    Partial(PartlyHeld),
    /// The order stands in its SKU's waiting list.
    Waiting(Waiting),
    /// Nothing was held and nothing changed. The key is still free, unless
    /// [`Options::remember_refusals`](crate::Options::remember_refusals) has it remembered.
    Refused(Refusal),
    /// An earlier request with this key was refused, and that is remembered: nothing was looked at anew,
    /// nothing changed. Only with [`Options::remember_refusals`](crate::Options::remember_refusals).
    RefusedBefore(RefusedBefore),
    /// The key already has an order, or a remembered refusal, of other content. Nothing changed.
    KeyReused(KeyReused),
}

impl Placed {
    /// The hold, if there is one, whether of all that was wanted or of some.
    #[must_use]
    pub fn held(&self) -> Option<&Held> {
        match self {
            Self::Held(held) => Some(held),
            Self::Partial(partly) => Some(&partly.held),
            _ => None,
        }
    }

    /// Returns the order that the answer is about: the one that is held or waits, or that has the key.
    #[must_use]
    pub fn order_id(&self) -> Option<OrderId> {
        match self {
            Self::Held(held) => Some(held.order),
            Self::Partial(partly) => Some(partly.held.order),
            Self::Waiting(waiting) => Some(waiting.order),
            Self::KeyReused(reused) => reused.order,
            Self::Refused(_) | Self::RefusedBefore(_) => None,
        }
    }

    /// Why nothing is held, whether of this request or of the earlier one with its key.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::RefusedBefore(before) => Some(&before.refusal),
            _ => None,
        }
    }
}

/// Stock is set aside: the first outcome of an order, and the answer to every repeat of its key. In a repeat,
/// [`state`](Self::state) shows what became of the order since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Held {
    /// The order's name from now on.
    pub order: OrderId,
    /// When the hold ends, in engine time, in milliseconds: at this moment it is over.
    pub deadline_ms: u64,
    /// Whether an earlier request with this key made the order.
    pub replayed: bool,
    /// The state of the order now, as last recorded: [`OrderState::Held`] in a first answer; in a repeat, what
    /// became of the order since. A hold that is over still counts as held until its end is recorded.
    pub state: OrderState,
}

/// An order waits for stock to come back: the first outcome, and the answer to every repeat of its key. In a repeat,
/// [`state`](Self::state) shows what became of the order since. [`Engine::watch`](crate::Engine::watch) resolves
/// when the order does not wait any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Waiting {
    /// The order's name from now on.
    pub order: OrderId,
    /// Until when it waits, in engine time, in milliseconds: at this moment its patience is over.
    pub patience_ends_ms: u64,
    /// Whether an earlier request with this key made the order.
    pub replayed: bool,
    /// The state of the order now, as last recorded: [`OrderState::Waiting`] in a first answer; in a repeat, what
    /// became of the order since.
    pub state: OrderState,
    /// When its hold ends or ended, in engine time, in milliseconds; `None` if it was never served.
    pub hold_ends_ms: Option<u64>,
}

/// Less than wanted is set aside: the first outcome of a partial order, and the answer to every repeat
/// of its key. In a repeat, [`Held::state`] shows what became of the order since.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PartlyHeld {
    /// The order and its deadline.
    pub held: Held,
    /// What the order did not receive, by SKU; only lines that miss some. It never follows: a buyer who still wants
    /// it places another order, with another key.
    pub missing: Vec<Line>,
}

/// Why nothing was held.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Refusal {
    /// Fewer units are available than the line wants; of a partial order fewer than its minimum, or nothing of any
    /// line. The refusal is returned at once, and may rest on holds that are not durable yet.
    SoldOut {
        /// The first line, by SKU, that could not be filled.
        sku: SkuId,
        /// What it wanted; of a partial order, at least.
        wanted: Quantity,
        /// What was available at that moment; negative when the SKU owes.
        available: i64,
    },
    /// Other orders wait for the SKU and are served first, even if enough is available. An order that may
    /// [wait](crate::Fill::Wait) joins them. The refusal is returned at once, and may rest on orders that are not
    /// durable yet.
    OthersWaiting {
        /// The first SKU, by id, that other orders wait for.
        sku: SkuId,
    },
    /// As many wait for the SKU as its [rules](crate::SaleRules::waiting_max) allow.
    WaitingListFull {
        /// The SKU.
        sku: SkuId,
        /// How many wait.
        waiting: u64,
        /// How many may.
        bound: u64,
    },
    /// The buyer would have more units of the SKU than its rules allow. The refusal is returned at once, and may rest
    /// on holds that are not durable yet.
    BuyerLimit {
        /// The SKU with the limit.
        sku: SkuId,
        /// What the line wanted; of a partial order, at least.
        wanted: Quantity,
        /// What the buyer has, waited for, held, confirmed and fulfilled.
        taken: u64,
        /// The most that the buyer may have.
        limit: Quantity,
    },
    /// The SKU is not open yet for the buyer's class.
    NotOpen {
        /// The first such SKU.
        sku: SkuId,
        /// When it opens for this class, in engine time, in milliseconds.
        opens_at_ms: u64,
        /// The engine time by which that was decided.
        now_ms: u64,
    },
    /// The SKU's sale is over.
    Closed {
        /// The first such SKU.
        sku: SkuId,
        /// Since when, in engine time, in milliseconds.
        closed_at_ms: u64,
    },
    /// Nothing new is held: a switch is not [`Switch::Open`].
    Switched {
        /// Whose switch; of several the strictest, and of these the widest.
        scope: Scope,
        /// How it is set.
        switch: Switch,
    },
    /// The merchant has had more orders than its rate allows. The refusal is returned at once, and may rest on orders
    /// that are not durable yet, or that are refused in the end.
    RateLimited {
        /// The merchant.
        merchant: MerchantId,
        /// After this many milliseconds there is room for one more order.
        retry_after_ms: u64,
    },
    /// The key has no order, and was made so long ago that an order with it may have left memory since. Only a
    /// key that is a [UUID of version 7](crate::KeyKind::UuidV7) is refused in this way, because others do not
    /// carry their time. If the buyer still wants the goods, the request needs a new key.
    KeyTooOld {
        /// The key's own time, Unix time in milliseconds.
        key_ms: u64,
        /// A key of this time or later would be taken.
        oldest_ms: u64,
    },
    /// The key has no order, and a time that is further ahead than
    /// [`Options::key_ahead_max`](crate::Options::key_ahead_max): it would count as new for that much longer after
    /// its order has left memory. The client's clock is wrong; the request needs a key with the present time.
    KeyTooNew {
        /// The key's own time, Unix time in milliseconds.
        key_ms: u64,
        /// A key of this time or earlier would be taken.
        newest_ms: u64,
    },
}

impl Refusal {
    /// Whether [`Options::remember_refusals`](crate::Options::remember_refusals) has it remembered: all
    /// refusals but those that say when the same request may come again ([`NotOpen`](Self::NotOpen),
    /// [`RateLimited`](Self::RateLimited)), and [`KeyTooOld`](Self::KeyTooOld), since a key gets no younger.
    #[must_use]
    pub const fn is_remembered(&self) -> bool {
        match self {
            Self::NotOpen { .. } | Self::RateLimited { .. } | Self::KeyTooOld { .. } => false,
            Self::SoldOut { .. }
            | Self::OthersWaiting { .. }
            | Self::WaitingListFull { .. }
            | Self::BuyerLimit { .. }
            | Self::Closed { .. }
            | Self::Switched { .. }
            | Self::KeyTooNew { .. } => true,
        }
    }
}

/// What a key was refused, returned again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RefusedBefore {
    /// The first request's, with the figures of then.
    pub refusal: Refusal,
    /// Until when it is remembered, in engine time, in milliseconds: at this moment the key counts as new.
    /// Earlier if more are refused than are remembered.
    pub until_ms: u64,
}

/// A key came again with other content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct KeyReused {
    /// The order that has the key; `None`: its first request was refused, and that is remembered.
    pub order: Option<OrderId>,
    /// The first field that differs.
    pub field: KeyField,
}

/// A field by which two requests with one key are compared.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum KeyField {
    /// The folded lines, of a partial order with their minimums.
    Lines,
    /// The hold time.
    Hold,
    /// The kind of the fill policy.
    Policy,
    /// The payload, or the reference text of an adjustment.
    Payload,
    /// What an adjustment does: add, take, take up to, set.
    Adjustment,
    /// The units of an adjustment.
    Quantity,
    /// The expected figure of an adjustment.
    Expected,
}

/// What a verb on an order (confirm, cancel, fulfil) did.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Transition {
    /// The order is now in this state.
    Done {
        /// The new state.
        state: OrderState,
    },
    /// The order was in the wanted state before; nothing changed. A retry receives this.
    AlreadyDone {
        /// The state that stands.
        state: OrderState,
    },
    /// The order's state does not allow the verb; nothing changed.
    NotAllowed {
        /// The state that stands.
        state: OrderState,
    },
    /// The verb would change the order, but a switch is [`Switch::Halted`]; nothing changed. To be sent
    /// again when the halt is over.
    Halted {
        /// The state that stands. A hold that is over is still held until the halt ends.
        state: OrderState,
        /// Whose switch.
        scope: Scope,
    },
}

impl Transition {
    /// Returns whether the same verb may succeed later: only after [`Halted`](Self::Halted), because a halt can end.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::Halted { .. } => true,
            Self::Done { .. } | Self::AlreadyDone { .. } | Self::NotAllowed { .. } => false,
        }
    }

    /// The state that stands after the verb, whatever it did.
    #[must_use]
    pub const fn state(self) -> OrderState {
        match self {
            Self::Done { state }
            | Self::AlreadyDone { state }
            | Self::NotAllowed { state }
            | Self::Halted { state, .. } => state,
        }
    }
}

/// What became of an [`Adjust`](crate::Adjust).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Adjusted {
    /// The stock was changed.
    Done {
        /// By how many units the stocked figure changed.
        delta: i64,
        /// The stocked figure after it.
        stocked: u64,
        /// Units that a `take_up_to` wanted and did not find.
        shortfall: Quantity,
        /// Whether an earlier request with this key made the change.
        replayed: bool,
    },
    /// A `take` wanted more than is available. Nothing changed; the key is still free.
    TooFew {
        /// What it wanted.
        wanted: Quantity,
        /// What was available; negative when the SKU owes.
        available: i64,
    },
    /// A `set` expected another stocked figure. Nothing changed; the key is still free.
    Unexpected {
        /// The figure it expected.
        expected: Quantity,
        /// The figure that stands.
        stocked: u64,
    },
    /// The key already has an adjustment with other content. Nothing changed.
    KeyReused {
        /// The first field that differs.
        field: KeyField,
    },
    /// The key is a [UUID of version 7](crate::KeyKind::UuidV7). It has no adjustment, and may have had one that is
    /// not kept any more: see [`Options::adjust_retention`](crate::Options::adjust_retention). Nothing changed.
    KeyTooOld {
        /// The key's time, in Unix milliseconds.
        key_ms: u64,
        /// The earliest time of a key that is accepted, in Unix milliseconds.
        oldest_ms: u64,
    },
    /// The key is a [UUID of version 7](crate::KeyKind::UuidV7) that has no adjustment, and its time is further ahead
    /// than [`Options::key_ahead_max`](crate::Options::key_ahead_max). Nothing changed.
    KeyTooNew {
        /// The key's time, in Unix milliseconds.
        key_ms: u64,
        /// The latest time of a key that is accepted, in Unix milliseconds.
        newest_ms: u64,
    },
}
