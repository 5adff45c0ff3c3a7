//! The bounds of what hosts may ask for: the widest that any engine accepts, and those of one engine.

use std::time::Duration;

/// Longest hold that [`Options::hold_max`](crate::Options::hold_max) accepts: 30 days.
pub const HOLD_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Longest patience that [`Options::patience_max`](crate::Options::patience_max) accepts: 30 days.
pub const PATIENCE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long finished orders are kept unless [`Options::retention`](crate::Options::retention) says otherwise: 48 hours.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(48 * 3600);

/// Longest retention that [`Options::retention`](crate::Options::retention) and
/// [`Options::returns_window`](crate::Options::returns_window) accept: 366 days.
pub const RETENTION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Longest archive that [`Options::log_retention`](crate::Options::log_retention) accepts: ten years.
pub const LOG_RETENTION_MAX: Duration = Duration::from_secs(3653 * 24 * 3600);

/// Most lines an order can have: the upper bound of [`Options::lines_max`](crate::Options::lines_max).
pub const LINES_MAX: usize = 4096;

/// Most orders in one [`Engine::place_batch`](crate::Engine::place_batch).
pub const BATCH_ORDERS_MAX: usize = 64 * 1024;

/// Longest payload: the upper bound of [`Options::payload_bytes_max`](crate::Options::payload_bytes_max).
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// The bounds against which requests are validated.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) lines_max: usize,
    pub(crate) payload_bytes_max: usize,
    pub(crate) hold_default_ms: u32,
    pub(crate) hold_max_ms: u32,
    pub(crate) patience_max_ms: u32,
    pub(crate) keep: Keep,
    /// How far a dated key's time may be ahead.
    pub(crate) key_ahead_max_ms: u64,
    /// How long adjustments' keys are kept.
    pub(crate) adjust_retention_ms: u64,
    /// For how long refusals are remembered, if they are.
    pub(crate) remember_ms: Option<u64>,
    /// How long the record of retired orders may be, unless it is about one order.
    pub(crate) retire_bytes_max: usize,
}

#[cfg(feature = "serde")]
impl Bounds {
    /// Returns the bounds that no engine exceeds.
    pub(crate) const fn widest() -> Self {
        Self {
            lines_max: LINES_MAX,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            hold_default_ms: 1,
            hold_max_ms: HOLD_MAX.as_millis() as u32,
            patience_max_ms: PATIENCE_MAX.as_millis() as u32,
            keep: Keep { retention_ms: 1, returns_window_ms: 1, finish_on_confirm: false },
            key_ahead_max_ms: 1,
            remember_ms: None,
            adjust_retention_ms: 1,
            retire_bytes_max: 0,
        }
    }
}

/// How long finished orders are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) retention_ms: u64,
    /// Of fulfilled ones.
    pub(crate) returns_window_ms: u64,
    pub(crate) finish_on_confirm: bool,
}

impl Keep {
    /// Returns the shortest time that a finished order is kept.
    pub(crate) fn shortest_ms(&self) -> u64 {
        self.retention_ms.min(self.returns_window_ms)
    }
}

/// Returns a partition's share of the orders: a quarter more than its part, because buyers spread unevenly.
pub(crate) fn share(orders_max: u64, partitions: u64) -> u64 {
    let part = orders_max.div_ceil(partitions);
    if partitions == 1 { part } else { part + part.div_ceil(4) }
}

/// Returns for how many orders a partition sets memory aside: its part, and six standard deviations of chance. A
/// partition that gets more takes the rest in small steps.
pub(crate) fn share_reserved(orders: u64, partitions: u64) -> u64 {
    let part = orders.div_ceil(partitions);
    if partitions == 1 { part } else { part + (6 * part.isqrt()).min(part.div_ceil(4)) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_little_more_than_what_is_asked_for() {
        assert_eq!(share_reserved(10_000_000, 64), 156_250 + 6 * 395);
        for orders in [0, 1, 64, 1000, 100_000, 10_000_000] {
            let (set_aside, bound) = (share_reserved(orders, 64), share(orders, 64));
            assert!((orders.div_ceil(64)..=bound).contains(&set_aside), "{orders}: {set_aside}");
        }
    }
}
