//! What is shown, second by second: bars on a terminal, plain lines when piped.

use std::io::IsTerminal;

use serde_json::{Value, json};

use crate::args::Args;
use crate::crowd::Crowd;
use crate::proof::Findings;
use crate::shared::text::{grouped, say};
use crate::stage::{DROP, OPENING_TICK, Stage, TICK_MS};

const BAR_CELLS: u64 = 24;

/// See the module.
pub(crate) struct Show {
    stock: u64,
    bars: bool,
    notes: Vec<String>,
    placed: u64,
    promoted: u64,
    seconds: Vec<Second>,
}

/// How the drop stood at a second after the opening.
#[derive(Clone, Copy)]
pub(crate) struct Second {
    pub(crate) at: i64,
    pub(crate) available: i64,
    pub(crate) held: i64,
    pub(crate) sold: i64,
    pub(crate) in_line: usize,
}

impl Show {
    pub(crate) fn new(args: &Args) -> Self {
        let bars = std::io::stdout().is_terminal();
        say("  time |  requests/s | available |    held |    sold | in line | promoted/s |");
        let (stock, notes) = (args.stock.into(), Vec::new());
        Self { stock, bars, notes, placed: 0, promoted: 0, seconds: Vec::new() }
    }

    /// Every second that was shown.
    pub(crate) fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    /// Something that happened, to be told with its second.
    pub(crate) fn note(&mut self, what: &str) {
        self.notes.push(what.into());
    }

    pub(crate) fn second(&mut self, tick: u64, stage: &Stage, crowd: &Crowd) {
        let Some(levels) = stage.engine.levels(DROP) else { return };
        let second = (tick * TICK_MS) as i64 / 1_000 - (OPENING_TICK * TICK_MS) as i64 / 1_000;
        if second == 0 {
            self.note("the sale is open for everyone");
        }
        self.seconds.push(Second {
            at: second,
            available: levels.available,
            held: levels.held,
            sold: levels.sold,
            in_line: crowd.in_line(),
        });
        let placed = crowd.tally.placed - self.placed;
        let promoted = crowd.tally.promoted - self.promoted;
        (self.placed, self.promoted) = (crowd.tally.placed, crowd.tally.promoted);
        let bar = if self.bars { format!(" {}", self.bar(&levels)) } else { String::new() };
        say(&format!(
            "{second:>+4} s | {:>11} | {:>9} | {:>7} | {:>7} | {:>7} | {:>10} |{bar} {}",
            grouped(placed),
            levels.available,
            levels.held,
            levels.sold,
            grouped(crowd.in_line() as u64),
            promoted,
            self.notes.join("; "),
        ));
        self.notes.clear();
    }

    /// Sold, held and available, as parts of the stock.
    fn bar(&self, levels: &doorbuster::StockLevels) -> String {
        let all = self.stock.max(levels.stocked.unsigned_abs()).max(1);
        let cells = |units: i64| (units.max(0).unsigned_abs() * BAR_CELLS / all) as usize;
        let (sold, held) = (cells(levels.sold), cells(levels.held));
        let rest = (BAR_CELLS as usize).saturating_sub(sold + held);
        format!("{}{}{}", "█".repeat(sold), "▒".repeat(held), "·".repeat(rest))
    }

    pub(crate) fn findings(&self, crowd: &Crowd, findings: &Findings) {
        let turns = &findings.turns;
        say("");
        for (label, count) in rows(crowd) {
            say(&format!("{label:<38} {:>10}", grouped(count)));
        }
        say(&format!(
            "\nThe log alone says: {} joined a line, {} were served from it, {} left; {} out of turn.",
            grouped(turns.joined),
            grouped(turns.promoted),
            grouped(turns.left),
            turns.out_of_turn,
        ));
        let verdict = if findings.failures().is_empty() { "proved" } else { "NOT PROVED" };
        say(&format!(
            "Units: {} sold, {} left, {} oversold. {verdict}.",
            grouped(findings.sold.unsigned_abs()),
            findings.left,
            findings.oversold,
        ));
    }
}

/// What became of the requests.
pub(crate) fn rows(crowd: &Crowd) -> [(&'static str, u64); 14] {
    let tally = &crowd.tally;
    [
        ("requests", tally.placed),
        ("held at once", tally.held),
        ("  of these by early access", tally.early_access),
        ("stood in line", tally.waited),
        ("  served from the line", tally.promoted),
        ("  left it", tally.left),
        ("  lost patience", tally.lost_patience),
        ("refused", tally.refused()),
        ("  not open yet", tally.not_open),
        ("  others waiting, would not wait", tally.others_waiting),
        ("  sold out", tally.sold_out),
        ("  merchant over its rate or delisted", tally.by_merchant),
        ("paid", tally.paid),
        ("did not pay in time", tally.abandoned),
    ]
}

pub(crate) fn json(args: &Args, crowd: &Crowd, findings: &Findings) -> Value {
    let (tally, turns) = (&crowd.tally, &findings.turns);
    json!({
        "seed": args.seed,
        "buyers": args.buyers,
        "stock": args.stock,
        "placed": tally.placed,
        "held": tally.held,
        "waited": tally.waited,
        "promoted": tally.promoted,
        "early_access": tally.early_access,
        "refused": tally.refused(),
        "refused_not_open": tally.not_open,
        "refused_sold_out": tally.sold_out,
        "refused_others_waiting": tally.others_waiting,
        "refused_list_full": tally.list_full,
        "refused_limit": tally.over_limit,
        "refused_by_merchant": tally.by_merchant,
        "paid": tally.paid,
        "abandoned": tally.abandoned,
        "left": tally.left,
        "lost_patience": tally.lost_patience,
        "joined_by_log": turns.joined,
        "promoted_by_log": turns.promoted,
        "passed_by_log": turns.passed,
        "served_out_of_turn": turns.out_of_turn,
        "oversold": findings.oversold,
        "units_sold": findings.sold,
        "units_left": findings.left,
    })
}
