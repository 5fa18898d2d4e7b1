// SPDX-License-Identifier: Apache-2.0
//! Summarizes the results of many trees: a table by vendor, and one by message.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::extension;
use super::reader::{Tree, unlike};
use crate::tally::Tally;

/// The results of one vendor's trees.
#[derive(Debug, Default)]
struct Vendor {
    trees: usize,
    with_heaps: usize,
    heaps: usize,
    available: usize,
    errors: usize,
    warnings: usize,
    unreadable: usize,
}

/// The results of all trees.
#[derive(Debug, Default)]
pub(super) struct Summary {
    vendors: BTreeMap<String, Vendor>,
    /// The number of each message, and the first tree with it.
    said: BTreeMap<String, (usize, String)>,
    read: usize,
    /// Trees that are read wrongly, with the faults.
    pub(super) faults: Vec<String>,
}

impl Summary {
    /// Adds a tree of the folder `dir`.
    pub(super) fn add(&mut self, dir: &Path, tree: &Tree) {
        let shown = tree.file.strip_prefix(dir).unwrap_or(&tree.file);
        let folder = shown.parent().and_then(Path::file_name);
        let vendor = folder.map_or_else(|| "-".to_owned(), |name| name.to_string_lossy().into_owned());
        self.read += 1;
        let wrong = tree.differences.iter().chain(tree.read.as_ref().err());
        self.faults.extend(wrong.map(|what| format!("{}: {what}", shown.display())));
        let row = self.vendors.entry(vendor).or_default();
        row.trees += 1;
        let Ok(file) = &tree.read else { return };
        let heaps = file["heaps"].as_array().map_or(&[][..], Vec::as_slice);
        row.unreadable += usize::from(!file["error"].is_null());
        row.heaps += heaps.len();
        row.with_heaps += usize::from(!heaps.is_empty());
        row.available += heaps.iter().filter(|heap| heap["unavailable"].is_null()).count();
        let mut count = |severity: &str, message: &str| {
            row.errors += usize::from(severity == "error");
            row.warnings += usize::from(severity == "warning");
            let kind = format!("{severity}: {}", kind(message));
            self.said.entry(kind).or_insert_with(|| (0, shown.display().to_string())).0 += 1;
        };
        if let Some(error) = file["error"].as_str() {
            count("error", error);
        }
        for said in file["diagnostics"].as_array().into_iter().flatten() {
            if let (Some(severity), Some(message)) = (said["severity"].as_str(), said["message"].as_str()) {
                count(severity, message);
            }
        }
        for why in heaps.iter().filter_map(|heap| heap["unavailable"].as_str()) {
            count("unavailable", why);
        }
    }

    /// Compares the two forms of each tree that exists as source and as blob in the same folder.
    pub(super) fn compare_forms(&mut self, trees: &[Tree]) {
        let blobs: BTreeMap<_, _> = trees
            .iter()
            .filter(|tree| extension(&tree.file).is_some_and(|form| form.starts_with("dtb")))
            .map(|tree| (tree.file.with_extension(""), tree))
            .collect();
        for source in
            trees.iter().filter(|tree| extension(&tree.file).is_some_and(|form| form.starts_with("dts")))
        {
            if let Some(blob) = blobs.get(&source.file.with_extension(""))
                && let Some(what) = unlike(&blob.read, &source.read)
            {
                self.faults.push(format!("{}: differs from its blob: {what}", source.file.display()));
            }
        }
    }

    /// Returns the numbers of trees that were read correctly and wrongly.
    pub(super) fn tally(&self) -> Tally {
        let failed = self.faults.len().min(self.read);
        Tally { passed: (self.read - failed) as u64, failed: failed as u64 }
    }
}

/// Returns a message without its variable parts: numbers, names in quotes and paths.
fn kind(message: &str) -> String {
    let word = |word: &str| {
        let plain = word.trim_matches(|c: char| ",;:.()".contains(c));
        let varies = plain.starts_with(|c: char| c.is_ascii_digit() || "/\"&".contains(c));
        if varies && !plain.is_empty() { word.replace(plain, "…") } else { word.to_owned() }
    };
    let text = message.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.chars().take(MAX_KIND).collect()
}

/// Characters of a message that are shown.
const MAX_KIND: usize = 110;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header =
            ["vendor", "trees", "with heaps", "heaps", "available", "errors", "warnings", "unreadable"];
        let [vendor, rest @ ..] = header;
        write!(f, "{vendor:<20}")?;
        rest.iter().try_for_each(|name| write!(f, "{name:>12}"))?;
        writeln!(f)?;
        for (name, row) in &self.vendors {
            let Vendor { trees, with_heaps, heaps, available, errors, warnings, unreadable } = row;
            write!(f, "{name:<20}")?;
            let numbers = [trees, with_heaps, heaps, available, errors, warnings, unreadable];
            numbers.iter().try_for_each(|number| write!(f, "{number:>12}"))?;
            writeln!(f)?;
        }
        let mut said: Vec<_> = self.said.iter().collect();
        said.sort_by_key(|(kind, (count, _))| (std::cmp::Reverse(*count), *kind));
        writeln!(f, "\n{:>7}  message, and the first tree with it", "times")?;
        for (kind, (count, first)) in said {
            writeln!(f, "{count:>7}  {kind}  [{first}]")?;
        }
        for fault in &self.faults {
            writeln!(f, "WRONG: {fault}")?;
        }
        writeln!(f, "\n{} trees, {} read wrongly", self.read, self.faults.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn tree(file: &str, read: Result<Value, String>) -> Tree {
        Tree { file: file.into(), read, differences: Vec::new() }
    }

    #[test]
    fn trees_are_counted_by_vendor_and_by_what_is_said() {
        let said = |message: &str| json!({ "severity": "error", "message": message });
        let file = json!({
            "heaps": [{ "unavailable": null }, { "unavailable": "status is \"disabled\"" }],
            "diagnostics": [said("/a: size is 0x10, but it must be 4096"), said("/b: size is 0x20, but it must be 4096")],
        });
        let mut summary = Summary::default();
        summary.add(Path::new("/d"), &tree("/d/acme/a.dtb", Ok(file)));
        summary.add(Path::new("/d"), &tree("/d/b.dtb", Err("killed".to_owned())));
        let text = summary.to_string();
        let row: Vec<&str> = text.lines().nth(2).expect("acme's row").split_whitespace().collect();
        assert_eq!(row, ["acme", "1", "1", "2", "1", "2", "0", "0"]);
        assert!(text.contains("      2  error: …: size is …, but it must be …  [acme/a.dtb]"), "{text}");
        assert!(text.contains("WRONG: b.dtb: killed"), "{text}");
        assert_eq!(summary.tally(), Tally { passed: 1, failed: 1 });
    }

    #[test]
    fn a_source_beside_its_blob_must_say_the_same() {
        let read = |size: u64| Ok(json!({ "heaps": [{ "size": size }], "diagnostics": [] }));
        let mut summary = Summary::default();
        let trees = [tree("/d/a.dtb", read(1)), tree("/d/a.dts", read(2)), tree("/d/b.dts", read(3))];
        summary.compare_forms(&trees);
        assert_eq!(summary.faults.len(), 1, "{:?}", summary.faults);
    }
}
