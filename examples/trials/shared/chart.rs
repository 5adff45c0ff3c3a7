//! Charts of lines, as SVG.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

type Failure = Box<dyn Error + Send + Sync>;
/// A line: its name and its points.
pub(crate) type Line = (String, Vec<(f64, f64)>);
/// Where charts are drawn.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FONT: &str = "sans-serif";
/// Told apart also without colours of red and green (Okabe and Ito, "Color universal design", 2008).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];
/// Behind the lines.
const SHADE: RGBColor = RGBColor(240, 228, 66);

pub(crate) struct Axes<X, Y> {
    pub(crate) across: X,
    pub(crate) up: Y,
    pub(crate) across_words: &'static str,
    pub(crate) up_words: &'static str,
}

/// What a chart shows besides its axes.
#[derive(Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) lines: &'a [Line],
    /// Stretches across that are shaded from this height to that.
    pub(crate) shades: &'a [Range<f64>],
    pub(crate) shade_up: (f64, f64),
    pub(crate) dots: bool,
}

/// A picture of this size in pixels.
pub(crate) fn picture(
    size: (u32, u32),
    paint: impl FnOnce(&Area<'_>) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        paint(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// A chart that fills an area.
pub(crate) fn draw_on<X, Y>(
    area: &Area<'_>,
    axes: Axes<X, Y>,
    content: Content<'_>,
    across_label: &dyn Fn(&f64) -> String,
    up_label: &dyn Fn(&f64) -> String,
) -> Result<(), Failure>
where
    X: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
    Y: AsRangedCoord<Value = f64, CoordDescType: ValueFormatter<f64>>,
{
    let mut chart = ChartBuilder::on(area)
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
    let (low, high) = content.shade_up;
    let shade = |across: &Range<f64>| {
        Rectangle::new([(across.start, low), (across.end, high)], SHADE.mix(0.5).filled())
    };
    chart.draw_series(content.shades.iter().map(shade))?;
    for ((name, points), colour) in content.lines.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], style));
        if content.dots {
            let dot = |at: &(f64, f64)| Circle::new(*at, 3, colour.filled());
            chart.draw_series(points.iter().map(dot))?;
        }
    }
    if content.lines.len() > 1 {
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
    Ok(())
}

/// A number without zeros at its end, to four digits behind the point.
pub(crate) fn trimmed(number: f64) -> String {
    let words = format!("{number:.4}");
    words.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number with k or M behind it.
pub(crate) fn si(number: f64) -> String {
    match number.abs() {
        1e6.. => format!("{} M", trimmed((number / 1e4).round() / 1e2)),
        1e3.. => format!("{} k", trimmed((number / 1e1).round() / 1e2)),
        _ => trimmed((number * 1e2).round() / 1e2),
    }
}
