// SPDX-License-Identifier: Apache-2.0
//! Elements of charts: escaped text, labels, and the lines of an axis.

use std::fmt::Write;

/// Returns the text escaped for an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    let escape = |character: char| match character {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        // XML does not permit control characters.
        control if control.is_control() => "\u{fffd}".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

/// The position of the values in a chart, in units of the chart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Of the whole chart.
    pub(super) width: f64,
    pub(super) height: f64,
    /// Space for the numbers on the left, above the highest value, and below.
    pub(super) left: f64,
    pub(super) above: f64,
    pub(super) below: f64,
}

impl Frame {
    /// Returns the position of the zero line.
    pub(super) fn floor(&self) -> f64 {
        self.height - self.below
    }

    /// Returns the horizontal position of a value of `share` of the whole range.
    pub(super) fn x(&self, share: f64) -> f64 {
        self.left + share * (self.width - self.left)
    }

    /// Returns the vertical position of a value of `share` of the highest one.
    pub(super) fn y(&self, share: f64) -> f64 {
        self.floor() - share * (self.floor() - self.above)
    }

    /// Returns a chart with these elements.
    pub(super) fn picture(&self, class: &str, title: &str, elements: &str) -> String {
        let Self { width, height, .. } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{class}\" role=\"img\" \
             viewBox=\"0 0 {width} {height}\"><title>{}</title>{elements}</svg>",
            escaped(title)
        )
    }

    /// Returns a line across the chart for each value, with its number on the left. `highest` is
    /// the value at the top.
    pub(super) fn rules(&self, values: &[f64], highest: f64, show: impl Fn(f64) -> String) -> String {
        let mut elements = String::new();
        for value in values {
            let y = self.y(share(*value, highest));
            let (left, width) = (self.left, self.width);
            let _ = write!(
                elements,
                "<line class=\"axis\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{width}\" y2=\"{y:.1}\"/>"
            );
            elements += &label(left - 8.0, y + 4.0, "end", &show(*value));
        }
        elements
    }
}

/// Returns a text with its position at its beginning (`start`), its `middle` or its `end`.
pub(super) fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(text))
}

/// Returns a rectangle with a text that is shown under the pointer.
pub(super) fn rectangle(class: &str, [x, y, width, height]: [f64; 4], title: &str) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\">\
         <title>{}</title></rect>",
        escaped(title)
    )
}

/// Returns `value` as a fraction of `whole`; 0 if `whole` is 0.
pub(super) fn share(value: f64, whole: f64) -> f64 {
    if whole > 0.0 { (value / whole).clamp(0.0, 1.0) } else { 0.0 }
}

/// Returns zero and at most four more values at equal distances; the last is at least `highest`.
/// The distances are powers of two, as sizes of buffers are.
pub(super) fn binary_ticks(highest: f64) -> Vec<f64> {
    ticks(highest, (highest.max(1.0) / 4.0).log2().ceil().exp2().max(1.0))
}

/// Returns the same with decimal distances: 1, 2 or 5 times a power of ten.
pub(super) fn decimal_ticks(highest: f64) -> Vec<f64> {
    ticks(highest, round_step(highest / 4.0).max(1.0))
}

fn ticks(highest: f64, step: f64) -> Vec<f64> {
    let steps = (highest / step).ceil().max(1.0);
    std::iter::successors(Some(0.0), |at| Some(at + 1.0))
        .take_while(|at| *at <= steps)
        .map(|at| at * step)
        .collect()
}

/// Returns the lowest of 1, 2, 5, 10, 20 … and 0.5, 0.2, 0.1 … that is at least `least`; 1 if
/// `least` is 0.
pub(super) fn round_step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let ten = 10_f64.powf(least.log10().floor());
    let rounded = [1.0, 2.0, 5.0].into_iter().map(|digit| digit * ten).find(|step| *step >= least);
    rounded.unwrap_or(ten * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_in_text_are_escaped() {
        assert_eq!(escaped("<b a=\"&\">\u{7}"), "&lt;b a=&quot;&amp;&quot;&gt;\u{fffd}");
    }

    #[test]
    fn an_axis_goes_from_zero_to_the_highest_value_or_above() {
        assert_eq!(binary_ticks(12.0), [0.0, 4.0, 8.0, 12.0]);
        assert_eq!(binary_ticks(3.0), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(decimal_ticks(120.0), [0.0, 50.0, 100.0, 150.0]);
        assert_eq!(decimal_ticks(3.0), [0.0, 1.0, 2.0, 3.0]);
        for none in [binary_ticks(0.0), decimal_ticks(0.0)] {
            assert_eq!(none, [0.0, 1.0]);
        }
        for highest in [1.0, 7.0, 1e3, 1e6, 123_456_789.0, 1e15] {
            for found in [binary_ticks(highest), decimal_ticks(highest)] {
                assert!(found.len() <= 6 && found.last().is_some_and(|last| *last >= highest), "{found:?}");
            }
        }
    }

    #[test]
    fn distances_are_round() {
        assert_eq!([0.3, 3.0, 5.1, 70.0].map(round_step), [0.5, 5.0, 10.0, 100.0]);
        assert_eq!(round_step(0.0), 1.0);
    }
}
