//! What the run prints: lines, the table, the JSON object.

use std::time::Duration;

use serde_json::{Value, json};

use crate::args::Args;
use crate::books::{Closing, Totals};
use crate::data::Senseless;
use crate::sale::SaleReport;
use crate::shared::text::{grouped, say};

/// How many of the engine's errors during the replay are listed.
const ERRORS_LISTED: usize = 10;

const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p999", 99.9)];

/// What came out of the replay.
pub(crate) struct ReplayReport {
    pub(crate) rows: u64,
    pub(crate) skus: usize,
    pub(crate) senseless: Senseless,
    pub(crate) threads: usize,
    pub(crate) short: PassReport,
    pub(crate) full: PassReport,
}

/// What came out of one pass.
pub(crate) struct PassReport {
    pub(crate) totals: Totals,
    pub(crate) closing: Closing,
    pub(crate) elapsed: Duration,
    /// SKUs whose start was cut to what an engine can count.
    pub(crate) capped: u64,
}

impl PassReport {
    fn orders_per_s(&self) -> f64 {
        match self.elapsed.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.totals.orders as f64 / seconds,
        }
    }
}

/// What came out of the run. A part that was skipped is `None`.
pub(crate) struct Report {
    seed: u64,
    pub(crate) replay: Option<ReplayReport>,
    pub(crate) sale: Option<SaleReport>,
}

impl Report {
    pub(crate) fn new(args: &Args) -> Self {
        Self { seed: args.seed, replay: None, sale: None }
    }

    pub(crate) fn print_table(&self) {
        if let Some(replay) = &self.replay {
            replay.print();
        }
        if let Some(sale) = &self.sale {
            sale.print();
        }
    }

    /// One line. What belongs to a part that was skipped is null.
    pub(crate) fn print_json(&self) {
        let mut object = json!({
            "seed": self.seed,
            "oversold": self.replay.as_ref().map_or(0, ReplayReport::oversold_units)
                + self.sale.as_ref().map_or(0, |sale| sale.oversold),
        });
        let parts = [
            (REPLAY_KEYS, self.replay.as_ref().map(ReplayReport::json)),
            (SALE_KEYS, self.sale.as_ref().map(SaleReport::json)),
        ];
        for (keys, part) in parts {
            for key in keys {
                object[key] = part.as_ref().map_or(Value::Null, |part| part[key].clone());
            }
        }
        say(&object.to_string());
    }
}

const REPLAY_KEYS: &[&str] = &[
    "replay_threads",
    "replay_rows",
    "replay_orders",
    "replay_held",
    "replay_refused",
    "replay_errors",
    "replay_senseless",
    "replay_written_off",
    "replay_shortfall",
    "replay_given_back",
    "replay_orders_per_s",
    "replay_full_held",
    "replay_full_remaining",
];

const SALE_KEYS: &[&str] = &[
    "sale_threads",
    "sale_requests",
    "sale_held",
    "sale_refused",
    "sale_replayed",
    "sale_killed_at_unit",
    "sale_acknowledged",
    "sale_survived_untold",
    "sale_orders_per_s",
    "sale_latency_us",
    "recovery_seconds",
    "lost",
    "duplicated",
];

impl ReplayReport {
    fn oversold_units(&self) -> u64 {
        self.short.closing.oversold_units + self.full.closing.oversold_units
    }

    fn json(&self) -> Value {
        let short = &self.short.totals;
        json!({
            "replay_threads": self.threads,
            "replay_rows": self.rows,
            "replay_orders": short.orders,
            "replay_held": short.held,
            "replay_refused": short.sold_out + short.over_limit,
            "replay_errors": short.errors.len(),
            "replay_senseless": self.senseless.total(),
            "replay_written_off": short.written_off_units,
            "replay_shortfall": short.shortfall_units,
            "replay_given_back": short.given_back_units,
            "replay_orders_per_s": self.short.orders_per_s().round() as u64,
            "replay_full_held": self.full.totals.held,
            "replay_full_remaining": self.full.closing.remaining_units,
        })
    }

    fn print(&self) {
        let short = &self.short.totals;
        title(&format!(
            "replay of {} rows, {} SKUs",
            grouped(self.rows),
            grouped(self.skus as u64)
        ));
        row("threads", &self.threads.to_string());
        row("orders", &grouped(short.orders));
        row("A: held", &grouped(short.held));
        row("A: refused, sold out", &grouped(short.sold_out));
        row("A: refused, over the buyer's limit", &grouped(short.over_limit));
        row("A: units written off", &grouped(short.written_off_units));
        row("A: units that write-offs did not find", &grouped(short.shortfall_units));
        row("A: units given back", &grouped(short.given_back_units));
        row("A: orders a second", &rate(self.short.orders_per_s()));
        row("B: held", &grouped(self.full.totals.held));
        row("B: units that remain", &grouped(self.full.closing.remaining_units));
        row("B: orders a second", &rate(self.full.orders_per_s()));
        row("senseless rows, skipped", &grouped(self.senseless.total()));
        for (kind, rows) in self.senseless.by_kind() {
            row(&format!("  {kind}"), &grouped(rows));
        }
        if self.full.capped > 0 {
            row("SKUs that start at the engine's bound", &grouped(self.full.capped));
        }
        let errors = &short.errors;
        if !errors.is_empty() {
            row("A: named errors", &grouped(errors.len() as u64));
            errors.iter().take(ERRORS_LISTED).for_each(|error| say(&format!("    {error}")));
            if errors.len() > ERRORS_LISTED {
                say(&format!("    and {} more", errors.len() - ERRORS_LISTED));
            }
        }
    }
}

impl SaleReport {
    fn json(&self) -> Value {
        let latency = &self.killed.latency_ns;
        let mut latency_us = serde_json::Map::new();
        for (name, percentile) in PERCENTILES {
            let us = latency.value_at_percentile(percentile) as f64 / 1000.0;
            latency_us.insert(name.to_owned(), json!(us));
        }
        latency_us.insert("max".to_owned(), json!(latency.max() as f64 / 1000.0));
        json!({
            "sale_threads": self.threads,
            "sale_requests": self.requests,
            "sale_held": self.tally.held,
            "sale_refused": self.tally.refused,
            "sale_replayed": self.tally.replayed,
            "sale_killed_at_unit": self.kill_at_unit,
            "sale_acknowledged": self.killed.acknowledged,
            "sale_survived_untold": self.survived_untold,
            "sale_orders_per_s": self.killed.orders_per_s().round() as u64,
            "sale_latency_us": latency_us,
            "recovery_seconds": self.recovery.as_secs_f64(),
            "lost": self.lost,
            "duplicated": self.duplicated,
        })
    }

    fn print(&self) {
        title(&format!("flash sale, {} requests", grouped(self.requests)));
        row("threads", &self.threads.to_string());
        row("held", &grouped(self.tally.held));
        row("refused, sold out", &grouped(self.tally.refused));
        row("replayed", &grouped(self.tally.replayed));
        row("killed when this unit was sold", &grouped(self.kill_at_unit));
        row("new orders acknowledged by then", &grouped(self.killed.acknowledged));
        row("survived without an answer", &grouped(self.survived_untold));
        row("durable new orders a second", &rate(self.killed.orders_per_s()));
        let latency = &self.killed.latency_ns;
        for (name, percentile) in PERCENTILES {
            row(
                &format!("commit latency {}", name.replace("p999", "p99.9")),
                &us(latency.value_at_percentile(percentile)),
            );
        }
        row("commit latency max", &us(latency.max()));
        row("recovery time", &format!("{:.3} s", self.recovery.as_secs_f64()));
        row("units oversold", &grouped(self.oversold));
        row("acknowledged orders lost", &grouped(self.lost));
        row("second orders of a key", &grouped(self.duplicated));
    }
}

fn title(words: &str) {
    say(&format!("\n{words}"));
}

fn row(label: &str, value: &str) {
    say(&format!("  {label:<46} {value:>14}"));
}

fn rate(per_s: f64) -> String {
    grouped(per_s.round() as u64)
}

fn us(ns: u64) -> String {
    format!("{:.0} µs", ns as f64 / 1000.0)
}
