// SPDX-License-Identifier: Apache-2.0
//! The report: a line for each finding, then a line for each heap that is wanted.

use super::config::Survey;
use super::finding::{Finding, State};
use super::service::Running;
use bytesize::ByteSize;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Diagnosis {
    /// Whether all that the configuration wants is here.
    ok: bool,
    findings: Vec<Finding>,
    config: Survey,
    /// None if no service was reached.
    service: Option<Running>,
}

impl Diagnosis {
    pub(crate) fn new(findings: Vec<Finding>, config: Survey, service: Option<Running>) -> Self {
        let mut diagnosis = Self { ok: false, findings, config, service };
        diagnosis.ok = diagnosis.wanting().is_empty();
        diagnosis
    }

    /// Names what the configuration wants and is not here.
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
    pub(crate) fn print(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if json {
            serde_json::to_writer_pretty(&mut *out, self)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", self.text())?;
        }
        out.flush()
    }

    fn findings_table(&self) -> String {
        let mut table = table(["WHAT", "STATE", "FOUND", "MEANS", "TO CHANGE IT"]);
        for finding in &self.findings {
            table.add_row([
                finding.what.as_str(),
                finding.state.word(),
                &finding.found,
                &finding.means,
                finding.change.as_deref().unwrap_or("-"),
            ]);
        }
        table.trim_fmt()
    }

    fn heaps_table(&self) -> String {
        let mut table = table(["ID", "HEAP", "TYPE", "DEVICE", "BACKING", "STATE"]);
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
        let notes = with_notes.map(|heap| format!("\n{} passes over {}", heap.name, heap.passed_over));
        table.trim_fmt() + &notes.collect::<String>()
    }

    fn text(&self) -> String {
        let mut text = self.findings_table();
        text += &format!("\n\nThe configuration ({}) wants:\n", self.config.origin);
        for error in &self.config.errors {
            text += &format!("{error}\n");
        }
        text += &self.heaps_table();
        text += if self.ok { "\n\nAll of it is here." } else { "\n\nNot all of it is here." };
        text
    }
}

/// Returns an empty table with these columns of words. A row is a line however wide the terminal
/// is: what `grep` finds must be a whole row.
fn table<const N: usize>(columns: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    table.column_iter_mut().take(N - 1).for_each(|column| {
        column.set_padding((0, 2));
    });
    if let Some(last) = table.column_mut(N - 1) {
        last.set_padding((0, 0));
    }
    table
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
    fn what_the_configuration_does_not_want_may_be_missing() {
        let findings = vec![Finding::missing("ion", "no /dev/ion", "nothing")];
        let diagnosis = Diagnosis::new(findings, survey(true, &[]), None);
        assert!(diagnosis.ok && diagnosis.wanting().is_empty());
        let text = diagnosis.text();
        assert!(text.contains("ion   missing  no /dev/ion  nothing  -\n"), "{text}");
        assert!(text.ends_with("\nsystem passes over ion: no /dev/ion\n\nAll of it is here."), "{text}");
    }

    #[test]
    fn a_heap_an_error_or_a_required_thing_that_is_wanting_fails() {
        let unavailable = Diagnosis::new(Vec::new(), survey(false, &[]), None);
        assert!(!unavailable.ok);
        assert_eq!(unavailable.wanting(), ["heap system"]);
        assert!(unavailable.text().contains("unavailable: no /dev/udmabuf"));
        let faulty = Diagnosis::new(Vec::new(), survey(true, &["3:1: error: odd"]), None);
        assert_eq!(faulty.wanting(), ["a sound configuration (board.dts)"]);
        assert!(faulty.text().contains("wants:\n3:1: error: odd\n"));
        let leases = Finding::missing("leases", "off", "no start").required();
        let diagnosis = Diagnosis::new(vec![leases], survey(true, &[]), None);
        assert_eq!(diagnosis.wanting(), ["leases"]);
        // Limited is enough.
        let few = Finding::limited("inotify", "few", "slower").required();
        assert!(Diagnosis::new(vec![few], survey(true, &[]), None).wanting().is_empty());
    }
}
