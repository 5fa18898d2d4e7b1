// SPDX-License-Identifier: Apache-2.0
//! Writes tables as text or Markdown, and figures as JSON.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// One table: the measured values, beside their floor.
pub(crate) struct Section {
    name: &'static str,
    about: String,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    json: Vec<Value>,
}

/// All results under the same conditions.
pub(crate) struct Pass {
    pub(crate) title: &'static str,
    pub(crate) sections: Vec<Section>,
}

impl Section {
    /// Returns an empty table. `name` is its key in JSON.
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

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let header: Vec<String> = self.header.iter().map(|&word| word.to_owned()).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        let rule = format!("|---|{}\n", "--:|".repeat(header.len() - 1));
        format!("### {}\n\n{}\n\n{}{rule}{rows}", self.name, self.about, line(&header))
    }
}

/// Returns all figures, by pass and table.
pub(crate) fn document(passes: &[Pass]) -> anyhow::Result<Value> {
    let mut document = Map::new();
    document.insert("machine".to_owned(), machine()?.into());
    for pass in passes {
        let tables =
            pass.sections.iter().map(|section| (section.name.to_owned(), section.json.clone().into()));
        document.insert(pass.title.to_owned(), tables.collect::<Map<_, _>>().into());
    }
    Ok(document.into())
}

/// Returns a description of the machine.
fn machine() -> anyhow::Result<String> {
    let system = nix::sys::utsname::uname()?;
    let [name, release, machine] = [system.sysname(), system.release(), system.machine()];
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let processors = processors.lines().filter(|line| line.starts_with("processor")).count();
    let [name, release, machine] = [name, release, machine].map(|word| word.to_string_lossy());
    // The text after the number names the builder.
    let release = release.split('-').next().unwrap_or_default();
    Ok(format!("{name} {release} {machine}, {processors} processors"))
}

/// Writes the results to the given files, and as text to the standard output unless a file uses it.
pub(crate) fn write(passes: &[Pass], json: Option<&Path>, markdown: Option<&Path>) -> anyhow::Result<()> {
    if let Some(file) = json {
        put(file, &(serde_json::to_string_pretty(&document(passes)?)? + "\n"))?;
    }
    if let Some(file) = markdown {
        let mut text = format!("Measured on {}.\n", machine()?);
        for pass in passes {
            write!(text, "\n## On {}\n", pass.title)?;
            pass.sections.iter().try_for_each(|section| write!(text, "\n{}", section.markdown()))?;
        }
        put(file, &text)?;
    }
    let standard_output = Path::new("-");
    if [json, markdown].contains(&Some(standard_output)) {
        return Ok(());
    }
    let mut text = String::new();
    for pass in passes {
        writeln!(text, "On {}:\n", pass.title)?;
        pass.sections.iter().try_for_each(|section| writeln!(text, "{}", section.text()))?;
    }
    put(standard_output, &text)
}

fn put(file: &Path, text: &str) -> anyhow::Result<()> {
    if file == Path::new("-") {
        return Ok(std::io::stdout().write_all(text.as_bytes())?);
    }
    Ok(std::fs::write(file, text)?)
}

/// Prints the progress on standard error, since a run takes minutes.
pub(crate) fn progress(what: &str) {
    // A failure cannot be reported elsewhere.
    let _ = writeln!(std::io::stderr(), "measuring {what}");
}

/// Returns microseconds with one decimal.
pub(crate) fn micros(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}

/// Returns the median of the values.
pub(crate) fn median<T: Copy + PartialOrd>(values: &[T]) -> anyhow::Result<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted.get(sorted.len() / 2).copied().ok_or_else(|| anyhow::anyhow!("nothing was measured"))
}
