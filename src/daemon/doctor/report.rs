// SPDX-License-Identifier: Apache-2.0
//! Formats the report: the heaps of the configuration, and a few lines for each finding.

use super::config::Survey;
use super::finding::{Finding, State};
use super::service::Running;
use bytesize::ByteSize;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};

/// Name of the finding about the running service.
const SERVICE: &str = "service";

/// Columns of a report that does not go to a terminal.
const NARROW: u16 = 80;
/// Fewest and most columns of a report on a terminal.
const NARROWEST: u16 = 40;
const WIDEST: u16 = 100;

/// All results.
#[derive(Debug, Serialize)]
pub(crate) struct Diagnosis {
    /// Whether the machine has all that the configuration needs.
    ok: bool,
    findings: Vec<Finding>,
    config: Survey,
    /// `None` if no service was reached.
    service: Option<Running>,
}

impl Diagnosis {
    pub(crate) fn new(findings: Vec<Finding>, config: Survey, service: Option<Running>) -> Self {
        let mut diagnosis = Self { ok: false, findings, config, service };
        diagnosis.ok = diagnosis.wanting().is_empty();
        diagnosis
    }

    /// Returns the names of the configuration's requirements that the machine lacks.
    pub(crate) fn wanting(&self) -> Vec<String> {
        let is_wanting = |finding: &&Finding| finding.required && finding.state == State::Missing;
        let mut wanting: Vec<_> =
            self.findings.iter().filter(is_wanting).map(|finding| finding.what.clone()).collect();
        let unavailable = self.config.heaps.iter().filter(|heap| !heap.available);
        wanting.extend(unavailable.map(|heap| format!("heap {}", heap.name)));
        if !self.config.is_served() && wanting.is_empty() {
            wanting.push(format!("a sound configuration ({})", self.config.origin));
        }
        wanting
    }

    /// Writes the report: tables for people, or one JSON document for programs.
    ///
    /// # Errors
    /// As `out`.
    pub(crate) fn print(&self, json: bool, all: bool, out: &mut dyn Write) -> io::Result<()> {
        if json {
            serde_json::to_writer_pretty(&mut *out, self)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", self.text(all, width()))?;
        }
        out.flush()
    }

    /// Returns the findings, each with its meaning and the necessary change, in lines of at most
    /// `width` columns.
    fn list<'a>(findings: impl Iterator<Item = &'a Finding>, width: u16) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width);
        for finding in findings {
            table.add_row([finding.state.word().to_owned(), format!("{}: {}", finding.what, finding.found)]);
            table.add_row(["", &finding.means]);
            if let Some(change) = &finding.change {
                table.add_row([String::new(), format!("To change it: {change}")]);
            }
        }
        pad(&mut table, 2);
        table.trim_fmt()
    }

    /// Returns whether the finding makes a heap of the configuration unavailable, or makes it skip
    /// a source.
    fn concerns(&self, finding: &Finding) -> bool {
        finding.state != State::Ok
            && (finding.required || self.config.heaps.iter().any(|heap| heap.lacks(&finding.what)))
    }

    fn heaps_table(&self, width: u16) -> String {
        let mut table = table(["ID", "HEAP", "TYPE", "DEVICE", "BACKING", "STATE"], width);
        if let Some(ids) = table.column_mut(0) {
            ids.set_cell_alignment(CellAlignment::Right);
        }
        for heap in &self.config.heaps {
            let state = if heap.available {
                "available".to_owned()
            } else {
                format!("unavailable: {}", heap.unavailable_reason)
            };
            let id = heap.id.to_string();
            table.add_row([&id, &heap.name, heap.kind, &heap.device, heap.backing, &state]);
        }
        let with_notes = self.config.heaps.iter().filter(|heap| !heap.passed_over.is_empty());
        let mut notes = Table::new();
        notes.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        notes.set_width(width);
        for heap in with_notes {
            notes.add_row([format!("{} skips {}", heap.name, heap.passed_over)]);
        }
        pad(&mut notes, 0);
        let notes = if notes.row_count() > 0 { format!("\n{}", notes.trim_fmt()) } else { String::new() };
        table.trim_fmt() + &notes
    }

    /// Returns the configuration's requirements that the machine lacks, and the running service;
    /// with `all`, every other finding, too.
    fn text(&self, all: bool, width: u16) -> String {
        let mut text = format!("Heaps of the configuration ({}):\n", self.config.origin);
        for error in &self.config.errors {
            text += &format!("{error}\n");
        }
        text += &self.heaps_table(width);
        let (lacking, rest): (Vec<_>, Vec<_>) =
            self.findings.iter().partition(|finding| self.concerns(finding));
        let (service, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(|finding| finding.what == SERVICE);
        for (title, findings) in [("Missing on this machine:", &lacking), ("Running service:", &service)] {
            if !findings.is_empty() {
                text += &format!("\n\n{title}\n{}", Self::list(findings.iter().copied(), width));
            }
        }
        if all {
            text += &format!("\n\nOther checks:\n{}", Self::list(rest.iter().copied(), width));
        } else {
            text += &format!("\n\nOther checks: {}; --all shows them.", rest.len());
        }
        text += if self.ok { "\n\nAll requirements are met." } else { "\n\nA requirement is not met." };
        text
    }
}

/// Returns an empty table with these columns, in lines of at most `width` columns.
fn table<const N: usize>(columns: [&str; N], width: u16) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(width);
    table.set_header(columns);
    pad(&mut table, 2);
    table
}

/// Puts `gap` columns of space between the columns of a table.
fn pad(table: &mut Table, gap: u16) {
    let last = table.column_count().saturating_sub(1);
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if number < last { gap } else { 0 }));
    }
}

/// Returns the width of the report: that of the terminal, within the limits above.
fn width() -> u16 {
    columns().unwrap_or(NARROW).clamp(NARROWEST, WIDEST)
}

/// Returns the columns of the terminal; `None` if standard output is no terminal, or its width is
/// unknown.
#[cfg(not(soong))]
fn columns() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

/// Returns `None`: the report does not fit itself to Android's terminals.
#[cfg(soong)]
fn columns() -> Option<u16> {
    None
}

/// Returns a number of bytes for people: `8.0 MiB`.
pub(crate) fn size_of(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::config::WantedHeap;
    use super::*;

    fn survey(available: bool, errors: &[&str]) -> Survey {
        let heap = WantedHeap {
            id: 25,
            name: "system".to_owned(),
            kind: "system",
            device: "udmabuf".to_owned(),
            backing: "udmabuf",
            passed_over: "ion: no /dev/ion".to_owned(),
            available,
            unavailable_reason: if available { String::new() } else { "no /dev/udmabuf".to_owned() },
        };
        let errors = errors.iter().map(ToString::to_string).collect();
        Survey { origin: "board.dts".to_owned(), heaps: vec![heap], errors, graphics: None }
    }

    #[test]
    fn features_that_the_configuration_does_not_use_may_be_missing_unnoticed() {
        let findings = vec![
            Finding::missing("ashmem", "no /dev/ashmem", "nothing"),
            Finding::limited("udmabuf", "64 MiB", "larger buffers are refused").change("echo 1024"),
        ];
        let mut survey = survey(true, &[]);
        survey.heaps[0].passed_over = "udmabuf: it is too small".to_owned();
        let diagnosis = Diagnosis::new(findings, survey, None);
        assert!(diagnosis.ok && diagnosis.wanting().is_empty());
        let text = diagnosis.text(false, 80);
        assert!(
            text.contains("system skips udmabuf: it is too small\n\nMissing on this machine:\n"),
            "{text}"
        );
        let block =
            "limited  udmabuf: 64 MiB\n         larger buffers are refused\n         To change it: echo 1024";
        assert!(text.contains(block), "{text}");
        assert!(!text.contains("ashmem"), "{text}");
        assert!(
            text.ends_with("\nOther checks: 1; --all shows them.\n\nAll requirements are met."),
            "{text}"
        );
        let all = diagnosis.text(true, 80);
        assert!(all.contains("Other checks:\nmissing  ashmem: no /dev/ashmem\n"), "{all}");
    }

    #[test]
    fn lines_are_as_wide_as_the_terminal_at_most() {
        let long = "a sentence of many words ".repeat(20);
        let findings = vec![Finding::missing("leases", &long, &long).change(&long).required()];
        let diagnosis = Diagnosis::new(findings, survey(false, &[]), None);
        for width in [40, 80, 100] {
            let text = diagnosis.text(true, width);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(usize::from(width)), "{width}: {text}");
        }
    }

    #[test]
    fn a_heap_an_error_or_a_required_thing_that_is_wanting_fails() {
        let unavailable = Diagnosis::new(Vec::new(), survey(false, &[]), None);
        assert!(!unavailable.ok);
        assert_eq!(unavailable.wanting(), ["heap system"]);
        assert!(unavailable.text(false, 80).contains("unavailable: no /dev/udmabuf"));
        let faulty = Diagnosis::new(Vec::new(), survey(true, &["3:1: error: odd"]), None);
        assert_eq!(faulty.wanting(), ["a sound configuration (board.dts)"]);
        assert!(faulty.text(false, 80).contains("(board.dts):\n3:1: error: odd\n"));
        let leases = Finding::missing("leases", "off", "no start").required();
        let diagnosis = Diagnosis::new(vec![leases], survey(true, &[]), None);
        assert_eq!(diagnosis.wanting(), ["leases"]);
        // A limited resource is sufficient.
        let few = Finding::limited("inotify", "few", "slower").required();
        assert!(Diagnosis::new(vec![few], survey(true, &[]), None).wanting().is_empty());
    }
}
