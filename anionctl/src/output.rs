// SPDX-License-Identifier: Apache-2.0
//! Writes to standard output: a table for people, or one JSON document for programs.

use crate::failure::Failure;
use bytesize::ByteSize;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// A report that can be shown in both forms.
pub(crate) trait Report: Serialize {
    /// Returns the form for people: lines of text, the last one without its line feed. Tables take
    /// at most `width` columns of a terminal; `None` means no limit.
    fn text(&self, width: Option<usize>) -> String;
}

/// Fewest columns of a terminal to which tables are fitted.
const NARROWEST: usize = 20;

/// The stream and form of reports.
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

    /// Returns the same on standard error, for commands whose standard output belongs to another
    /// program.
    pub(crate) fn on_stderr(self) -> Self {
        Self { to_stderr: true, ..self }
    }

    /// Returns whether the form is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Returns whether the stream is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        if self.to_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() }
    }

    /// Returns the columns of the terminal; `None` for a pipe or a file, and for a terminal whose
    /// width is unknown or too small for any table.
    pub(crate) fn width(&self) -> Option<usize> {
        if !self.is_terminal() {
            return None;
        }
        let width = if self.to_stderr { columns(io::stderr()) } else { columns(io::stdout()) };
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

    /// Shows one report of a sequence: as JSON on one line.
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

    /// Writes bytes, and flushes them.
    ///
    /// # Errors
    /// [`Failure::BrokenPipe`] if the reader closed the stream, [`Failure::Local`] if writing fails
    /// otherwise.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let write = |out: &mut dyn Write| out.write_all(bytes).and_then(|()| out.flush());
        let written = if self.to_stderr { write(&mut io::stderr()) } else { write(&mut io::stdout()) };
        written.map_err(|error| Failure::output(&error))
    }
}

/// Returns the columns of a terminal; `None` if its width is unknown.
#[cfg(not(soong))]
fn columns(stream: impl std::os::fd::AsFd) -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

/// Returns `None`: tables do not fit themselves to Android's terminals.
#[cfg(soong)]
fn columns<S>(_: S) -> Option<u16> {
    None
}

/// The layout of a JSON document.
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

/// Returns a number of bytes as text: `8.0 MiB`.
pub(crate) fn size_of(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// Returns the same for a number of the interface. A number that cannot be a size is shown
/// unchanged.
pub(crate) fn size(bytes: i64) -> String {
    match u64::try_from(bytes) {
        Ok(bytes) => size_of(bytes),
        Err(_) => format!("{bytes} B"),
    }
}

/// Returns a limit as text; 0 means no limit.
pub(crate) fn limit(value: i64, show: impl Fn(i64) -> String) -> String {
    if value == 0 { "-".to_owned() } else { show(value) }
}

/// Returns a number as text; a dash if it equals `none`.
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
