//! What is shown when all is over.

use std::path::Path;

use doorbuster::{Engine, Options, StockLevels, TurnsReport, served_in_turn, verify};

use crate::Failure;
use crate::crowd::Crowd;
use crate::stage::{DROP, KNOCK_OFF, Stage};

/// See the module.
pub(crate) struct Findings {
    /// From the log alone.
    pub(crate) turns: TurnsReport,
    /// Units that were sold beyond what there was.
    pub(crate) oversold: u64,
    pub(crate) sold: i64,
    pub(crate) left: i64,
    failures: Vec<String>,
}

impl Findings {
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }
}

pub(crate) fn prove(stage: Stage, crowd: &Crowd, folder: &Path) -> Result<Findings, Failure> {
    let levels = stage.engine.levels(DROP).ok_or("the drop's SKU is gone")?;
    let other = stage.engine.levels(KNOCK_OFF).ok_or("the other SKU is gone")?;
    let waiting = stage.engine.stats().waiting;
    stage.close()?;
    verify(folder)?;
    let turns = served_in_turn(folder)?;
    let reopened =
        Engine::open(Options::new(folder).checkpoint_bytes(1 << 50).accept_clock_jump(true))?;
    let again = reopened.levels(DROP);
    reopened.close()?;

    let sold = levels.sold + other.sold;
    let oversold =
        [levels, other].iter().map(|it| (it.sold + it.held - it.stocked).max(0)).sum::<i64>();
    let mut failures = Vec::new();
    let mut check = |is_right: bool, what: String| {
        if !is_right {
            failures.push(what);
        }
    };
    let tally = &crowd.tally;
    check(oversold == 0, format!("{oversold} units were sold twice"));
    check(levels.add_up() && other.add_up(), format!("units do not add up: {levels:?}, {other:?}"));
    check(sold == tally.paid_units as i64, format!("{sold} units sold, {} paid", tally.paid_units));
    check(turns.out_of_turn == 0, format!("{} orders were served out of turn", turns.out_of_turn));
    check(turns.passed == 0, format!("{} orders passed another", turns.passed));
    let by_log = (turns.joined, turns.promoted, turns.left);
    let by_buyers = (tally.waited, tally.promoted, tally.left + tally.lost_patience);
    check(
        by_log == by_buyers,
        format!(
            "the log has {by_log:?} orders that joined, were served, left; the buyers {by_buyers:?}"
        ),
    );
    check(waiting == 0 && turns.waiting == 0, format!("{waiting} orders wait still"));
    check(sums(again) == sums(Some(levels)), format!("reopened, it has {again:?}, not {levels:?}"));
    Ok(Findings {
        turns,
        oversold: oversold.unsigned_abs(),
        sold,
        left: levels.available + other.available,
        failures,
    })
}

fn sums(levels: Option<StockLevels>) -> Option<(i64, i64, i64)> {
    levels.map(|it| (it.stocked, it.available, it.sold))
}
