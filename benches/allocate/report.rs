// SPDX-License-Identifier: Apache-2.0
//! Tables for people, JSON for scripts.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

/// One table: what was measured, beside its floor.
pub(crate) struct Section {
    name: &'static str,
    about: String,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    json: Vec<Value>,
}

impl Section {
    /// An empty table. `name` is its key in JSON.
    pub(crate) fn new(name: &'static str, about: impl Into<String>, header: &[&'static str]) -> Self {
        let (rows, json) = (Vec::new(), Vec::new());
        Self { name, about: about.into(), header: header.to_vec(), rows, json }
    }

    /// Adds a row, as text and as values.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>, json: Value) {
        self.rows.push(cells.into_iter().collect());
        self.json.push(json);
    }

    fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(self.header.clone());
        table.add_rows(self.rows.clone());
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("{}\n{table}\n", self.about)
    }
}

/// Prints everything.
pub(crate) fn print(sections: &[Section], json: bool) -> anyhow::Result<()> {
    let text = if json {
        let all: serde_json::Map<_, _> = sections
            .iter()
            .map(|section| (section.name.to_owned(), Value::Array(section.json.clone())))
            .collect();
        serde_json::to_string_pretty(&all)?
    } else {
        sections.iter().map(Section::text).collect::<Vec<_>>().join("\n")
    };
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Says on standard error what goes on, for measuring takes minutes.
pub(crate) fn progress(what: &str) {
    // Nobody is to be told that nobody can be told.
    let _ = writeln!(std::io::stderr(), "measuring {what}");
}

/// Microseconds with one decimal.
pub(crate) fn micros(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}

/// The middle one of some values.
pub(crate) fn median<T: Copy + PartialOrd>(values: &[T]) -> anyhow::Result<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted.get(sorted.len() / 2).copied().ok_or_else(|| anyhow::anyhow!("nothing was measured"))
}
