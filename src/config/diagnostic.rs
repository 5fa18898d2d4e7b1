// SPDX-License-Identifier: Apache-2.0
//! Collects the findings of a reader about a configuration.

use std::fmt;

/// Most reports that are kept, so that a hostile file cannot make the list long.
const MAX_DIAGNOSTICS: usize = 256;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A requested part is missing from the result.
    Error,
    /// A part was not understood; the result may differ from the intention.
    Warning,
    /// A decision that the user may want to know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// A position in a text. Both numbers count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Character of the line, from 1.
    pub column: u32,
}

/// One finding. Its display form is `12:5: error: /anion/camera: size is …`; the printer puts the
/// file name before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its severity.
    pub severity: Severity,
    /// Path of the node that it is about.
    pub node: String,
    /// Its position in the text, if the source was text.
    pub position: Option<Position>,
    /// The error, with the property, its value and the limit.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}: ")?;
        }
        write!(f, "{}: {}: {}", self.severity, self.node, self.message)
    }
}

/// Findings of an unfinished reading: bounded, sorted at the end.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: Vec<Diagnostic>,
    /// Worst severity and number of the findings beyond the bound.
    overflow: Option<(Severity, usize)>,
}

impl Report {
    /// Adds a finding if there is room for it, else only counts it.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        node: impl Into<String>,
        position: Option<Position>,
        message: impl Into<String>,
    ) {
        if self.found.len() < MAX_DIAGNOSTICS {
            self.found.push(Diagnostic { severity, node: node.into(), position, message: message.into() });
        } else {
            let (worst, count) = self.overflow.unwrap_or((severity, 0));
            self.overflow = Some((worst.min(severity), count + 1));
        }
    }

    /// Returns whether another finding would only be counted.
    #[cfg(feature = "dts")]
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= MAX_DIAGNOSTICS
    }

    /// Adds the error that ended the reading, even if the list is full.
    #[cfg(feature = "dts")]
    pub(super) fn add_last(&mut self, node: String, position: Position, message: String) {
        self.found.push(Diagnostic { severity: Severity::Error, node, position: Some(position), message });
    }

    /// Adds the findings of another source, without their positions, which belong to another text.
    pub(super) fn append(&mut self, other: Self) {
        for found in other.finish() {
            self.add(found.severity, found.node, None, found.message);
        }
    }

    /// Returns all findings in the order of the text, those without a position last. If a reader's
    /// warning and an error of the translation have the same cause, keeps only the error.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        let place = |d: &Diagnostic| d.position.map_or((u32::MAX, u32::MAX), |p| (p.line, p.column));
        self.found.sort_by_key(|d| (place(d), d.severity));
        self.found.dedup_by(|later, first| {
            later.position.is_some() && later.position == first.position && later.message == first.message
        });
        if let Some((severity, count)) = self.overflow {
            self.found.push(Diagnostic {
                severity,
                node: "/".to_owned(),
                position: None,
                message: format!("{count} more findings are not shown"),
            });
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_but_its_worst_severity_stays() {
        let mut report = Report::default();
        for _ in 0..MAX_DIAGNOSTICS {
            report.add(Severity::Note, "/", None, "seen");
        }
        report.add(Severity::Error, "/", None, "lost");
        report.add(Severity::Note, "/", None, "lost");
        let found = report.finish();
        let last = found.last().expect("the summary");
        assert_eq!((last.severity, found.len()), (Severity::Error, MAX_DIAGNOSTICS + 1));
        assert_eq!(last.to_string(), "error: /: 2 more findings are not shown");
    }

    #[test]
    fn an_error_replaces_the_same_warning_at_the_same_place() {
        let mut report = Report::default();
        let place = Some(Position { line: 3, column: 9 });
        report.add(Severity::Warning, "/a", place, "same");
        report.add(Severity::Error, "/a", place, "same");
        report.add(Severity::Note, "/a", None, "apart");
        report.add(Severity::Note, "/b", None, "apart");
        let found = report.finish();
        assert_eq!(
            found.iter().map(|d| d.severity).collect::<Vec<_>>(),
            [Severity::Error, Severity::Note, Severity::Note]
        );
    }

    #[test]
    fn text_positions_come_first_and_in_order() {
        let mut report = Report::default();
        report.add(Severity::Note, "/b", None, "no place");
        report.add(Severity::Error, "/a", Some(Position { line: 12, column: 5 }), "late");
        report.add(Severity::Warning, "/a", Some(Position { line: 3, column: 9 }), "early");
        let texts: Vec<String> = report.finish().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["3:9: warning: /a: early", "12:5: error: /a: late", "note: /b: no place"]);
    }
}
