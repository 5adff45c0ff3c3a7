//! The report as one HTML file that needs nothing else.

use std::error::Error;
use std::path::Path;

use crate::args::Args;
use crate::plots;
use crate::report::Report;
use crate::shared::html;

type Failure = Box<dyn Error + Send + Sync>;

/// Writes the report; makes the folder that it goes into.
pub(crate) fn write(
    report: &Report,
    args: &Args,
    folder: &Path,
    file: &Path,
) -> Result<(), Failure> {
    html::write(file, &page(report, args, folder)?)
}

fn page(report: &Report, args: &Args, folder: &Path) -> Result<String, Failure> {
    let title = format!("doorbuster load trial: {}", args.scenario);
    let mut page = html::begin(&title);
    let verdict = match report.failures()[..] {
        [] => "<p>All answers were checked: nothing oversold, nothing lost, no key twice.</p>\n",
        _ => "<p class=\"failed\">A proof FAILED: see below.</p>\n",
    };
    page.push_str(verdict);
    page.push_str("<h2>Figures</h2>\n");
    for (title, rows) in report.table(args) {
        html::add_table(&mut page, &title, &rows)?;
    }
    page.push_str("<h2>Plots</h2>\n");
    for (words, svg) in figures(report)? {
        html::add_figure(&mut page, &svg, &words)?;
    }
    html::add_origin(&mut page, folder, "load_trial", args.seed)?;
    Ok(page)
}

/// Plots with what they show.
fn figures(report: &Report) -> Result<Vec<(String, String)>, Failure> {
    let load = &report.trial.load;
    let samples = &load.samples;
    let mut figures = vec![(
        "Throughput over time: requests answered durably, or refused.".to_owned(),
        plots::throughput(samples)?,
    )];
    if !report.sweep.is_empty() {
        let words = "Commit latency by offered load: open loop, from the moment at which a request was \
                     due to the moment its caller saw it durable.";
        figures.push((words.to_owned(), plots::latency_by_load(&report.sweep)?));
    }
    if samples.last().is_some_and(|last| last.blocks > 0) {
        let words = "Commit size over time, in records: what one write and one sync make durable.";
        figures.push((words.to_owned(), plots::commit_records(samples)?));
        let words = "Commit size over time, in bytes.";
        figures.push((words.to_owned(), plots::commit_bytes(samples)?));
    }
    let recorder = &load.recorder;
    let distributions = [
        ("durable", &recorder.commit_ns),
        ("place call", &recorder.place_ns),
        ("confirm, cancel, fulfil call", &recorder.verb_ns),
        ("empty call: the machine alone", &report.empty.place_ns),
    ];
    if let Some(svg) = plots::distribution(&distributions)? {
        figures.push(("Latencies by percentile.".to_owned(), svg));
    }
    Ok(figures)
}
