//! The picture: memory, disk and latencies over time, one above the other, windows with a checkpoint shaded.

use std::error::Error;
use std::ops::Range;

use plotters::prelude::IntoLogRange;

use crate::shared::chart::{Area, Axes, Content, Line, draw_on, picture, si, trimmed};
use crate::shared::latency_axis::{log_bounds, tick};
use crate::watch::Row;

type Failure = Box<dyn Error + Send + Sync>;

const SIZE: (u32, u32) = (1000, 1080);
const MIB: f64 = (1 << 20) as f64;
/// How many points one line has at most: neighbouring windows are joined beyond that, by their largest figure.
const POINTS_MAX: usize = 500;

/// Draws what should stay flat.
pub(crate) fn draw(rows: &[Row]) -> Result<String, Failure> {
    let shades = shades(rows);
    let end_s = rows.last().map_or(1.0, |row| row.end_s);
    let line = |name: &str, figure: &dyn Fn(&Row) -> f64| (name.to_owned(), points(rows, figure));
    let memory = [line("resident", &|row| row.rss_bytes as f64 / MIB)];
    let disk = [line("folder", &|row| row.disk_bytes as f64 / MIB)];
    let latency = [
        line("p50", &|row| row.p50_ns as f64),
        line("p99", &|row| row.p99_ns as f64),
        line("p99.9", &|row| row.p999_ns as f64),
        line("max", &|row| row.max_ns as f64),
    ];
    picture(SIZE, |area| {
        let panels = area.split_evenly((3, 1));
        let [first, second, third] = &panels[..] else { return Ok(()) };
        draw_mib(first, "resident memory, MiB", end_s, &memory, &shades)?;
        draw_mib(second, "the engine's folder, MiB", end_s, &disk, &shades)?;
        let bounds = log_bounds(&latency);
        let content = Content {
            lines: &latency,
            shades: &shades,
            shade_up: (bounds.start, bounds.end),
            dots: false,
        };
        let axes = Axes {
            across: 0.0..end_s,
            up: bounds.log_scale(),
            across_words: "seconds; shaded: a checkpoint is in the making",
            up_words: "durable after (log scale)",
        };
        draw_on(third, axes, content, &|seconds| trimmed(*seconds), &|ns| tick(*ns))
    })
}

fn draw_mib(
    area: &Area<'_>,
    words: &'static str,
    end_s: f64,
    lines: &[Line],
    shades: &[Range<f64>],
) -> Result<(), Failure> {
    let values = lines.iter().flat_map(|(_, points)| points).map(|point| point.1);
    let top = values.fold(1.0, f64::max) * 1.15;
    let axes = Axes { across: 0.0..end_s, up: 0.0..top, across_words: "seconds", up_words: words };
    let content = Content { lines, shades, shade_up: (0.0, top), dots: false };
    draw_on(area, axes, content, &|seconds| trimmed(*seconds), &|mib| si(*mib))
}

/// A point for each window, or for some of them their largest.
fn points(rows: &[Row], figure: &dyn Fn(&Row) -> f64) -> Vec<(f64, f64)> {
    let largest = |rows: &[Row]| {
        let figures = rows.iter().map(figure).filter(|figure| *figure > 0.0);
        let largest = figures.fold(0.0, f64::max);
        rows.last().filter(|_| largest > 0.0).map(|last| (last.end_s, largest))
    };
    rows.chunks(rows.len().div_ceil(POINTS_MAX).max(1)).filter_map(largest).collect()
}

/// From when to when windows hold checkpoints.
fn shades(rows: &[Row]) -> Vec<Range<f64>> {
    let mut shades = Vec::<Range<f64>>::new();
    let mut begin_s = 0.0;
    for row in rows {
        if row.has_checkpoint {
            match shades.last_mut().filter(|last| last.end == begin_s) {
                Some(last) => last.end = row.end_s,
                None => shades.push(begin_s..row.end_s),
            }
        }
        begin_s = row.end_s;
    }
    shades
}
