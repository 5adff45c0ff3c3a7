//! The report as one HTML file: what became of the requests, and the drop second by second.

use std::error::Error;
use std::path::Path;

use crate::args::Args;
use crate::crowd::Crowd;
use crate::proof::Findings;
use crate::shared::chart::{Axes, Content, Line, draw_on, picture, si, trimmed};
use crate::shared::html;
use crate::shared::text::grouped;
use crate::show::{Second, Show, rows};

type Failure = Box<dyn Error + Send + Sync>;

const SIZE: (u32, u32) = (960, 420);

/// Writes the report.
pub(crate) fn write(
    file: &Path,
    args: &Args,
    run: &Path,
    show: &Show,
    (crowd, findings): (&Crowd, &Findings),
) -> Result<(), Failure> {
    let mut page = html::begin("doorbuster live drop");
    page.push_str(match findings.failures() {
        [] => "<p>All was checked: nothing oversold, and the log says that all were served in turn.</p>\n",
        _ => "<p class=\"failed\">A proof FAILED: see the output of the program.</p>\n",
    });
    let rows = rows(crowd).map(|(label, count)| (label.to_owned(), grouped(count)));
    html::add_table(&mut page, "Orders", &rows)?;
    let units = [
        ("sold".to_owned(), grouped(findings.sold.unsigned_abs())),
        ("left".to_owned(), grouped(findings.left.max(0).unsigned_abs())),
        ("oversold".to_owned(), findings.oversold.to_string()),
    ];
    html::add_table(&mut page, "Units at the end", &units)?;
    let seconds = show.seconds();
    let stock: [Part; 3] = [
        ("available", |second| second.available as f64),
        ("held", |second| second.held as f64),
        ("sold", |second| second.sold as f64),
    ];
    let words = "Units of the drop by second. The sale opens for everyone at 0.";
    html::add_figure(&mut page, &plot(seconds, &stock, "units")?, words)?;
    let line: [Part; 1] = [("in line", |second| second.in_line as f64)];
    let words = "Orders that wait for a unit, by second.";
    html::add_figure(&mut page, &plot(seconds, &line, "orders")?, words)?;
    html::add_origin(&mut page, run, "live_drop", args.seed)?;
    html::write(file, &page)
}

/// A line of a plot: its name, and its height at a second.
type Part = (&'static str, fn(&Second) -> f64);

fn plot(seconds: &[Second], parts: &[Part], words: &'static str) -> Result<String, Failure> {
    let line = |(name, height): &Part| -> Line {
        let points = seconds.iter().map(|second| (second.at as f64, height(second)));
        ((*name).to_owned(), points.collect())
    };
    let lines: Vec<Line> = parts.iter().map(line).collect();
    let begin = seconds.first().map_or(0, |second| second.at) as f64;
    let end = seconds.last().map_or(1, |second| second.at) as f64;
    let heights = lines.iter().flat_map(|(_, points)| points).map(|(_, height)| *height);
    let top = heights.fold(1.0, f64::max) * 1.3;
    let axes = Axes {
        across: begin..end.max(begin + 1.0),
        up: 0.0..top,
        across_words: "seconds after the opening",
        up_words: words,
    };
    let content = Content { lines: &lines, shades: &[], shade_up: (0.0, top), dots: false };
    picture(SIZE, |area| draw_on(area, axes, content, &|at| trimmed(*at), &|up| si(*up)))
}
