//! The books of a replay: its figures summed up, and the proof that the engine's levels agree with
//! its answers.

use std::error::Error;

use doorbuster::{Engine, Refusal};

use crate::data::{History, InvoiceKind};
use crate::replay::{Outcome, Pass, Replayed, sku_id};

type Failure = Box<dyn Error + Send + Sync>;

/// The figures of one pass, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) orders: u64,
    pub(crate) held: u64,
    pub(crate) sold_out: u64,
    pub(crate) over_limit: u64,
    /// Orders that the engine would not take.
    pub(crate) unanswered: u64,
    pub(crate) written_off_units: u64,
    pub(crate) shortfall_units: u64,
    pub(crate) given_back_units: u64,
    /// The engine's errors, with their invoices.
    pub(crate) errors: Vec<String>,
}

impl Totals {
    /// Adds up the outcomes of a pass.
    pub(crate) fn of(replayed: &Replayed, history: &History) -> Self {
        let mut totals = Self::default();
        for (at, outcome) in &replayed.outcomes {
            let invoice = &history.invoices[*at];
            totals.orders += u64::from(invoice.kind == InvoiceKind::Order);
            let mut note =
                |error| totals.errors.push(format!("invoice {}: {error}", invoice.number));
            match outcome {
                Outcome::Held => totals.held += 1,
                Outcome::Refused(Refusal::BuyerLimit { .. }) => totals.over_limit += 1,
                Outcome::Refused(_) => totals.sold_out += 1,
                Outcome::Unanswered(error) => {
                    note(error);
                    totals.unanswered += 1;
                }
                Outcome::GivenBack { units, errors } => {
                    errors.iter().for_each(note);
                    totals.given_back_units += units;
                }
                Outcome::WrittenOff { units, shortfall } => {
                    totals.written_off_units += units;
                    totals.shortfall_units = totals.shortfall_units.saturating_add(*shortfall);
                }
            }
        }
        totals
    }
}

/// What the engine's levels say when a pass is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    /// Units in stock.
    pub(crate) remaining_units: u64,
    /// Units sold beyond what was stocked. Never above zero, or the engine is broken.
    pub(crate) oversold_units: u64,
}

/// Keeps the books anew from the engine's answers and compares them with its levels: what was sold
/// SKU by SKU, what was stocked in sum.
pub(crate) fn audit(
    engine: &Engine,
    history: &History,
    pass: Pass,
    replayed: &Replayed,
) -> Result<Closing, Failure> {
    let outcomes = &replayed.outcomes;
    let mut sold = vec![0_i128; history.codes.len()];
    for (at, outcome) in outcomes {
        if *outcome == Outcome::Held {
            for row in &history.invoices[*at].rows {
                sold[row.sku] += i128::from(row.units);
            }
        }
    }
    let mut start = 0_i128;
    let (mut stocked, mut remaining, mut oversold) = (0_i128, 0_u64, 0_u64);
    for (sku, code) in history.codes.iter().enumerate() {
        let levels = engine.levels(sku_id(sku)).ok_or_else(|| format!("{code} is gone"))?;
        if !levels.add_up() {
            return Err(format!("levels of {code} do not add up: {levels:?}").into());
        }
        if levels.held != 0 || levels.returning != 0 || i128::from(levels.sold) != sold[sku] {
            return Err(
                format!("{code}: {} units sold by the answers, but {levels:?}", sold[sku]).into()
            );
        }
        start += i128::from(pass.start_units(history.demand[sku]).0);
        stocked += i128::from(levels.stocked);
        remaining += levels.available.max(0) as u64;
        oversold += (levels.sold - levels.stocked).max(0) as u64;
    }
    let adjusted: i128 = outcomes
        .iter()
        .map(|(_, outcome)| match outcome {
            Outcome::GivenBack { units, .. } => i128::from(*units),
            Outcome::WrittenOff { units, .. } => -i128::from(*units),
            _ => 0,
        })
        .sum();
    if start + adjusted != stocked {
        return Err(format!(
            "{start} units at the start and {adjusted:+} by the answers, but {stocked} stocked"
        )
        .into());
    }
    Ok(Closing { remaining_units: remaining, oversold_units: oversold })
}

/// Pass B: every order that the engine could be asked for is held, and what remains is what the
/// others wanted, which is nothing if there are none.
pub(crate) fn prove_full(totals: &Totals, closing: Closing) -> Result<(), Failure> {
    let refused = totals.sold_out + totals.over_limit;
    if refused > 0 {
        return Err(format!(
            "pass B: {refused} of {} orders were refused with the full demand in stock",
            totals.orders
        )
        .into());
    }
    if closing.remaining_units > 0 && totals.unanswered == 0 {
        let words = format!("pass B: {} units remain, none should", closing.remaining_units);
        return Err(words.into());
    }
    Ok(())
}
