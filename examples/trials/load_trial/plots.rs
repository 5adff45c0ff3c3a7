//! The plots of the report, as SVG.

use std::error::Error;

use hdrhistogram::Histogram;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::IntoLogRange;

use crate::load::Sample;
use crate::report::{PERCENTILES, Point, dotted};
use crate::shared::chart::{Axes, Content, Line, draw_on, picture, si, trimmed};
use crate::shared::latency_axis::{log_bounds, tick};

type Failure = Box<dyn Error + Send + Sync>;

const SIZE: (u32, u32) = (900, 420);
/// How many points one line has at most: neighbouring samples are joined beyond that.
const POINTS_MAX: usize = 120;

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
        across_words: "percentile (log scale of 1 in N)",
        up_words: "took (log scale)",
    };
    let percentile = |one_in: &f64| match *one_in {
        one_in if one_in < 1.5 => "min".to_owned(),
        one_in => format!("p{}", trimmed(100.0 - 100.0 / one_in)),
    };
    draw(axes, &lines, &percentile, &|ns| tick(*ns), false).map(Some)
}

/// The value that one in N is above, at steps of a quarter of a decade.
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
    // A last stretch that is cut short shows how the load ended, as a cliff that is none: it is left out.
    if let [.., from, to, last] = ends[..]
        && (last.at_ns - to.at_ns) * 10 < (to.at_ns - from.at_ns) * 9
    {
        ends.pop();
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

/// One chart, as a picture of its own.
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
    let content = Content { lines, shades: &[], shade_up: (0.0, 0.0), dots };
    picture(SIZE, |area| draw_on(area, axes, content, across_label, up_label))
}
