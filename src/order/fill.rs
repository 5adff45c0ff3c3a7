//! How an order may be filled, and the validation of what says so.

use std::time::Duration;

use crate::bounds::PATIENCE_MAX;
use crate::error::PlaceError;
use crate::order::{Line, lines_digest};
use crate::routing::mix;

/// The lowest priority class: 0, the highest, to this one.
pub const CLASS_MAX: u8 = 7;

/// What an order wants if there is less than it asks for: an exchange's *time in force*.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Fill {
    /// Every line in full, or nothing (fill or kill).
    #[default]
    AllOrNone,
    /// Of each line as much as there is, at least its [minimum](crate::Order::min_quantity) (immediate or
    /// cancel). What is missing is reported a line, and never follows.
    Partial,
    /// In full, at once or once stock comes back (good till time). Of orders of one line.
    Wait {
        /// How long it waits, in engine time, rounded up to whole milliseconds; 1 ms to
        /// [`Options::patience_max`](crate::Options::patience_max).
        #[cfg_attr(
            feature = "serde",
            serde(rename = "patience_ms", with = "crate::serialised::whole_ms")
        )]
        patience: Duration,
    },
}

/// The kind of a [`Fill`]: what a repeated key is compared by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Policy {
    #[default]
    AllOrNone = 0,
    Partial = 1,
    Wait = 2,
}

impl Policy {
    /// Its two bits in the flags of slots, records and checkpoints: partial, wait.
    pub(crate) const fn bits(self) -> u8 {
        self as u8
    }

    pub(crate) const fn from_bits(bits: u8) -> Result<Self, &'static str> {
        match bits & 3 {
            0 => Ok(Self::AllOrNone),
            1 => Ok(Self::Partial),
            2 => Ok(Self::Wait),
            _ => Err("an order that is partial and waits"),
        }
    }
}

/// The validated policy of an order.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    pub(crate) policy: Policy,
    /// Of [`Policy::Wait`], and 0 otherwise.
    pub(crate) patience_ms: u32,
    /// Of each folded line the least that it takes; empty: none has a minimum.
    pub(crate) minimums: Vec<u32>,
}

impl Filling {
    /// The least that a line takes.
    pub(crate) fn minimum(&self, nth: usize) -> u32 {
        self.minimums.get(nth).copied().unwrap_or(0)
    }
}

/// Checks the policy of an order with these folded lines.
pub(super) fn check_filling(
    fill: Fill,
    minimums: &[Line],
    lines: &[Line],
    patience_max_ms: u32,
) -> Result<Filling, PlaceError> {
    if fill != Fill::Partial
        && let Some(line) = minimums.first()
    {
        let minimum = line.quantity.get();
        return Err(PlaceError::MinimumWithoutPartial { sku: line.sku, minimum });
    }
    Ok(match fill {
        Fill::AllOrNone => Filling::default(),
        Fill::Partial => Filling {
            policy: Policy::Partial,
            patience_ms: 0,
            minimums: check_minimums(minimums, lines)?,
        },
        Fill::Wait { patience } => {
            let patience_ms = whole_patience_ms(patience, patience_max_ms)?;
            if lines.len() > 1 {
                return Err(PlaceError::WaitWithSeveralLines { lines: lines.len() });
            }
            Filling { policy: Policy::Wait, patience_ms, minimums: Vec::new() }
        }
    })
}

fn whole_patience_ms(patience: Duration, max_ms: u32) -> Result<u32, PlaceError> {
    let patience_ms = patience.as_nanos().div_ceil(1_000_000);
    let patience_ms = u64::try_from(patience_ms).unwrap_or(u64::MAX);
    match u32::try_from(patience_ms) {
        Ok(whole_ms) if whole_ms > 0 && u128::from(whole_ms) <= PATIENCE_MAX.as_millis() => {
            Ok(whole_ms)
        }
        _ => Err(PlaceError::PatienceOutOfRange { patience_ms, min_ms: 1, max_ms }),
    }
}

/// The minimum of each line, the last one given for its SKU.
fn check_minimums(minimums: &[Line], lines: &[Line]) -> Result<Vec<u32>, PlaceError> {
    if minimums.is_empty() {
        return Ok(Vec::new());
    }
    let mut sorted = minimums.to_vec();
    sorted.sort_by_key(|line| line.sku);
    let mut of_lines = vec![0; lines.len()];
    let mut nth = 0;
    for same in sorted.chunk_by(|a, b| a.sku == b.sku) {
        let Some(given) = same.last() else { continue };
        let (sku, minimum) = (given.sku, given.quantity.get());
        nth += lines[nth..].partition_point(|line| line.sku < sku);
        let line = lines.get(nth).filter(|line| line.sku == sku);
        let line = line.ok_or(PlaceError::MinimumWithoutLine { sku, minimum })?;
        let quantity = line.quantity.get();
        if minimum > quantity {
            return Err(PlaceError::MinimumTooLarge { sku, minimum, quantity });
        }
        of_lines[nth] = minimum;
    }
    // One of 0 is none.
    if of_lines.iter().all(|minimum| *minimum == 0) {
        of_lines.clear();
    }
    Ok(of_lines)
}

/// [`lines_digest`], with the minimums of a partial order, if it has any. It must never change either.
pub(crate) fn filling_digest(lines: &[Line], minimums: &[u32]) -> u64 {
    let with_minimums = minimums.iter().any(|minimum| *minimum > 0);
    let minimums = if with_minimums { minimums } else { &[] };
    minimums
        .iter()
        .fold(lines_digest(lines), |digest, minimum| mix(!digest).wrapping_add(u64::from(*minimum)))
}
