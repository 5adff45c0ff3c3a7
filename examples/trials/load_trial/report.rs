//! What a trial prints: the table and the JSON object.

use std::path::Path;

use doorbuster::Durability;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::empty_loop::EmptyLoop;
use crate::load::Sample;
use crate::shared::html::Row;
use crate::shared::text::{grouped, say};
use crate::trial::Trial;

/// Percentiles by their name in the JSON object.
pub(crate) const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p99", 99.0), ("p999", 99.9), ("p9999", 99.99)];

const NS_PER_US: f64 = 1000.0;

/// Everything that a run found out.
pub(crate) struct Report {
    pub(crate) trial: Trial,
    pub(crate) empty: EmptyLoop,
    /// By offered load.
    pub(crate) sweep: Vec<Point>,
}

/// A trial in the open loop.
pub(crate) struct Point {
    pub(crate) rate: u32,
    pub(crate) trial: Trial,
}

impl Trial {
    pub(crate) fn requests_per_s(&self) -> f64 {
        per(self.tally.answered() as f64, self.load.seconds()).unwrap_or(0.0)
    }

    fn last_sample(&self) -> Sample {
        self.load.samples.last().copied().unwrap_or_default()
    }

    fn log_bytes_per_order(&self) -> Option<f64> {
        per(self.record_bytes as f64, self.tally.held as f64)
    }

    fn block_bytes_per_order(&self) -> Option<f64> {
        per(self.last_sample().block_bytes as f64, self.tally.held as f64)
    }

    fn records_per_block(&self) -> Option<f64> {
        per(self.last_sample().records as f64, self.last_sample().blocks as f64)
    }

    fn rss_bytes_per_order(&self) -> Option<f64> {
        per(self.rss_bytes as f64, self.rss_orders as f64)
    }

    fn recovery_orders_per_s(&self) -> Option<f64> {
        per(self.recovered as f64, self.recovery.as_secs_f64())
    }

    fn durable_orders_per_s(&self) -> f64 {
        per(self.tally.held as f64, self.load.seconds()).unwrap_or(0.0)
    }
}

impl Report {
    /// The proofs that failed, in words.
    pub(crate) fn failures(&self) -> Vec<&str> {
        let points = self.sweep.iter().map(|point| &point.trial);
        let all = std::iter::once(&self.trial).chain(points);
        all.flat_map(|trial| trial.findings.words.iter().map(String::as_str)).collect()
    }

    fn breaches(&self, of: impl Fn(&Trial) -> u64) -> u64 {
        of(&self.trial) + self.sweep.iter().map(|point| of(&point.trial)).sum::<u64>()
    }

    /// The table, in parts with a title each.
    pub(crate) fn table(&self, args: &Args) -> Vec<(String, Vec<Row>)> {
        let loop_kind = match args.rate() {
            None => "closed loop".to_owned(),
            Some(rate) => format!("{} requests/s offered", grouped(u64::from(rate))),
        };
        let title = format!("{}, {} threads, {loop_kind}", args.scenario, args.threads());
        let mut table = vec![
            (title, self.work_rows(args)),
            ("latencies".to_owned(), self.latency_rows(args)),
            ("costs".to_owned(), self.cost_rows()),
            ("proof".to_owned(), self.proof_rows()),
        ];
        if !self.sweep.is_empty() {
            table
                .push(("commit latency by offered load, requests/s".to_owned(), self.sweep_rows()));
        }
        table
    }

    fn work_rows(&self, args: &Args) -> Vec<Row> {
        let (trial, tally) = (&self.trial, self.trial.tally);
        let mut rows = vec![
            row("requests answered", grouped(tally.answered())),
            row("held", grouped(tally.held)),
            row("replayed", grouped(tally.replayed)),
            row("refused", grouped(tally.refused)),
            row("seconds", format!("{:.3}", trial.load.seconds())),
            row("durable orders a second", rate(trial.durable_orders_per_s())),
            row("requests a second", rate(trial.requests_per_s())),
        ];
        let (verbs, backlogged) = (trial.load.recorder.verbs, trial.load.recorder.backlogged);
        if verbs > 0 {
            rows.push(row("confirms, cancels and fulfils", grouped(verbs)));
        }
        if backlogged > 0 {
            rows.push(row("waits for room in the log", grouped(backlogged)));
        }
        if tally.answered() < u64::from(args.requests()) && args.seconds().is_none() {
            rows.push(row("requests asked for", grouped(u64::from(args.requests()))));
        }
        rows
    }

    fn latency_rows(&self, args: &Args) -> Vec<Row> {
        let recorder = &self.trial.load.recorder;
        let called = match args.scenario {
            crate::args::Scenario::Batch => "place_batch",
            _ => "place",
        };
        let mut rows = percentile_rows(&format!("{called} call"), &recorder.place_ns);
        if !recorder.verb_ns.is_empty() {
            rows.extend(percentile_rows("confirm, cancel or fulfil call", &recorder.verb_ns));
        }
        if !recorder.commit_ns.is_empty() {
            rows.extend(percentile_rows("durable", &recorder.commit_ns));
        }
        rows.extend(percentile_rows("empty call, machine alone", &self.empty.place_ns));
        rows
    }

    fn cost_rows(&self) -> Vec<Row> {
        let trial = &self.trial;
        let figure = |label: &str, value: Option<f64>| {
            row(label, value.map_or("–".to_owned(), |value| format!("{value:.1}")))
        };
        vec![
            figure("load generator, ns a request", Some(self.empty.ns_per_request)),
            figure("records a block", trial.records_per_block()),
            figure("log bytes an order, records", trial.log_bytes_per_order()),
            figure("log bytes an order, with headers and padding", trial.block_bytes_per_order()),
            figure("memory bytes an order", trial.rss_bytes_per_order()),
            row("calls that found their partition locked", grouped(trial.lock_waits)),
            row("stock words lost to another", grouped(trial.stock_retries)),
            row("reopen, seconds", format!("{:.3}", trial.recovery.as_secs_f64())),
            row("reopen, orders a second", rate(trial.recovery_orders_per_s().unwrap_or(0.0))),
        ]
    }

    fn proof_rows(&self) -> Vec<Row> {
        let mut rows = vec![
            row("units oversold", grouped(self.breaches(|trial| trial.findings.oversold))),
            row("acknowledged orders lost", grouped(self.breaches(|trial| trial.findings.lost))),
            row("second orders of a key", grouped(self.breaches(|it| it.findings.duplicated))),
        ];
        rows.extend(self.failures().into_iter().map(|words| row("FAILED", words.to_owned())));
        rows
    }

    fn sweep_rows(&self) -> Vec<Row> {
        let rows = self.sweep.iter().map(|point| {
            let commit = &point.trial.load.recorder.commit_ns;
            let shown: Vec<_> = PERCENTILES
                .iter()
                .map(|(name, percentile)| {
                    format!(
                        "{} {}",
                        dotted(name),
                        duration(commit.value_at_percentile(*percentile))
                    )
                })
                .collect();
            let label = format!(
                "{} offered, {} answered",
                grouped(u64::from(point.rate)),
                rate(point.trial.requests_per_s())
            );
            row(&label, shown.join("  "))
        });
        rows.collect()
    }

    /// Prints the table.
    pub(crate) fn print(&self, args: &Args) {
        for (title, rows) in self.table(args) {
            say(&format!("\n{title}"));
            for (label, value) in rows {
                say(&format!("  {label:<46} {value:>14}"));
            }
        }
    }

    /// The JSON object: see `--help` for its keys.
    pub(crate) fn json(&self, args: &Args, html: &Path) -> Value {
        let (trial, tally) = (&self.trial, self.trial.tally);
        let recorder = &trial.load.recorder;
        let durability = match args.durability() {
            Durability::Synced => "synced",
            Durability::Written => "written",
        };
        json!({
            "scenario": args.scenario.to_string(),
            "threads": args.threads(),
            "seed": args.seed,
            "durability": durability,
            "window": args.window(),
            "skus": args.skus(),
            "rate": args.rate(),
            "orders": tally.answered(),
            "held": tally.held,
            "refused": tally.refused,
            "replayed": tally.replayed,
            "verbs": recorder.verbs,
            "backlogged": recorder.backlogged,
            "seconds": trial.load.seconds(),
            "durable_orders_per_s": trial.durable_orders_per_s().round(),
            "requests_per_s": trial.requests_per_s().round(),
            "place_ns": percentiles(&recorder.place_ns, 1.0),
            "verb_ns": percentiles(&recorder.verb_ns, 1.0),
            "commit_us": percentiles(&recorder.commit_ns, NS_PER_US),
            "timed_one_in": args.timed_one_in(),
            "loop_ns_per_request": self.empty.ns_per_request,
            "empty_place_ns": percentiles(&self.empty.place_ns, 1.0),
            "log_bytes_per_order": trial.log_bytes_per_order(),
            "block_bytes_per_order": trial.block_bytes_per_order(),
            "records_per_block": trial.records_per_block(),
            "rss_bytes_per_order": trial.rss_bytes_per_order(),
            "lock_waits": trial.lock_waits,
            "stock_retries": trial.stock_retries,
            "contended": trial.contended,
            "recovery_seconds": trial.recovery.as_secs_f64(),
            "recovery_orders_per_s": trial.recovery_orders_per_s().map(f64::round),
            "oversold": self.breaches(|trial| trial.findings.oversold),
            "lost": self.breaches(|trial| trial.findings.lost),
            "duplicated": self.breaches(|trial| trial.findings.duplicated),
            "sweep": self.sweep.iter().map(Point::json).collect::<Vec<_>>(),
            "report": html.to_string_lossy(),
        })
    }
}

impl Point {
    fn json(&self) -> Value {
        let recorder = &self.trial.load.recorder;
        json!({
            "rate": self.rate,
            "requests_per_s": self.trial.requests_per_s().round(),
            "place_ns": percentiles(&recorder.place_ns, 1.0),
            "commit_us": percentiles(&recorder.commit_ns, NS_PER_US),
        })
    }
}

/// `None` where there is nothing to divide by, or nothing to share out.
fn per(of: f64, by: f64) -> Option<f64> {
    (of > 0.0 && by > 0.0).then(|| of / by)
}

fn percentiles(histogram: &Histogram<u64>, ns_per_unit: f64) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let mut object = Map::new();
    for (name, percentile) in PERCENTILES {
        let value = histogram.value_at_percentile(percentile) as f64 / ns_per_unit;
        object.insert(name.to_owned(), json!(value));
    }
    object.insert("max".to_owned(), json!(histogram.max() as f64 / ns_per_unit));
    Value::Object(object)
}

fn percentile_rows(label: &str, histogram: &Histogram<u64>) -> Vec<Row> {
    let at = |(name, percentile): &(&str, f64)| {
        row(
            &format!("{label} {}", dotted(name)),
            duration(histogram.value_at_percentile(*percentile)),
        )
    };
    let max = row(&format!("{label} max"), duration(histogram.max()));
    PERCENTILES.iter().map(at).chain([max]).collect()
}

fn row(label: &str, value: String) -> Row {
    (label.to_owned(), value)
}

fn rate(per_s: f64) -> String {
    grouped(per_s.round() as u64)
}

/// A duration in the unit that suits it.
fn duration(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// `p999` as people write it: p99.9.
pub(crate) fn dotted(name: &str) -> String {
    match name.split_at_checked(3) {
        Some((whole, rest)) if !rest.is_empty() => format!("{whole}.{rest}"),
        _ => name.to_owned(),
    }
}
