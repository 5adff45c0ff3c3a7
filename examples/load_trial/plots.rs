//! The plots of the report, as SVG.

use std::error::Error;

use hdrhistogram::Histogram;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::load::Sample;
use crate::report::{PERCENTILES, Point, dotted};

type Failure = Box<dyn Error + Send + Sync>;
/// A line: its name and its points.
type Line = (String, Vec<(f64, f64)>);

const SIZE: (u32, u32) = (900, 420);
const FONT: &str = "sans-serif";
/// How many points one line has at most: neighbouring samples are joined beyond that.
const POINTS_MAX: usize = 120;
/// How much higher a logarithmic plot is than its lines, for the legend.
const LEGEND_SHARE: f64 = 0.35;
/// Told apart also without colours of red and green (Okabe and Ito, "Color universal design", 2008).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

/// Answers a second, over time.
pub(crate) fn throughput(samples: &[Sample]) -> Result<String, Failure> {
    let line = over_time(samples, |from, to| {
        let seconds = (to.at_ns - from.at_ns) as f64 / 1e9;
        Some((to.answered - from.answered) as f64 / seconds)
    });
    draw_over_time("requests answered a second", vec![("requests/s".to_owned(), line)])
}

/// Records in a block, over time.
pub(crate) fn commit_records(samples: &[Sample]) -> Result<String, Failure> {
    let line = over_time(samples, |from, to| {
        let blocks = (to.blocks - from.blocks) as f64;
        (blocks > 0.0).then(|| (to.records - from.records) as f64 / blocks)
    });
    draw_over_time("records a block", vec![("records".to_owned(), line)])
}

/// Bytes of a block, over time.
pub(crate) fn commit_bytes(samples: &[Sample]) -> Result<String, Failure> {
    let line = over_time(samples, |from, to| {
        let blocks = (to.blocks - from.blocks) as f64;
        (blocks > 0.0).then(|| (to.block_bytes - from.block_bytes) as f64 / blocks / 1024.0)
    });
    draw_over_time("KiB a block, headers and padding included", vec![("KiB".to_owned(), line)])
}

/// Commit latency percentiles by offered load.
pub(crate) fn latency_by_load(points: &[Point]) -> Result<String, Failure> {
    let at = |percentile: f64| {
        points
            .iter()
            .map(|point| (f64::from(point.rate), &point.trial.load.recorder.commit_ns))
            .filter(|(_, commit)| !commit.is_empty())
            .map(|(rate, commit)| (rate, commit.value_at_percentile(percentile) as f64))
            .collect()
    };
    let lines: Vec<Line> =
        PERCENTILES.iter().map(|(name, percentile)| (dotted(name), at(*percentile))).collect();
    let rate_max = points.iter().map(|point| f64::from(point.rate)).fold(1.0, f64::max);
    let axes = Axes {
        across: 0.0..rate_max * 1.05,
        up: log_bounds(&lines).log_scale(),
        across_words: "requests offered a second",
        up_words: "durable after (log scale)",
    };
    draw(axes, &lines, &|rate| si(*rate), &|ns| tick(*ns), true)
}

/// The whole distribution of latencies: how many of them took at least so long.
pub(crate) fn distribution(
    histograms: &[(&str, &Histogram<u64>)],
) -> Result<Option<String>, Failure> {
    let lines: Vec<Line> = histograms
        .iter()
        .filter(|(_, histogram)| !histogram.is_empty())
        .map(|(name, histogram)| ((*name).to_owned(), by_rarity(histogram)))
        .collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let rarest = lines.iter().flat_map(|(_, points)| points).map(|at| at.0).fold(10.0, f64::max);
    let axes = Axes {
        across: (1.0..rarest * 1.1).log_scale(),
        up: log_bounds(&lines).log_scale(),
        across_words: "percentile (log scale of one in so many)",
        up_words: "took (log scale)",
    };
    let percentile = |one_in: &f64| match *one_in {
        one_in if one_in < 1.5 => "min".to_owned(),
        one_in => format!("p{}", trimmed(100.0 - 100.0 / one_in)),
    };
    draw(axes, &lines, &percentile, &|ns| tick(*ns), false).map(Some)
}

/// The value that one in so many is above, at steps of a quarter of a decade.
fn by_rarity(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let decades = (histogram.len() as f64).log10();
    (0..=(decades * 8.0) as u32)
        .map(|step| 10_f64.powf(f64::from(step) / 8.0))
        .map(|one_in| (one_in, histogram.value_at_quantile(1.0 - 1.0 / one_in) as f64))
        .collect()
}

/// One figure for each stretch between samples, at the end of the stretch, in seconds.
fn over_time(
    samples: &[Sample],
    figure: impl Fn(&Sample, &Sample) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let stretch = samples.len().div_ceil(POINTS_MAX).max(1);
    let mut ends: Vec<_> = samples.iter().step_by(stretch).collect();
    if let Some(last) = samples.last() {
        ends.push(last);
    }
    // A short last stretch says little: it joins the one before.
    if let [.., from, to, last] = ends[..]
        && (last.at_ns - to.at_ns) * 2 < to.at_ns - from.at_ns
    {
        ends.remove(ends.len() - 2);
    }
    ends.windows(2)
        .filter(|pair| pair[1].at_ns > pair[0].at_ns)
        .filter_map(|pair| Some((pair[1].at_ns as f64 / 1e9, figure(pair[0], pair[1])?)))
        .collect()
}

fn draw_over_time(words: &'static str, lines: Vec<Line>) -> Result<String, Failure> {
    let ends = lines.iter().flat_map(|(_, points)| points);
    let (seconds, top) = ends.fold((0.001_f64, 1.0_f64), |(s, t), at| (s.max(at.0), t.max(at.1)));
    let axes = Axes {
        across: 0.0..seconds,
        up: 0.0..top * 1.1,
        across_words: "seconds since the first request",
        up_words: words,
    };
    draw(axes, &lines, &|seconds| trimmed(*seconds), &|figure| si(*figure), false)
}

struct Axes<X, Y> {
    across: X,
    up: Y,
    across_words: &'static str,
    up_words: &'static str,
}

fn draw<X, Y>(
    axes: Axes<X, Y>,
    lines: &[Line],
    across_label: &dyn Fn(&f64) -> String,
    up_label: &dyn Fn(&f64) -> String,
    dots: bool,
) -> Result<String, Failure>
where
    X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
{
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(86)
            .build_cartesian_2d(axes.across, axes.up)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .x_desc(axes.across_words)
            .y_desc(axes.up_words)
            .axis_desc_style((FONT, 15))
            .label_style((FONT, 13))
            .x_labels(10)
            .y_labels(8)
            .x_label_formatter(across_label)
            .y_label_formatter(up_label)
            .draw()?;
        for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))?
                .label(name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], style));
            if dots {
                let dot = |at: &(f64, f64)| Circle::new(*at, 3, colour.filled());
                chart.draw_series(points.iter().map(dot))?;
            }
        }
        if lines.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .margin(10)
                .legend_area_size(28)
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.3))
                .label_font((FONT, 14))
                .draw()?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// Whole decades around all values, with room above them for the legend.
fn log_bounds(lines: &[Line]) -> std::ops::Range<f64> {
    let values = lines.iter().flat_map(|(_, points)| points).map(|at| at.1.max(1.0));
    let (low, high) =
        values.fold((f64::MAX, 1.0_f64), |(low, high), at| (low.min(at), high.max(at)));
    let (low, high) = (low.min(high).log10().floor(), (high * 1.2).log10().ceil());
    10_f64.powf(low)..10_f64.powf(high + (high - low) * LEGEND_SHARE)
}

/// A duration at a tick.
fn tick(ns: f64) -> String {
    match ns {
        0.0..1e3 => format!("{} ns", trimmed(ns)),
        1e3..1e6 => format!("{} µs", trimmed(ns / 1e3)),
        1e6..1e9 => format!("{} ms", trimmed(ns / 1e6)),
        _ => format!("{} s", trimmed(ns / 1e9)),
    }
}

/// A number without zeros at its end, to four digits behind the point.
fn trimmed(number: f64) -> String {
    let words = format!("{number:.4}");
    words.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number with k or M behind it.
fn si(number: f64) -> String {
    match number.abs() {
        1e6.. => format!("{} M", trimmed((number / 1e4).round() / 1e2)),
        1e3.. => format!("{} k", trimmed((number / 1e1).round() / 1e2)),
        _ => trimmed((number * 1e2).round() / 1e2),
    }
}
