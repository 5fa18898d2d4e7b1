// SPDX-License-Identifier: Apache-2.0
//! Has the service read device trees, several in one process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{extension, pools};
use crate::process::line_of;

/// The reader of trees, and the comparisons.
pub(super) struct Reader {
    pub(super) aniond: PathBuf,
    /// Whether each blob is compared with its source and its pools.
    pub(super) check: bool,
}

/// The result of reading one tree.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) file: PathBuf,
    /// The output of `--check-config --json` for it; the failure of the reader itself.
    pub(super) read: Result<Value, String>,
    /// The differences to another form of it, or to libfdt's result.
    pub(super) differences: Vec<String>,
}

impl Reader {
    /// Reads these files.
    ///
    /// # Errors
    /// If a program cannot be started, or temporary files cannot be created. A crash of the reader
    /// is a result.
    pub(super) fn read(&self, files: &[PathBuf]) -> Result<Vec<Tree>> {
        let mut read = self.check_config(files)?;
        let mut trees: Vec<Tree> = Vec::new();
        for file in files {
            let value =
                read.remove(file).unwrap_or_else(|| Err("the reader printed no result for it".to_owned()));
            trees.push(Tree { file: file.clone(), read: value, differences: Vec::new() });
        }
        if self.check {
            self.compare_sources(&mut trees)?;
            for tree in trees.iter_mut().filter(|tree| extension(&tree.file) == Some("dtb")) {
                if let Ok(value) = &tree.read {
                    tree.differences.extend(pools::differences(&tree.file, value)?);
                }
            }
        }
        Ok(trees)
    }

    /// Compares blobs with the service's result for the source that `dtc` generates from them.
    fn compare_sources(&self, trees: &mut [Tree]) -> Result<()> {
        let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
        let mut sources: Vec<(usize, PathBuf)> = Vec::new();
        for (at, tree) in trees.iter().enumerate() {
            if extension(&tree.file).is_some_and(|form| form.starts_with("dtb")) {
                let source = scratch.path().join(format!("{at}.dts"));
                let mut dtc = Command::new("dtc");
                dtc.args(["-q", "-q", "-I", "dtb", "-O", "dts", "-o"]).arg(&source).arg(&tree.file);
                let made = dtc.status().context("cannot start dtc")?.success();
                sources.extend(made.then_some((at, source)));
            }
        }
        let files: Vec<PathBuf> = sources.iter().map(|(_, source)| source.clone()).collect();
        let mut read = self.check_config(&files)?;
        for (at, source) in sources {
            let value =
                read.remove(&source).unwrap_or_else(|| Err("the reader printed no result for it".to_owned()));
            let difference = unlike(&trees[at].read, &value);
            trees[at].differences.extend(difference.map(|what| format!("read as source: {what}")));
        }
        Ok(())
    }

    /// Returns the output of `--check-config` for each file. If it crashes on one of several, each
    /// is read alone.
    fn check_config(&self, files: &[PathBuf]) -> Result<HashMap<PathBuf, Result<Value, String>>> {
        let mut read = HashMap::new();
        let mut alone: Vec<&PathBuf> = Vec::new();
        match self.start(files)? {
            Ok(values) => {
                read.extend(values.into_iter().map(|(file, value)| (file, Ok(value))));
                // An overlay was applied to the tree before it.
                alone.extend(files.iter().filter(|file| !read.contains_key(*file)));
            }
            Err(death) => match files {
                [file] => drop(read.insert(file.clone(), Err(death))),
                _ => alone.extend(files),
            },
        }
        for file in alone {
            let value = self.start(std::slice::from_ref(file))?;
            read.insert(file.clone(), value.map(|mut values| values.remove(0).1));
        }
        Ok(read)
    }

    /// Starts the reader. Returns its output for each file that is no overlay of another; if it
    /// crashes, the cause.
    fn start(&self, files: &[PathBuf]) -> Result<Result<Vec<(PathBuf, Value)>, String>> {
        if files.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let mut command = Command::new(&self.aniond);
        command.arg("--check-config").args(files).arg("--json");
        let output = command.output().with_context(|| format!("cannot start `{}`", line_of(&command)))?;
        let document: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        let files = document.as_ref().and_then(|document| document["files"].as_array());
        let (Some(0 | 1), Some(files)) = (output.status.code(), files) else {
            return Ok(Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))));
        };
        let with_overlays = |file: &&Value| file["overlays"].as_array().is_none_or(Vec::is_empty);
        let named = |file: &Value| Some((Path::new(file["file"].as_str()?).to_owned(), file.clone()));
        Ok(Ok(files.iter().filter(with_overlays).filter_map(named).collect()))
    }
}

/// Returns the difference between two readings of one tree: heaps, or messages without their
/// positions in the text.
pub(super) fn unlike(one: &Result<Value, String>, other: &Result<Value, String>) -> Option<String> {
    let (one, other) = match (one, other) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(why), _) | (_, Err(why)) => return Some(why.clone()),
    };
    let said = |file: &Value| {
        let said = file["diagnostics"].as_array().into_iter().flatten();
        let mut said: Vec<String> =
            said.map(|said| format!("{}: {}: {}", said["severity"], said["node"], said["message"])).collect();
        said.sort();
        said
    };
    if one["heaps"] != other["heaps"] {
        return Some(format!("the heaps are {}, not {}", other["heaps"], one["heaps"]));
    }
    (said(one) != said(other)).then(|| format!("the messages are {:?}, not {:?}", said(other), said(one)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn forms_differ_by_heaps_and_by_what_is_said_but_not_by_where() {
        let file = |size: u64, line: u64, message: &str| {
            let said = json!([{ "severity": "error", "node": "/a", "line": line, "message": message }]);
            Ok(json!({ "heaps": [{ "size": size }], "diagnostics": said }))
        };
        assert_eq!(unlike(&file(1, 2, "x"), &file(1, 3, "x")), None);
        assert!(unlike(&file(1, 2, "x"), &file(2, 2, "x")).expect("sizes differ").contains("heaps"));
        assert!(unlike(&file(1, 2, "x"), &file(1, 2, "y")).expect("words differ").contains("messages"));
        assert_eq!(unlike(&Err("died".to_owned()), &file(1, 2, "x")).as_deref(), Some("died"));
    }
}
