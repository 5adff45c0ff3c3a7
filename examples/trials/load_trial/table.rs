//! `--table`: every figure that is published, in one run. Every row is run so often, one row after the other
//! and not one row's runs together, so that an hour in which the machine is slow meets all rows alike; the
//! median counts. Every run proves itself, as a trial does.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::args::Args;
use crate::beside;
use crate::empty_loop;
use crate::shared::folder::RunFolder;
use crate::shared::machine;
use crate::shared::text::{grouped, say};
use crate::trial::Trial;

type Failure = Box<dyn Error + Send + Sync>;

const HOT: usize = 0;
const RETRIES: usize = 8;
const RATES: [RateRow; 12] = [
    RateRow::new("`place`, hot SKU, 2 threads", "4 M", &["--threads", "2", "--orders", "3000000"]),
    RateRow::new("`place`, hot SKU, 1 thread", "", &["--threads", "1"]),
    RateRow::new("`place`, hot SKU, 4 threads", "", &["--threads", "4"]),
    RateRow::new("`place`, hot SKU, 8 threads", "", &["--threads", "8"]),
    RateRow::new(
        "`place`, 100,000 SKUs (Zipf 1.0), 2 threads",
        "3 M",
        &["--scenario", "zipf", "--threads", "2"],
    ),
    RateRow::new(
        "`place`, 100,000 SKUs (Zipf 1.0), 1 thread",
        "",
        &["--scenario", "zipf", "--threads", "1"],
    ),
    RateRow::new("`place_batch` of 64, hot SKU, 2 threads", "8 M", &["--scenario", "batch"]),
    RateRow::new("carts of 3 lines, 100,000 SKUs, 2 threads", "2 M", &["--scenario", "carts"]),
    RateRow::new("a fifth retries, 2 threads (requests)", "as hot", &["--scenario", "retries"]),
    RateRow::new(
        "sold out by handle, a fifth retries, 1 thread (requests)",
        "20 M",
        &["--scenario", "soldout", "--threads", "1", "--orders", "4000000"],
    ),
    RateRow::new("10,000 tasks, each awaits its order", "1 M", &["--scenario", "async"]),
    RateRow::new("64 threads, each waits for its order", "", &["--scenario", "blocking"]),
];
/// Confirms, cancels and fulfils among them.
const VERBS: RateRow =
    RateRow::new("place, confirm, cancel, fulfil (verbs)", "", &["--scenario", "lifecycle"]);
/// One caller that waits for each order.
const LONE: &[&str] =
    &["--scenario", "blocking", "--threads", "1", "--orders", "5000", "--window", "1"];
/// One calling thread, each call timed.
const TAIL: &[&str] = &["--threads", "1"];
/// How long the open loop lasts.
const OPEN_SECONDS: &str = "4";

/// A row of answers a second.
struct RateRow {
    what: &'static str,
    wanted: &'static str,
    arguments: &'static [&'static str],
}

impl RateRow {
    const fn new(
        what: &'static str,
        wanted: &'static str,
        arguments: &'static [&'static str],
    ) -> Self {
        Self { what, wanted, arguments }
    }
}

/// What a row came to: one figure a run.
struct Figures {
    what: String,
    wanted: &'static str,
    unit: &'static str,
    runs: Vec<f64>,
}

impl Figures {
    fn new(what: impl Into<String>, wanted: &'static str, unit: &'static str) -> Self {
        Self { what: what.into(), wanted, unit, runs: Vec::new() }
    }

    fn of(row: &RateRow) -> Self {
        Self::new(row.what, row.wanted, "/s")
    }

    fn sorted(&self) -> Vec<f64> {
        let mut runs = self.runs.clone();
        runs.sort_by(f64::total_cmp);
        runs
    }

    fn median(&self) -> f64 {
        let runs = self.sorted();
        runs.get(runs.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn shown(&self, figure: f64) -> String {
        match self.unit {
            "/s" => format!("{:.2} M/s", figure / 1e6),
            unit => format!("{} {unit}", decimals(figure)),
        }
    }

    /// A row in Markdown: figure, range, and what was wanted.
    fn line(&self) -> String {
        let runs = self.sorted();
        let (least, most) = (runs.first().copied(), runs.last().copied());
        let range = |end: Option<f64>| end.map_or("–".to_owned(), |figure| self.shown(figure));
        let shown = self.shown(self.median());
        format!(
            "| {} | {} | {shown} | {} to {} |",
            self.what,
            self.wanted,
            range(least),
            range(most)
        )
    }
}

/// Runs every row `times` times; prints the table and writes it, with a plot.
pub(crate) fn run(args: &Args, rounds: u32) -> Result<(), Failure> {
    let folder = RunFolder::new("load-trial", args.run.dir.as_deref())?;
    let mut rates: Vec<_> = RATES.iter().map(Figures::of).collect();
    let mut rest = vec![
        Figures::of(&VERBS),
        Figures::new("a lone order, p50, in durable writes of 4 KiB", "1.5", "writes"),
        Figures::new("`place` call, 1 thread, p99.99 beyond an empty call's", "100", "µs"),
        Figures::new("log bytes of a one-line order", "64", "bytes"),
        Figures::new("waits for a partition's lock in 1,000 orders, hot, 2 threads", "", "waits"),
        Figures::new("stock words lost to another in 1,000 orders, hot, 2 threads", "", "retries"),
        Figures::new("wake-ups that one thread can give 64 others", "", "/s"),
        Figures::new("one addition to a line, 1 thread", "", "ns"),
        Figures::new("one addition to a line that 2 threads add to", "", "ns"),
    ];
    for round in 1..=rounds {
        for (row, figures) in RATES.iter().zip(&mut rates) {
            say(&format!("{round} of {rounds}: {}", row.what));
            // Latencies have rows of their own.
            let arguments = [row.arguments, &["--timed-one-in", "16"]].concat();
            let trial = trial(args, &folder, &arguments)?.0;
            figures.runs.push(trial.requests_per_s());
        }
        say(&format!("{round} of {rounds}: the rest"));
        let figures = all_others(args, &folder)?;
        rest.iter_mut().zip(figures).for_each(|(row, figure)| row.runs.push(figure));
    }
    rest.extend(at_half_rate(args, &folder, rates[HOT].median() / 2.0, rounds)?);
    let against = rates[RETRIES].median() / rates[HOT].median();
    let mut retries = Figures::new("a fifth retries, against none", "1", "times");
    retries.runs.push(against);
    rest.push(retries);
    publish(args, &folder, &rates, &rest)
}

/// In the order of the table.
fn all_others(args: &Args, folder: &RunFolder) -> Result<Vec<f64>, Failure> {
    let verbs = trial(args, folder, VERBS.arguments)?.0;
    let verbs_per_s =
        verbs.requests_per_s() + verbs.load.recorder.verbs as f64 / verbs.load.seconds();
    let lone = trial(args, folder, LONE)?.0;
    let lone_us = lone.load.recorder.commit_ns.value_at_percentile(50.0) as f64 / 1e3;
    let write_us = beside::durable_write_us(&folder.part("write"))?;
    let (tail, tail_args) = trial(args, folder, TAIL)?;
    let beside = folder.part("beside");
    let empty = empty_loop::measure(&tail_args, &tail.plan, &tail.load, &beside)?;
    fs::remove_dir_all(beside)?;
    let at = |histogram: &hdrhistogram::Histogram<u64>| histogram.value_at_percentile(99.99) as f64;
    let beyond_us = (at(&tail.load.recorder.place_ns) - at(&empty.place_ns)).max(0.0) / 1e3;
    let hot = trial(args, folder, RATES[HOT].arguments)?.0;
    let in_1000 = |count: u64| count as f64 * 1e3 / hot.tally.held.max(1) as f64;
    Ok(vec![
        verbs_per_s,
        lone_us / write_us,
        beyond_us,
        hot.record_bytes as f64 / hot.tally.held.max(1) as f64,
        in_1000(hot.lock_waits),
        in_1000(hot.stock_retries),
        beside::wake_ups_per_s(64),
        beside::addition_ns(1),
        beside::addition_ns(2),
    ])
}

/// Latencies in the open loop at half of the top rate.
fn at_half_rate(
    args: &Args,
    folder: &RunFolder,
    rate: f64,
    rounds: u32,
) -> Result<[Figures; 2], Failure> {
    let what = |p: &str| format!("durable after, at {} orders/s, {p}", grouped(rate as u64));
    let mut p99 = Figures::new(what("p99"), "3", "ms");
    let mut p999 = Figures::new(what("p99.9"), "10", "ms");
    let rate = (rate as u32).max(1).to_string();
    for round in 1..=rounds {
        say(&format!("{round} of {rounds}: at {rate} orders/s"));
        let open = trial(args, folder, &["--rate", &rate, "--seconds", OPEN_SECONDS])?.0;
        let commit_ns = &open.load.recorder.commit_ns;
        p99.runs.push(commit_ns.value_at_percentile(99.0) as f64 / 1e6);
        p999.runs.push(commit_ns.value_at_percentile(99.9) as f64 / 1e6);
    }
    Ok([p99, p999])
}

/// One trial, in a folder that is removed once all is proved.
fn trial(args: &Args, folder: &RunFolder, arguments: &[&str]) -> Result<(Trial, Args), Failure> {
    let row = args.of_row(arguments)?;
    let engine = folder.part("engine");
    let trial = Trial::run(&row, &engine, "load")?;
    if !trial.findings.words.is_empty() {
        return Err(format!("not proved: {}", trial.findings.words.join("; ")).into());
    }
    fs::remove_dir_all(engine)?;
    Ok((trial, row))
}

fn publish(
    args: &Args,
    folder: &RunFolder,
    rates: &[Figures],
    rest: &[Figures],
) -> Result<(), Failure> {
    let mut text = String::from("| work | wanted | median | range |\n|---|---|---|---|\n");
    for figures in rates.iter().chain(rest) {
        writeln!(text, "{}", figures.line())?;
    }
    let machine = machine::describe(folder.path());
    let machine: Vec<_> = machine.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    writeln!(text, "\n{}; seed {}.", machine.join("; "), args.seed)?;
    say(&format!("\n{text}"));
    let page = args.report(folder).with_extension("md");
    let plot = page.with_extension("svg");
    if let Some(parent) = page.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    fs::write(&page, text)?;
    fs::write(&plot, bars(rates)?)?;
    say(&format!("table: {}, plot: {}", shown(&page), shown(&plot)));
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Bars of the medians, lines from the least to the most.
fn bars(rates: &[Figures]) -> Result<String, Failure> {
    const LABELS: u32 = 430;
    const WIDTH: u32 = 960;
    const ROW: u32 = 26;
    let most = rates.iter().flat_map(|row| &row.runs).copied().fold(1.0, f64::max);
    let across = |figure: f64| figure / most * f64::from(WIDTH - LABELS - 100);
    let height = ROW * rates.len() as u32 + 10;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (nth, row) in (0_u32..).zip(rates) {
        let (top, runs) = (nth * ROW + 5, row.sorted());
        let (least, most) =
            (runs.first().copied().unwrap_or(0.0), runs.last().copied().unwrap_or(0.0));
        let (bar, middle) = (across(row.median()), top + ROW / 2 - 2);
        let (from, to) = (f64::from(LABELS) + across(least), f64::from(LABELS) + across(most));
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LABELS}\" y=\"{top}\" width=\"{bar:.1}\" height=\"{}\" fill=\"#0072b2\"/>\n\
             <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#222\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            LABELS - 8,
            top + 16,
            row.what.replace('`', ""),
            ROW - 4,
            to.max(f64::from(LABELS) + bar) + 8.0,
            top + 16,
            row.shown(row.median()),
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// As many digits as say something.
fn decimals(figure: f64) -> String {
    match figure.abs() {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}
