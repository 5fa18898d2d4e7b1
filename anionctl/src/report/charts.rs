// SPDX-License-Identifier: Apache-2.0
//! Draws charts as SVG elements: steps over time, bars, parts of a whole, and memory ranges.

use super::svg::{Frame, binary_ticks, decimal_ticks, escaped, label, rectangle, round_step, share};
use std::fmt::Write;

/// Frame of a chart with the width of the page.
const WIDE: Frame = Frame { width: 960.0, height: 210.0, left: 76.0, above: 14.0, below: 26.0 };
/// Frame of a chart with half that width.
const HALF: Frame = Frame { width: 470.0, height: 210.0, left: 52.0, above: 22.0, below: 26.0 };
/// Frame of the chart that shows parts of a whole.
const STRIP: Frame = Frame { width: 470.0, height: 44.0, left: 0.0, above: 6.0, below: 8.0 };

/// Rows of a memory map, their height, and the height with the gap to the next.
const ROWS: u32 = 8;
const ROW_HEIGHT: f64 = 15.0;
const ROW_PITCH: f64 = 18.0;

/// Largest number of bars that have space for a name each.
const NAMED_BARS: usize = 7;

/// A value from a time on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    pub(super) seconds: f64,
    pub(super) value: f64,
}

/// An event at a time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mark {
    /// The class of its element.
    pub(super) class: &'static str,
    pub(super) seconds: f64,
    pub(super) text: String,
}

/// Returns a chart of byte counts over time. Each step lasts until the next; the last one is now.
/// `show` formats a number of bytes.
pub(super) fn steps(title: &str, steps: &[Step], marks: &[Mark], show: impl Fn(f64) -> String) -> String {
    let largest = steps.iter().map(|step| step.value).fold(0.0, f64::max);
    let ticks = if largest > 0.0 { binary_ticks(largest) } else { vec![0.0] };
    let highest = ticks.last().copied().unwrap_or(0.0);
    let begin = steps.first().map_or(0.0, |step| step.seconds);
    let length = steps.last().map_or(0.0, |step| step.seconds) - begin;
    let x = |seconds: f64| WIDE.x(share(seconds - begin, length));
    let y = |value: f64| WIDE.y(share(value, highest));
    let mut elements = WIDE.rules(&ticks, highest, show);
    if let Some(first) = steps.first() {
        let mut line = format!("M{:.1} {:.1}", x(first.seconds), y(first.value));
        for pair in steps.windows(2) {
            // The value is constant until the time of the next one.
            let _ = write!(
                line,
                "L{:.1} {:.1}L{0:.1} {:.1}",
                x(pair[1].seconds),
                y(pair[0].value),
                y(pair[1].value)
            );
        }
        let (left, right, floor) = (WIDE.left, x(begin + length), WIDE.floor());
        let _ = write!(
            elements,
            "<path class=\"area\" d=\"{line}L{right:.1} {floor:.1}L{left:.1} {floor:.1}Z\"/>"
        );
        let _ = write!(elements, "<path class=\"line\" d=\"{line}\"/>");
    }
    for Mark { class, seconds, text } in marks.iter().filter(|mark| mark.seconds >= begin) {
        let (x, top, floor) = (x(*seconds), WIDE.above, WIDE.floor());
        let _ = write!(
            elements,
            "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{floor}\"><title>{}</title></line>",
            escaped(text)
        );
    }
    WIDE.picture("steps", title, &(elements + &times(length)))
}

/// Returns the labels of the time axis of a chart that ends now and began `length` seconds ago.
fn times(length: f64) -> String {
    let y = WIDE.height - 8.0;
    let step = round_step(length / 6.0);
    let mut labels = label(WIDE.width, y, "end", "now");
    let mut ago = step;
    while length > 0.0 && ago <= length {
        labels += &label(WIDE.x(1.0 - ago / length), y, "middle", &format!("−{}", time(ago, step, length)));
        ago += step;
    }
    labels
}

/// Returns a multiple of `step` that is at most `length`, all in seconds.
fn time(seconds: f64, step: f64, length: f64) -> String {
    match length {
        _ if step >= 60.0 => format!("{:.1} min", seconds / 60.0),
        _ if step >= 1.0 => format!("{seconds:.0} s"),
        _ if length >= 1.0 => format!("{seconds:.1} s"),
        _ if length >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.1} µs", seconds * 1e6),
    }
}

/// Returns a bar chart with a bar for each name and count.
pub(super) fn bars(title: &str, bars: &[(String, f64)]) -> String {
    let ticks = decimal_ticks(bars.iter().map(|(_, count)| *count).fold(0.0, f64::max));
    let highest = ticks.last().copied().unwrap_or(0.0);
    let mut elements = HALF.rules(&ticks, highest, |count| format!("{count:.0}"));
    let each = (HALF.width - HALF.left) / bars.len().max(1) as f64;
    let every = bars.len().div_ceil(NAMED_BARS).max(1);
    for (place, (name, count)) in bars.iter().enumerate() {
        let left = HALF.left + each * place as f64;
        let top = HALF.y(share(*count, highest));
        let gap = each * 0.1;
        let size = [left + gap, top, each - 2.0 * gap, HALF.floor() - top];
        elements += &rectangle("bar", size, &format!("{name}: {count:.0}"));
        if *count > 0.0 {
            elements += &label(left + each / 2.0, top - 5.0, "middle", &format!("{count:.0}"));
        }
        if place % every == 0 {
            elements += &label(left + each / 2.0, HALF.height - 8.0, "middle", name);
        }
    }
    if bars.is_empty() {
        elements += &label(HALF.x(0.5), HALF.y(0.5), "middle", "no calls yet");
    }
    HALF.picture("bars", title, &elements)
}

/// A part of a whole: the class of its element, its name and its amount.
pub(super) type Part = (&'static str, &'static str, u64);

/// Returns the parts from left to right, with lengths in proportion to their amounts.
pub(super) fn parts(title: &str, parts: &[Part]) -> String {
    let whole = parts.iter().map(|(_, _, count)| *count as f64).sum::<f64>();
    let height = STRIP.floor() - STRIP.above;
    let mut elements = String::new();
    let mut before = 0.0;
    for (class, name, count) in parts.iter().filter(|(_, _, count)| *count > 0) {
        let width = share(*count as f64, whole) * STRIP.width;
        elements += &rectangle(class, [before, STRIP.above, width, height], &format!("{name}: {count}"));
        before += width;
    }
    if elements.is_empty() {
        elements = rectangle("free", [0.0, STRIP.above, STRIP.width, height], "no buffers yet");
    }
    STRIP.picture("parts", title, &elements)
}

/// Ranges of one kind: the class of their elements, and the offset and length of each.
pub(super) type Ranges<'a> = (&'static str, &'a [(u64, u64)]);

/// Returns a map of `bytes` bytes of memory in rows, from left to right and top to bottom, with the
/// ranges of each kind.
pub(super) fn map(title: &str, bytes: u64, kinds: &[Ranges<'_>], show: impl Fn(u64) -> String) -> String {
    let row = bytes.div_ceil(u64::from(ROWS)).max(1);
    let frame = Frame { height: f64::from(ROWS) * ROW_PITCH, above: 0.0, below: 0.0, ..WIDE };
    let mut elements = String::new();
    for number in 0..ROWS {
        let (begin, top) = (row.saturating_mul(number.into()), f64::from(number) * ROW_PITCH);
        let end = begin.saturating_add(row).min(bytes);
        if begin >= end {
            break;
        }
        elements += &label(frame.left - 8.0, top + ROW_HEIGHT - 3.0, "end", &show(begin));
        let mut draw = |class: &str, from: u64, to: u64, text: &str| {
            let [left, right] = [from, to].map(|at| frame.x(share((at - begin) as f64, row as f64)));
            elements += &rectangle(class, [left, top, right - left, ROW_HEIGHT], text);
        };
        for (class, ranges) in kinds {
            for (offset, length) in *ranges {
                let (from, to) = (begin.max(*offset), end.min(offset.saturating_add(*length)));
                if from < to {
                    draw(class, from, to, &format!("{class}: {length} bytes at {offset:#x}"));
                }
            }
        }
    }
    frame.picture("map", title, &elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_from_edge_to_edge() {
        let line = [(1.0, 0.0), (3.0, 8.0), (5.0, 4.0)].map(|(seconds, value)| Step { seconds, value });
        let mark = Mark { class: "refused", seconds: 3.0, text: "NO_MEMORY".to_owned() };
        let picture = steps("held", &line, &[mark], |value| format!("{value} B"));
        let path = "d=\"M76.0 184.0L518.0 184.0L518.0 14.0L960.0 14.0L960.0 99.0\"";
        assert!(picture.contains(path), "{picture}");
        for text in [">8 B</text>", ">−1 s</text>", ">−4 s</text>", ">now</text>", "<title>NO_MEMORY</title>"]
        {
            assert!(picture.contains(text), "{text}: {picture}");
        }
        assert!(picture.contains("class=\"refused\" x1=\"518.0\""), "{picture}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(!steps("none", &[], &[], |_| String::new()).contains("<path"));
        assert!(!bars("none", &[]).contains("class=\"bar\""));
        let still = steps("still", &[Step { seconds: 1.0, value: 0.0 }], &[], |_| String::new());
        assert!(!still.contains("NaN") && !still.contains("inf"), "{still}");
        assert!(!parts("none", &[("hit", "hits", 0)]).contains("class=\"hit\""));
        assert!(!map("none", 0, &[], |_| String::new()).contains("<rect"));
    }

    #[test]
    fn parts_fill_the_whole() {
        let picture = parts("pool", &[("hit", "hits", 3), ("other", "misses", 1)]);
        assert!(picture.contains("class=\"hit\" x=\"0.00\" y=\"6.00\" width=\"352.50\""), "{picture}");
        assert!(picture.contains("class=\"other\" x=\"352.50\" y=\"6.00\" width=\"117.50\""), "{picture}");
    }

    #[test]
    fn a_range_goes_on_in_the_next_row() {
        // Rows of 8 bytes: four bytes in the first, four in the second.
        let picture = map("camera", 64, &[("free", &[(4, 8)])], |offset| offset.to_string());
        assert_eq!(picture.matches("<rect").count(), 2);
        assert!(picture.contains("class=\"free\" x=\"518.00\" y=\"0.00\" width=\"442.00\""), "{picture}");
        assert!(picture.contains("class=\"free\" x=\"76.00\" y=\"18.00\" width=\"442.00\""), "{picture}");
        assert!(picture.contains(">56</text>"), "{picture}");
    }

    #[test]
    fn many_bars_have_fewer_names_than_there_are() {
        let many: Vec<_> = (0..24).map(|number| (format!("<{number}"), 1.0)).collect();
        let picture = bars("latency", &many);
        assert_eq!(picture.matches("class=\"bar\"").count(), 24);
        assert_eq!(picture.matches(">&lt;").count(), 6 + 24);
    }
}
