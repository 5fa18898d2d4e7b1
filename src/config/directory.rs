// SPDX-License-Identifier: Apache-2.0
//! Reads a directory in the form of `/proc/device-tree`: directories are nodes, files are
//! properties with the raw bytes of the blob.

use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::{Report, Severity};
use super::tree::{MAX_BYTES, NodeId, Property, Tree, TreeLimit, Unusable, Value};

/// A directory that cannot be read as a device tree.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// An operation failed.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A name that no device tree has, and that could confuse a terminal.
    #[error("{:?} has a name that is not printable ASCII", .0)]
    Name(PathBuf),
    /// More bytes than any real tree.
    #[error("the properties have more than {MAX_BYTES} bytes")]
    Bytes,
    /// Bigger than any real tree.
    #[error(transparent)]
    Limit(#[from] TreeLimit),
}

/// Reads the tree whose root is `path`.
///
/// # Errors
/// If something cannot be read, has a strange name, or exceeds the limits of a tree.
pub(super) fn read(path: &Path, report: &mut Report) -> Result<Tree, DirectoryError> {
    let mut tree = Tree::new();
    let mut budget = MAX_BYTES;
    let mut ahead = vec![(path.to_owned(), tree.root())];
    while let Some((directory, node)) = ahead.pop() {
        let failed = |source| DirectoryError::Io { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed)?;
            let name = name(&entry)?;
            if kind.is_dir() {
                ahead.push((path, tree.child(node, &name, None)?));
            } else if kind.is_file() {
                let value = property(&path, &mut budget)?;
                tree.set(node, &name, Property { value, position: None })?;
            } else {
                skipped(&tree, node, &name, report);
            }
        }
    }
    tree.index_phandles();
    Ok(tree)
}

fn name(entry: &DirEntry) -> Result<String, DirectoryError> {
    let text = entry.file_name().into_string().ok();
    let plain = text.filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()));
    plain.ok_or_else(|| DirectoryError::Name(entry.path()))
}

/// Reads one file and subtracts its bytes from the budget. Counts the bytes that it reads: the
/// sizes that `stat` reports need not be right.
fn property(path: &Path, budget: &mut usize) -> Result<Value, DirectoryError> {
    let failed = |source| DirectoryError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = match File::open(path) {
        // Only root may read some properties. The tree is read without them.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(Value::Unusable(Unusable::NotPermitted));
        }
        opened => opened.map_err(failed)?,
    };
    file.take(*budget as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    *budget = budget.checked_sub(bytes.len()).ok_or(DirectoryError::Bytes)?;
    Ok(Value::Bytes(bytes))
}

fn skipped(tree: &Tree, node: NodeId, name: &str, report: &mut Report) {
    let message = format!("{name:?} is neither a file nor a directory, so it is not part of the tree");
    report.add(Severity::Warning, tree.path(node), None, message);
}
