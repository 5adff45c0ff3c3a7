//! What a soak prints and writes.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorbuster::{RecoveryReport, Stats};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::plots;
use crate::shared::findings::Findings;
use crate::shared::folder::RunFolder;
use crate::shared::html::{self, Row as TableRow};
use crate::shared::output;
use crate::shared::text::{grouped, say};
use crate::watch::{Row, Watched};

type Failure = Box<dyn Error + Send + Sync>;

const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p99", 99.0), ("p999", 99.9)];
const NS_PER_US: f64 = 1000.0;
const MIB: f64 = (1 << 20) as f64;

/// Where the CSV file, the picture and the page go.
pub(crate) struct Files {
    pub(crate) csv: PathBuf,
    pub(crate) svg: PathBuf,
    pub(crate) html: PathBuf,
}

impl Files {
    pub(crate) fn of(folder: &RunFolder) -> Self {
        let file = |kept, temporary| output::file(folder, kept, temporary);
        Self {
            csv: file("soak.csv", "doorbuster-soak.csv"),
            svg: file("soak.svg", "doorbuster-soak.svg"),
            html: file("report.html", "doorbuster-soak.html"),
        }
    }
}

/// How the folder opened afterwards.
pub(crate) struct Reopened {
    pub(crate) took: Duration,
    pub(crate) report: RecoveryReport,
}

/// Everything that a soak found out.
pub(crate) struct Report {
    pub(crate) watched: Watched,
    pub(crate) stats: Stats,
    pub(crate) reopened: Reopened,
    pub(crate) findings: Findings,
}

impl Report {
    pub(crate) fn print(&self, args: &Args) {
        for (title, rows) in self.table(args) {
            say(&format!("\n{title}"));
            rows.iter().for_each(|(label, value)| say(&format!("  {label:44} {value:>16}")));
        }
    }

    /// Writes the CSV file, the picture and the page, and says where.
    pub(crate) fn write(&self, args: &Args, folder: &Path, files: &Files) -> Result<(), Failure> {
        let write = |file: &Path, words: &str| {
            fs::write(file, words).map_err(|error| format!("{}: {error}", file.display()))
        };
        write(&files.csv, &self.csv()?)?;
        let svg = plots::draw(&self.watched.rows)?;
        write(&files.svg, &svg)?;
        html::write(&files.html, &self.page(args, folder, &svg)?)?;
        let shown = |file: &Path| file.display().to_string();
        say(&format!("\n{}\n{}\n{}", shown(&files.csv), shown(&files.svg), shown(&files.html)));
        Ok(())
    }

    fn csv(&self) -> Result<String, Failure> {
        let mut csv = "seconds,orders,rss_bytes,disk_bytes,orders_in_memory,checkpoint,\
                       commits,p50_us,p99_us,p999_us,max_us\n"
            .to_owned();
        for row in &self.watched.rows {
            let Row { end_s, orders, rss_bytes, disk_bytes, orders_in_memory, .. } = row;
            let [p50, p99, p999, max] = [row.p50_ns, row.p99_ns, row.p999_ns, row.max_ns]
                .map(|ns| format!("{:.1}", ns as f64 / NS_PER_US));
            writeln!(
                csv,
                "{end_s:.3},{orders},{rss_bytes},{disk_bytes},{orders_in_memory},{},{},\
                 {p50},{p99},{p999},{max}",
                u8::from(row.has_checkpoint),
                row.commits,
            )?;
        }
        Ok(csv)
    }

    fn page(&self, args: &Args, folder: &Path, svg: &str) -> Result<String, Failure> {
        let mut page = html::begin("doorbuster soak");
        let verdict = match self.findings.words[..] {
            [] => "<p>All was checked: nothing oversold, nothing lost, no key twice.</p>\n",
            _ => "<p class=\"failed\">A proof FAILED: see below.</p>\n",
        };
        page.push_str(verdict);
        let words = "Memory, disk and commit latency over time. An order's latency counts from the moment at \
                     which it was due.";
        page.push_str("<h2>Figures</h2>\n");
        for (title, rows) in self.table(args) {
            html::add_table(&mut page, &title, &rows)?;
        }
        page.push_str("<h2>Plots</h2>\n");
        html::add_figure(&mut page, svg, words)?;
        html::add_origin(&mut page, folder, "soak", args.seed)?;
        Ok(page)
    }

    fn table(&self, args: &Args) -> Vec<(String, Vec<TableRow>)> {
        let title = format!("{} orders/s, {} threads", grouped(args.rate.into()), args.threads());
        vec![
            (title, self.work_rows()),
            ("memory and disk".to_owned(), self.room_rows()),
            ("commit latency".to_owned(), self.latency_rows()),
            ("reopen".to_owned(), self.reopen_rows()),
            ("proof".to_owned(), self.proof_rows()),
        ]
    }

    fn work_rows(&self) -> Vec<TableRow> {
        let orders = self.watched.ledger.orders();
        vec![
            row("orders placed, confirmed and fulfilled", grouped(orders)),
            row("seconds", format!("{:.1}", self.watched.seconds)),
            row("orders a second", grouped((orders as f64 / self.watched.seconds) as u64)),
            row("of these retired", grouped(self.stats.retired)),
            row("most orders in memory", grouped(self.largest(|row| row.orders_in_memory))),
            row("checkpoints", grouped(self.stats.checkpoints)),
            row("log segments used again", grouped(self.stats.segments_recycled)),
        ]
    }

    fn room_rows(&self) -> Vec<TableRow> {
        vec![
            row("memory in the second fifth, at most", mib(self.rss_in_fifth(1))),
            row("memory in the last fifth, at most", mib(self.rss_in_fifth(4))),
            row("the engine's folder, at most", mib(self.largest(|row| row.disk_bytes))),
        ]
    }

    fn latency_rows(&self) -> Vec<TableRow> {
        let count = self.watched.rows.iter().filter(|row| row.has_checkpoint).count();
        let windows = format!("{count} of {}", self.watched.rows.len());
        let mut rows = vec![row("windows with a checkpoint", windows)];
        let with = percentiles_us(&self.watched.with_checkpoint_ns);
        let without = percentiles_us(&self.watched.without_ns);
        for ((name, with), (_, without)) in with.into_iter().zip(without) {
            let shown =
                |us: Option<f64>| us.map_or("none".to_owned(), |us| format!("{:.2} ms", us / 1e3));
            rows.push(row(&format!("{name} beside checkpoints"), shown(with)));
            rows.push(row(&format!("{name} without"), shown(without)));
        }
        rows
    }

    fn reopen_rows(&self) -> Vec<TableRow> {
        let report = &self.reopened.report;
        let rate = |rate: Option<f64>| rate.map_or("none".to_owned(), |rate| grouped(rate as u64));
        vec![
            row("seconds, all in all", format!("{:.2}", self.reopened.took.as_secs_f64())),
            row("log records", grouped(report.records)),
            row("log records a second", rate(self.reopen_records_per_s())),
            row("orders in the checkpoint", grouped(report.checkpoint_orders)),
            row("orders of the checkpoint a second", rate(self.reopen_checkpoint_orders_per_s())),
            row("touching memory, besides", format!("{:.2} s", report.memory_us as f64 / 1e6)),
        ]
    }

    fn proof_rows(&self) -> Vec<TableRow> {
        let findings = &self.findings;
        let mut rows = vec![
            row("units oversold", grouped(findings.oversold)),
            row("orders lost", grouped(findings.lost)),
            row("orders duplicated", grouped(findings.duplicated)),
        ];
        rows.extend(findings.words.iter().map(|words| row("FAILED", words.clone())));
        rows
    }

    pub(crate) fn json(&self, args: &Args, files: &Files) -> Value {
        let (watched, stats, report) = (&self.watched, &self.stats, &self.reopened.report);
        let orders = watched.ledger.orders();
        let with = watched.rows.iter().filter(|row| row.has_checkpoint).count();
        let mut json = json!({
            "orders": orders,
            "seconds": watched.seconds,
            "orders_per_s": (orders as f64 / watched.seconds).round(),
            "rate": args.rate,
            "threads": args.threads(),
            "skus": args.skus,
            "retention_ms": args.retention_ms,
            "checkpoint_bytes": args.checkpoint_bytes(),
            "window_ms": args.window_ms,
            "seed": args.seed,
            "rss_bytes_early": self.rss_in_fifth(1),
            "rss_bytes_late": self.rss_in_fifth(4),
            "rss_bytes_max": self.largest(|row| row.rss_bytes),
            "disk_bytes_max": self.largest(|row| row.disk_bytes),
            "orders_in_memory_max": self.largest(|row| row.orders_in_memory),
            "retired": stats.retired,
            "checkpoints": stats.checkpoints,
            "checkpoints_failed": stats.checkpoints_failed,
            "segments_recycled": stats.segments_recycled,
            "windows": watched.rows.len(),
            "windows_with_checkpoint": with,
            "reopen_seconds": self.reopened.took.as_secs_f64(),
            "reopen_records": report.records,
            "reopen_records_per_s": self.reopen_records_per_s().map(f64::round),
            "reopen_checkpoint_orders": report.checkpoint_orders,
            "reopen_checkpoint_orders_per_s": self.reopen_checkpoint_orders_per_s().map(f64::round),
            "reopen_memory_us": report.memory_us,
            "oversold": self.findings.oversold,
            "lost": self.findings.lost,
            "duplicated": self.findings.duplicated,
            "csv": files.csv.to_string_lossy(),
            "svg": files.svg.to_string_lossy(),
            "report": files.html.to_string_lossy(),
        });
        if let Value::Object(object) = &mut json {
            add_percentiles(object, "with_checkpoint", &watched.with_checkpoint_ns);
            add_percentiles(object, "without", &watched.without_ns);
        }
        json
    }

    fn largest(&self, figure: impl Fn(&Row) -> u64) -> u64 {
        self.watched.rows.iter().map(figure).max().unwrap_or(0)
    }

    /// The most memory in a fifth of the run, counted from 0.
    fn rss_in_fifth(&self, nth: usize) -> u64 {
        let rows = &self.watched.rows;
        let at = |nth: usize| rows.len() * nth / 5;
        // Of a run of fewer than five windows some fifths have none: then the window after.
        let fifth = &rows[at(nth)..at(nth + 1).max(at(nth) + 1).min(rows.len())];
        fifth.iter().map(|row| row.rss_bytes).max().unwrap_or(0)
    }

    fn reopen_records_per_s(&self) -> Option<f64> {
        let RecoveryReport { records, log_us, .. } = self.reopened.report;
        (records > 0 && log_us > 0).then(|| records as f64 * 1e6 / log_us as f64)
    }

    fn reopen_checkpoint_orders_per_s(&self) -> Option<f64> {
        let RecoveryReport { checkpoint_orders, checkpoint_us, .. } = self.reopened.report;
        (checkpoint_orders > 0 && checkpoint_us > 0)
            .then(|| checkpoint_orders as f64 * 1e6 / checkpoint_us as f64)
    }
}

fn percentiles_us(histogram: &Histogram<u64>) -> Vec<(&'static str, Option<f64>)> {
    let us = |ns: u64| (!histogram.is_empty()).then_some(ns as f64 / NS_PER_US);
    let at = |(name, percentile)| (name, us(histogram.value_at_percentile(percentile)));
    PERCENTILES.into_iter().map(at).chain([("max", us(histogram.max()))]).collect()
}

fn add_percentiles(object: &mut Map<String, Value>, beside: &str, histogram: &Histogram<u64>) {
    for (name, us) in percentiles_us(histogram) {
        object.insert(format!("commit_us_{name}_{beside}"), json!(us));
    }
}

fn row(label: &str, value: String) -> TableRow {
    (label.to_owned(), value)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB)
}
