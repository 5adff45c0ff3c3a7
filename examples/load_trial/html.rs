//! The report as one HTML file that needs nothing else.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::args::Args;
use crate::machine;
use crate::plots;
use crate::report::{Report, Row};

type Failure = Box<dyn Error + Send + Sync>;

const STYLE: &str = "\
body { font: 15px/1.45 sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } caption { text-align: left; font-weight: bold; padding: 1rem 0 .3rem; }
td { padding: .15rem 1.5rem .15rem 0; border-bottom: 1px solid #ddd; }
td + td { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } svg { width: 100%; height: auto; } figcaption { color: #555; }
.failed { color: #b00; }";

/// Writes the report; makes the folder that it goes into.
pub(crate) fn write(
    report: &Report,
    args: &Args,
    folder: &Path,
    file: &Path,
) -> Result<(), Failure> {
    let fail = |error| format!("{}: {error}", file.display());
    if let Some(parent) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(fail)?;
    }
    Ok(fs::write(file, page(report, args, folder)?).map_err(fail)?)
}

fn page(report: &Report, args: &Args, folder: &Path) -> Result<String, Failure> {
    let title = format!("doorbuster load trial: {}", args.scenario);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>\n{STYLE}\n</style></head>\n<body>\n<h1>{title}</h1>\n"
    );
    let verdict = match report.failures()[..] {
        [] => "<p>All answers were checked: nothing oversold, nothing lost, no key twice.</p>\n",
        _ => "<p class=\"failed\">A proof FAILED: see below.</p>\n",
    };
    page.push_str(verdict);
    for (words, svg) in figures(report)? {
        writeln!(page, "<figure>\n{svg}<figcaption>{}</figcaption></figure>", escaped(&words))?;
    }
    page.push_str("<h2>Figures</h2>\n");
    for (title, rows) in report.table(args) {
        write_table(&mut page, &title, &rows)?;
    }
    let machine = machine::describe(folder);
    let machine: Vec<Row> =
        machine.into_iter().map(|(label, value)| (label.to_owned(), value)).collect();
    write_table(&mut page, "machine", &machine)?;
    let command: Vec<_> = std::env::args().skip(1).collect();
    writeln!(
        page,
        "<p>Command: <code>load_trial {}</code>, seed {}.</p>\n</body></html>",
        escaped(&command.join(" ")),
        args.seed
    )?;
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

fn write_table(page: &mut String, title: &str, rows: &[Row]) -> Result<(), Failure> {
    writeln!(page, "<table><caption>{}</caption>", escaped(title))?;
    for (label, value) in rows {
        writeln!(page, "<tr><td>{}</td><td>{}</td></tr>", escaped(label), escaped(value))?;
    }
    Ok(writeln!(page, "</table>")?)
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
