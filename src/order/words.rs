//! Answers in words that a host can show to a client: no names of the API, no internal ones.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use crate::order::{
    Adjusted, Held, KeyField, KeyReused, OrderState, PartlyHeld, Placed, Refusal, RefusedBefore,
    Scope, Switch, Transition, Waiting,
};

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(held) => held.fmt(f),
            Self::Partial(partly) => partly.fmt(f),
            Self::Waiting(waiting) => waiting.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::RefusedBefore(before) => before.fmt(f),
            Self::KeyReused(reused) => reused.fmt(f),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {} is {}", self.order, self.state)
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            OrderState::Waiting => write!(f, "order {} waits for stock", self.order),
            state => write!(f, "order {} is {state}", self.order),
        }
    }
}

impl fmt::Display for PartlyHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in part; missing: ", self.held)?;
        for (nth, line) in self.missing.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{} of {}", line.quantity, line.sku)?;
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SoldOut { sku, available: ..=0, .. } => write!(f, "{sku} is sold out"),
            Self::SoldOut { sku, wanted, available } => {
                write!(f, "{sku} has {available} left, {wanted} wanted")
            }
            Self::OthersWaiting { sku } => write!(f, "others wait for {sku} and are served first"),
            Self::WaitingListFull { sku, waiting, bound } => {
                write!(f, "the waiting list of {sku} is full: {waiting} wait, at most {bound} may")
            }
            Self::BuyerLimit { sku, wanted, taken, limit } => {
                write!(
                    f,
                    "{sku} is limited to {limit} for each buyer: {taken} taken, {wanted} wanted"
                )
            }
            Self::NotOpen { sku, opens_at_ms, now_ms } => {
                write!(f, "{sku} opens in {} ms", opens_at_ms.saturating_sub(*now_ms))
            }
            Self::Closed { sku, .. } => write!(f, "the sale of {sku} is over"),
            Self::Switched { scope, switch } => write!(f, "{scope}: {switch}"),
            Self::RateLimited { merchant, retry_after_ms } => {
                write!(f, "too many orders for {merchant}: try again in {retry_after_ms} ms")
            }
            Self::KeyTooOld { .. } => f.write_str("the request key is too old: send a new one"),
            Self::KeyTooNew { .. } => {
                f.write_str("the time in the request key is ahead of now: check the clock")
            }
        }
    }
}

impl fmt::Display for RefusedBefore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused before: {}", self.refusal)
    }
}

impl fmt::Display for KeyReused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.order {
            Some(order) => write!(f, "the request key is that of order {order}")?,
            None => f.write_str("the request key is that of a refused order")?,
        }
        write!(f, ", which has another {}", self.field)
    }
}

impl fmt::Display for KeyField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lines => "content",
            Self::Hold => "hold time",
            Self::Policy => "fill policy",
            Self::Payload => "payload",
            Self::Adjustment => "kind of adjustment",
            Self::Quantity => "quantity",
            Self::Expected => "expected figure",
        })
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { state } => write!(f, "the order is {state}"),
            Self::AlreadyDone { state } => write!(f, "the order is {state} already"),
            Self::NotAllowed { state } => write!(f, "not possible: the order is {state}"),
            Self::Halted { state, scope } => {
                write!(f, "{scope}: {}; the order is still {state}", Switch::Halted)
            }
        }
    }
}

impl fmt::Display for Adjusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { delta, stocked, shortfall, .. } => {
                write!(f, "the stock changed by {delta:+} to {stocked}")?;
                match shortfall.get() {
                    0 => Ok(()),
                    short => write!(f, ", {short} fewer taken than wanted"),
                }
            }
            Self::TooFew { wanted, available } => {
                write!(f, "{wanted} wanted, {available} available")
            }
            Self::Unexpected { expected, stocked } => {
                write!(f, "{expected} expected in stock, {stocked} found")
            }
            Self::KeyTooOld { .. } => f.write_str("the request key is too old: send a new one"),
            Self::KeyTooNew { .. } => {
                f.write_str("the time in the request key is ahead of now: check the clock")
            }
            Self::KeyReused { field } => {
                write!(f, "the request key is that of an adjustment which has another {field}")
            }
        }
    }
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Confirmed => "confirmed",
            Self::Fulfilled => "fulfilled",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine => f.write_str("all sales"),
            Self::Merchant(merchant) => merchant.fmt(f),
            Self::Sku(sku) => sku.fmt(f),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::NoNewHolds => "no new orders are taken",
            Self::Halted => "halted for now",
        })
    }
}

impl Refusal {
    /// Returns whether the refusal says when the same request may be sent again: the sale is not open yet, or
    /// its merchant received too many orders. Other refusals may end too, for example when stock comes back, but the
    /// time is not known.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retry_after().is_some()
    }

    /// Returns after which time the same request may be sent again, if the refusal
    /// [says so](Self::is_retryable).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotOpen { opens_at_ms, now_ms, .. } => {
                Some(Duration::from_millis(opens_at_ms.saturating_sub(*now_ms)))
            }
            Self::RateLimited { retry_after_ms, .. } => {
                Some(Duration::from_millis(*retry_after_ms))
            }
            Self::SoldOut { .. }
            | Self::OthersWaiting { .. }
            | Self::WaitingListFull { .. }
            | Self::BuyerLimit { .. }
            | Self::Closed { .. }
            | Self::Switched { .. }
            | Self::KeyTooOld { .. }
            | Self::KeyTooNew { .. } => None,
        }
    }
}
