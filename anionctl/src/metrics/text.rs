// SPDX-License-Identifier: Apache-2.0
//! Writes the text form of OpenMetrics 1.0: families of samples, each with its type, unit and help.

use std::fmt::Write;

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    /// Its samples end in `_total`.
    Counter,
    Histogram,
    StateSet,
}

/// A document that is being written. Writes to a `String` cannot fail, so their results are
/// ignored.
#[derive(Debug, Default)]
pub(super) struct Document(String);

/// Labels of a sample: names and values.
pub(super) type Labels<'a> = [(&'a str, &'a str)];

impl Document {
    /// Begins a family. All of its samples must follow before the next family. The unit is the
    /// suffix of the name, or empty.
    pub(super) fn family(&mut self, name: &str, kind: Kind, unit: &str, help: &str) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::StateSet => "stateset",
        };
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(self.0, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.0, "# HELP {name} {}", escaped(help));
    }

    /// Adds a sample to the last family.
    pub(super) fn sample(&mut self, name: &str, labels: &Labels<'_>, value: i64) {
        let labels: Vec<_> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// Returns the whole document.
    pub(super) fn end(mut self) -> String {
        self.0 += "# EOF\n";
        self.0
    }
}

/// Returns a text with the escapes of a label or a help line.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_cannot_break_out_of_them() {
        let mut document = Document::default();
        document.family("a_bytes", Kind::Gauge, "bytes", "Of a.");
        document.sample("a_bytes", &[("name", "x\"} 1\n\\"), ("b", "")], 7);
        let expected = "# TYPE a_bytes gauge\n# UNIT a_bytes bytes\n# HELP a_bytes Of a.\n\
                        a_bytes{name=\"x\\\"} 1\\n\\\\\",b=\"\"} 7\n# EOF\n";
        assert_eq!(document.end(), expected);
    }
}
