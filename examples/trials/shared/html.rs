//! A report as one HTML file that needs nothing else.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::shared::machine;

type Failure = Box<dyn Error + Send + Sync>;
/// A row of a table: what it is, and the figure.
pub(crate) type Row = (String, String);

/// Plots are drawn on white, and stay so on a dark page.
const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 15px/1.45 sans-serif; color: #222; background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } caption { text-align: left; font-weight: bold; padding: 1rem 0 .3rem; }
td { padding: .15rem 1.5rem .15rem 0; border-bottom: 1px solid #ddd; }
td + td { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } svg { width: 100%; height: auto; } figcaption { color: #555; }
.failed { color: #b00; }
@media (prefers-color-scheme: dark) {
body { color: #ddd; background: #181818; } td { border-color: #444; } figcaption { color: #aaa; }
svg { border-radius: 6px; } .failed { color: #f77; }
}";

/// Writes a finished page; makes the folder that it goes into.
pub(crate) fn write(file: &Path, page: &str) -> Result<(), Failure> {
    let fail = |error| format!("{}: {error}", file.display());
    if let Some(parent) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(fail)?;
    }
    Ok(fs::write(file, page).map_err(fail)?)
}

/// The head of a page.
pub(crate) fn begin(title: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>\n{STYLE}\n</style></head>\n<body>\n<h1>{title}</h1>\n"
    )
}

/// A plot with what it shows.
pub(crate) fn add_figure(page: &mut String, svg: &str, words: &str) -> Result<(), Failure> {
    Ok(writeln!(page, "<figure>\n{svg}<figcaption>{}</figcaption></figure>", escaped(words))?)
}

pub(crate) fn add_table(page: &mut String, title: &str, rows: &[Row]) -> Result<(), Failure> {
    writeln!(page, "<table><caption>{}</caption>", escaped(title))?;
    for (label, value) in rows {
        writeln!(page, "<tr><td>{}</td><td>{}</td></tr>", escaped(label), escaped(value))?;
    }
    Ok(writeln!(page, "</table>")?)
}

/// The end of a page: on which machine and by which command its figures came about.
pub(crate) fn add_origin(
    page: &mut String,
    folder: &Path,
    program: &str,
    seed: u64,
) -> Result<(), Failure> {
    let machine = machine::describe(folder);
    let machine: Vec<Row> =
        machine.into_iter().map(|(label, value)| (label.to_owned(), value)).collect();
    add_table(page, "machine", &machine)?;
    let command: Vec<_> = std::env::args().skip(1).collect();
    Ok(writeln!(
        page,
        "<p>Command: <code>{program} {}</code>, seed {seed}.</p>\n</body></html>",
        escaped(&command.join(" ")),
    )?)
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
