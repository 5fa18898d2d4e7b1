// SPDX-License-Identifier: Apache-2.0
//! What goes to standard output: a table for people, or one JSON document for programs.

use crate::failure::Failure;
use bytesize::ByteSize;
use comfy_table::Table;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Something that can be shown in both forms.
pub(crate) trait Report: Serialize {
    /// Returns the form for people: lines of text, the last one without its line feed. Tables take
    /// at most `width` columns of a terminal; `None` where the text goes elsewhere, whole.
    fn text(&self, width: Option<usize>) -> String;
}

/// Fewest columns of a terminal that tables are fitted to.
const NARROWEST: usize = 20;

/// Where reports go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    to_stderr: bool,
}

impl Output {
    /// Returns standard output, as JSON or as text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, to_stderr: false }
    }

    /// Returns the same on standard error, where standard output is for another program.
    pub(crate) fn on_stderr(self) -> Self {
        Self { to_stderr: true, ..self }
    }

    /// Returns whether programs read it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Returns whether a person sees it at once.
    pub(crate) fn is_terminal(&self) -> bool {
        if self.to_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() }
    }

    /// Returns how many columns a terminal has that a person sees it on; `None` for a pipe or a
    /// file, and for a terminal that does not tell or has too few for any table.
    pub(crate) fn width(&self) -> Option<usize> {
        let mut probe = Table::new();
        let probe = if self.to_stderr { probe.use_stderr() } else { &mut probe };
        let width = if self.is_terminal() { probe.width() } else { None };
        width.map(usize::from).filter(|width| *width >= NARROWEST)
    }

    /// Shows a report.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub(crate) fn show(&self, report: &impl Report) -> Result<(), Failure> {
        let text = if self.json { json(report, Layout::Indented)? } else { report.text(self.width()) };
        self.line(&text)
    }

    /// Shows a report that is one of many: as JSON on one line.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub(crate) fn show_next(&self, report: &impl Report) -> Result<(), Failure> {
        let text = if self.json { json(report, Layout::OneLine)? } else { report.text(self.width()) };
        self.line(&text)
    }

    /// Writes a line.
    fn line(&self, text: &str) -> Result<(), Failure> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Writes bytes, and makes sure that they left this process.
    ///
    /// # Errors
    /// [`Failure::BrokenPipe`] if the reader is gone, [`Failure::Local`] if writing fails
    /// otherwise.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let write = |out: &mut dyn Write| out.write_all(bytes).and_then(|()| out.flush());
        let written = if self.to_stderr { write(&mut io::stderr()) } else { write(&mut io::stdout()) };
        written.map_err(|error| Failure::output(&error))
    }
}

/// How a JSON document is laid out.
enum Layout {
    Indented,
    OneLine,
}

/// Returns a report as JSON.
fn json(report: &impl Serialize, layout: Layout) -> Result<String, Failure> {
    match layout {
        Layout::Indented => serde_json::to_string_pretty(report),
        Layout::OneLine => serde_json::to_string(report),
    }
    .map_err(|error| Failure::Local(format!("cannot write JSON: {error}")))
}

/// Returns a number of bytes for people: `8.0 MiB`.
pub(crate) fn size_of(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// Returns the same of a number of the interface. What cannot be a size is shown as the number that
/// it is.
pub(crate) fn size(bytes: i64) -> String {
    match u64::try_from(bytes) {
        Ok(bytes) => size_of(bytes),
        Err(_) => format!("{bytes} B"),
    }
}

/// Returns a limit for people; 0 means that there is none.
pub(crate) fn limit(value: i64, show: impl Fn(i64) -> String) -> String {
    if value == 0 { "-".to_owned() } else { show(value) }
}

/// Returns a number for people; a dash if it is the one that stands for none.
pub(crate) fn absent_if(value: i32, none: i32) -> String {
    if value == none { "-".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(4096), "4.0 KiB");
        assert_eq!(size(8 << 20), "8.0 MiB");
        assert_eq!(size(-1), "-1 B");
    }
}
