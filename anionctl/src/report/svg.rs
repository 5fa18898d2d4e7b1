// SPDX-License-Identifier: Apache-2.0
//! Pictures as SVG elements: steps over time, bars, and ranges of memory.

use std::fmt::Write;

/// Size of a picture, in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 180.0;
/// Room for the numbers on the left, and for those below.
const LEFT: f64 = 90.0;
const BELOW: f64 = 22.0;
/// Room above the highest value.
const ABOVE: f64 = 10.0;
/// Height of a map of memory.
const MAP_HEIGHT: f64 = 36.0;

/// Returns the text as it stands in an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    let escape = |character: char| match character {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        // What XML does not have at all.
        control if control.is_control() => "\u{fffd}".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Returns a picture with these elements.
fn picture(class: &str, title: &str, height: f64, elements: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{class}\" role=\"img\" viewBox=\"0 0 {WIDTH} {height}\">\
         <title>{}</title>{elements}</svg>",
        escaped(title)
    )
}

/// Returns a text at a place; `end` if it ends there instead of beginning.
fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(text))
}

/// Returns lines for the largest value and for zero, with their numbers.
fn axes(largest: &str) -> String {
    let floor = HEIGHT - BELOW;
    let line = |y: f64| format!("<line class=\"axis\" x1=\"{LEFT}\" y1=\"{y}\" x2=\"{WIDTH}\" y2=\"{y}\"/>");
    line(ABOVE)
        + &line(floor)
        + &label(LEFT - 6.0, ABOVE + 4.0, "end", largest)
        + &label(LEFT - 6.0, floor, "end", "0")
}

/// A value from a time on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) seconds: f64,
    pub(super) value: f64,
}

/// Returns a line of steps, by time, each of which lasts until the next. `show` makes a number of a
/// value.
pub(super) fn steps(title: &str, steps: &[Step], show: impl Fn(f64) -> String) -> String {
    let largest = steps.iter().map(|step| step.value).fold(0.0, f64::max);
    let begin = steps.first().map_or(0.0, |step| step.seconds);
    let length = steps.last().map_or(0.0, |step| step.seconds) - begin;
    let floor = HEIGHT - BELOW;
    let x = |seconds: f64| LEFT + share(seconds - begin, length) * (WIDTH - LEFT);
    let y = |value: f64| floor - share(value, largest) * (floor - ABOVE);
    let mut path = String::new();
    let mut last: Option<f64> = None;
    for step in steps {
        // The value holds until here.
        let from = last.unwrap_or(step.value);
        let begin = if last.is_some() { "L" } else { "M" };
        let _ = write!(path, "{begin}{:.1} {:.1}L{0:.1} {:.1}", x(step.seconds), y(from), y(step.value));
        last = Some(step.value);
    }
    let line = if path.is_empty() { String::new() } else { format!("<path class=\"line\" d=\"{path}\"/>") };
    let below = label(LEFT, HEIGHT - 6.0, "start", "0 s")
        + &label(WIDTH, HEIGHT - 6.0, "end", &format!("{length:.1} s"));
    picture("steps", title, HEIGHT, &(axes(&show(largest)) + &line + &below))
}

/// Returns a bar for each name and value.
pub(super) fn bars(title: &str, bars: &[(String, f64)]) -> String {
    let largest = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let floor = HEIGHT - BELOW;
    let each = (WIDTH - LEFT) / bars.len().max(1) as f64;
    let mut elements = axes(&format!("{largest:.0}"));
    for (place, (name, value)) in bars.iter().enumerate() {
        let (left, height) = (LEFT + each * place as f64, share(*value, largest) * (floor - ABOVE));
        let _ = write!(
            elements,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\">\
             <title>{}: {value:.0}</title></rect>",
            left + 1.0,
            floor - height,
            each - 2.0,
            escaped(name)
        );
        elements += &label(left + each / 2.0, HEIGHT - 6.0, "middle", name);
    }
    picture("bars", title, HEIGHT, &elements)
}

/// Ranges of one kind: the class of their elements, and offset and length of each.
pub(super) type Ranges<'a> = (&'static str, &'a [(u64, u64)]);

/// Returns `bytes` bytes of memory from left to right, as one block with ranges of other kinds on
/// it.
pub(super) fn map(title: &str, bytes: u64, kinds: &[Ranges<'_>]) -> String {
    let scale = |offset: u64| share(offset as f64, bytes as f64) * WIDTH;
    let mut elements =
        format!("<rect class=\"held\" x=\"0\" y=\"0\" width=\"{WIDTH}\" height=\"{MAP_HEIGHT}\"/>");
    for (class, ranges) in kinds {
        for (offset, length) in *ranges {
            let _ = write!(
                elements,
                "<rect class=\"{class}\" x=\"{:.2}\" y=\"0\" width=\"{:.2}\" height=\"{MAP_HEIGHT}\">\
                 <title>{class}: {length} bytes at {offset:#x}</title></rect>",
                scale(*offset),
                scale(*length)
            );
        }
    }
    picture("map", title, MAP_HEIGHT, &elements)
}

/// Returns the part that `value` is of `whole`; none of nothing.
fn share(value: f64, whole: f64) -> f64 {
    if whole > 0.0 { (value / whole).clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_text_cannot_become_an_element() {
        assert_eq!(escaped("<b a=\"&\">\u{7}"), "&lt;b a=&quot;&amp;&quot;&gt;\u{fffd}");
    }

    #[test]
    fn steps_go_from_edge_to_edge() {
        let line = [(1.0, 0.0), (3.0, 8.0), (5.0, 4.0)].map(|(seconds, value)| Step { seconds, value });
        let picture = steps("held", &line, |value| format!("{value} B"));
        let path = "d=\"M90.0 158.0L90.0 158.0L405.0 158.0L405.0 10.0L720.0 10.0L720.0 84.0\"";
        assert!(picture.contains(path), "{picture}");
        assert!(picture.contains(">8 B</text>") && picture.contains(">4.0 s</text>"), "{picture}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(!steps("none", &[], |_| String::new()).contains("<path"));
        assert!(!bars("none", &[]).contains("class=\"bar\""));
        let still = steps("still", &[Step { seconds: 1.0, value: 0.0 }], |_| String::new());
        assert!(!still.contains("NaN"), "{still}");
    }
}
