// SPDX-License-Identifier: Apache-2.0
//! Draws the figures of a run as one picture, from its JSON.

use crate::name_of;
use anyhow::Context;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

const SIZE: (u32, u32) = (1200, 1000);
const TITLE_HEIGHT: u32 = 34;
const FONT: &str = "sans-serif";

/// The passes: their keys in the document, and whether their lines are dashed.
const PASSES: [(&str, &str, bool); 2] =
    [("all processors", "", false), ("one processor", ", one processor", true)];

/// One colour for each origin of buffers, the same in every panel, and distinguishable for the
/// colour-blind.
const BARE: RGBColor = RGBColor(0x55, 0x55, 0x55);
const NO_POOL: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
const POOLED: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const UNZEROED: RGBColor = RGBColor(0x00, 0x9e, 0x73);

/// One line of a panel.
struct Line {
    name: String,
    colour: RGBColor,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// A chart in the picture.
struct Panel {
    title: &'static str,
    x: &'static str,
    y: &'static str,
    /// Returns the label at a position of the x axis, which is a power of two.
    tick: fn(f64) -> String,
    lines: Vec<Line>,
}

/// Draws the figures in `document` into the file `path`. Omits panels of parts that were not
/// measured.
pub(crate) fn draw(document: &Value, path: &Path) -> anyhow::Result<()> {
    let panels = [calls(document), ready(document), threads(document), cycles(document)];
    let panels: Vec<_> = panels.into_iter().filter(|panel| !panel.lines.is_empty()).collect();
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let machine = document["machine"].as_str().context("the document does not name its machine")?;
    let titled = root.titled(&format!("Anion beside bare memfds: {machine}"), (FONT, TITLE_HEIGHT - 14))?;
    let rows = panels.len().div_ceil(2).max(1);
    for (panel, area) in panels.iter().zip(titled.split_evenly((rows, 2))) {
        panel.draw(&area)?;
    }
    Ok(root.present()?)
}

impl Panel {
    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> anyhow::Result<()> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        // The upper part is reserved for the legend.
        let top = points().map(|point| point.1).fold(0.0, f64::max) * 1.4;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(Places::of(points().map(|point| point.0)), 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| (self.tick)(*x))
            .y_label_formatter(&|y| format!("{y:.1}").trim_end_matches(".0").to_owned())
            .light_line_style(TRANSPARENT)
            .label_style((FONT, 13))
            .draw()?;
        for line in &self.lines {
            let style = line.colour.stroke_width(2);
            let dots = line.points.iter().map(|&point| Circle::new(point, 3, line.colour.filled()));
            chart.draw_series(dots)?;
            let points = line.points.iter().copied();
            let drawn = if line.dashed {
                chart.draw_series(DashedLineSeries::new(points, 6, 4, style))?
            } else {
                chart.draw_series(LineSeries::new(points, style))?
            };
            let dashed = line.dashed;
            drawn.label(&line.name).legend(move |(x, y)| {
                // Two pieces appear dashed.
                let end = if dashed { x + 8 } else { x + 20 };
                let rest = if dashed { x + 12 } else { x };
                EmptyElement::at((0, 0))
                    + PathElement::new(vec![(x, y), (end, y)], style)
                    + PathElement::new(vec![(rest, y), (x + 20, y)], style)
            });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 13))
            .draw()?;
        Ok(())
    }
}

/// An axis with a tick at each of these positions, in ascending order.
struct Places(Vec<f64>);

impl Places {
    fn of(places: impl Iterator<Item = f64>) -> Self {
        let mut places: Vec<_> = places.collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        Self(places)
    }
}

impl Ranged for Places {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.0.clone()
    }

    fn range(&self) -> Range<f64> {
        let [first, last] = [self.0.first(), self.0.last()].map(|place| place.copied().unwrap_or_default());
        first - 0.2..last + 0.2
    }
}

/// Returns the rows of a table of one pass; none if it was not measured.
fn rows<'a>(document: &'a Value, pass: &str, table: &str) -> &'a [Value] {
    document[pass][table].as_array().map_or(&[], Vec::as_slice)
}

/// Returns the lines of a panel: for each pass one line for every figure, whose position on the x
/// axis is the power of two of the field `x`.
fn lines(
    document: &Value,
    table: &str,
    x: &str,
    is_shown: impl Fn(&Value) -> bool,
    figures: &[(&str, RGBColor, &str)],
) -> Vec<Line> {
    let mut lines = Vec::new();
    for (pass, suffix, dashed) in PASSES {
        for (name, colour, field) in figures {
            let shown = rows(document, pass, table).iter().filter(|row| is_shown(row));
            let points: Vec<_> =
                shown.filter_map(|row| Some((row[x].as_f64()?.log2(), row[field].as_f64()?))).collect();
            if !points.is_empty() {
                lines.push(Line { name: format!("{name}{suffix}"), colour: *colour, dashed, points });
            }
        }
    }
    lines
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size that is shown")]
fn size_of(power: f64) -> String {
    name_of(power.exp2().round() as u64)
}

fn count_of(power: f64) -> String {
    format!("{:.0}", power.exp2())
}

fn calls(document: &Value) -> Panel {
    let figures = [("R, the floor", BARE, "floor_us"), ("allocate, pooled", POOLED, "p50_us")];
    let lines = lines(document, "latency", "bytes", |_| true, &figures);
    Panel { title: "One call", x: "size of the buffer", y: "p50, µs", tick: size_of, lines }
}

fn ready(document: &Value) -> Panel {
    let figures = [
        ("no pool", NO_POOL, "fresh_to_bare"),
        ("pooled", POOLED, "pooled_to_bare"),
        ("unzeroed", UNZEROED, "unzeroed_to_bare"),
    ];
    let lines = lines(document, "ready", "bytes", |_| true, &figures);
    let title = "Until every page was touched";
    Panel { title, x: "size of the buffer", y: "time, bare = 1", tick: size_of, lines }
}

fn threads(document: &Value) -> Panel {
    let figures = [
        ("bare", BARE, "bare"),
        ("no pool", NO_POOL, "fresh"),
        ("pooled", POOLED, "pooled"),
        ("unzeroed", UNZEROED, "unzeroed"),
    ];
    let is_shown = |row: &Value| row["bytes"] == 1 << 20 && row["work"] == "ready, close";
    let lines = lines(document, "threads", "clients", is_shown, &figures);
    let title = "Buffers of 1 MiB, every page touched";
    Panel { title, x: "client threads", y: "buffers a second", tick: count_of, lines }
}

fn cycles(document: &Value) -> Panel {
    let figures = [
        ("no pool", NO_POOL, "fresh_to_bare"),
        ("pooled", POOLED, "pooled_to_bare"),
        ("unzeroed", UNZEROED, "unzeroed_to_bare"),
    ];
    let lines = lines(document, "cycles", "bytes", |_| true, &figures);
    let title = "Processor time until all is clean again";
    Panel { title, x: "size of the buffer", y: "time, bare = 1", tick: size_of, lines }
}
