//! An axis of latencies, in decades.

use crate::shared::chart::{Line, trimmed};

/// How much higher a logarithmic plot is than its lines, for the legend.
const LEGEND_SHARE: f64 = 0.35;

/// A duration at a tick.
pub(crate) fn tick(ns: f64) -> String {
    match ns {
        0.0..1e3 => format!("{} ns", trimmed(ns)),
        1e3..1e6 => format!("{} µs", trimmed(ns / 1e3)),
        1e6..1e9 => format!("{} ms", trimmed(ns / 1e6)),
        _ => format!("{} s", trimmed(ns / 1e9)),
    }
}

/// Whole decades around all values, with room above them for the legend.
pub(crate) fn log_bounds(lines: &[Line]) -> std::ops::Range<f64> {
    let values = lines.iter().flat_map(|(_, points)| points).map(|at| at.1.max(1.0));
    let (low, high) =
        values.fold((f64::MAX, 1.0_f64), |(low, high), at| (low.min(at), high.max(at)));
    let (low, high) = (low.min(high).log10().floor(), (high * 1.2).log10().ceil());
    10_f64.powf(low)..10_f64.powf(high + (high - low) * LEGEND_SHARE)
}
