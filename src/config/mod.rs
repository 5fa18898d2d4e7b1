// SPDX-License-Identifier: Apache-2.0
//! Floor 2: the configuration. Reads device trees into checked heap descriptions and client policy.
//! Allocates nothing, and opens nothing for use.
//!
//! Three readers (`dts`, `dtb`, `directory`) fill one `tree`. `heaps` and `policy` translate
//! Anion's own nodes, `import` the heap bindings of vendor kernels, and `draft` assigns ids. A heap
//! with an error is reported and skipped; the others are kept. A text with a syntax error yields no
//! heaps: if only a part is read, limits may be missing.

mod accounts;
mod comments;
mod device;
mod diagnostic;
mod directory;
mod draft;
mod dtb;
#[cfg(feature = "dts")]
mod dts;
mod graphics;
mod heaps;
mod import;
mod overlay;
mod policy;
mod property;
mod region;
pub mod spec;
mod steps;
#[cfg(all(test, feature = "dts"))]
mod tests;
mod translate;
mod tree;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use self::accounts::Accounts;
pub use self::accounts::{Account, AccountError, LookUp};
use self::diagnostic::Report;
pub use self::diagnostic::{Diagnostic, Severity};
pub use self::directory::DirectoryError;
pub use self::dtb::BlobError;
pub use self::graphics::{default_rules as default_graphics, words as usage_words};
pub use self::overlay::OverlayError;
use self::spec::Config;
use self::tree::{MAX_BYTES, Tree};
use crate::units::{PageSize, Uid};

/// Path of a device's configuration. On other machines the built-in one is the default.
#[cfg(any(soong, target_os = "android"))]
pub const DEFAULT_FILE: Option<&str> = Some("/vendor/etc/anion/heaps.dtb");
/// Path of a device's configuration. On other machines the built-in one is the default.
#[cfg(not(any(soong, target_os = "android")))]
pub const DEFAULT_FILE: Option<&str> = None;

/// A configuration and the findings about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The heaps and the policy without errors.
    pub config: Config,
    /// In the order of the text; findings without a position come last.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// Returns whether a requested part is missing from the result.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// A source that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Larger than any real device tree.
    #[error("{} has more than {MAX_BYTES} bytes, the limit of a device tree", .0.display())]
    TooLarge(PathBuf),
    /// Neither text, nor a blob by its magic number.
    #[error("{} is neither a device-tree blob nor UTF-8 text: byte {offset} is wrong", path.display())]
    NeitherBlobNorText {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is no text.
        offset: usize,
    },
    /// This build was made without the `dts` feature.
    #[cfg(not(feature = "dts"))]
    #[error("{} is device-tree source, which this build does not read: compile it with dtc and give the .dtb", .0.display())]
    TextNotSupported(PathBuf),
    /// A damaged blob.
    #[error("{} is a damaged device-tree blob", path.display())]
    Blob {
        /// The file.
        path: PathBuf,
        /// The error.
        source: BlobError,
    },
    /// An overlay does not fit the tree before it.
    #[error("{} cannot be applied", path.display())]
    Overlay {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: OverlayError,
    },
    /// A directory that is no device tree.
    #[error("{} cannot be read as a device tree", path.display())]
    Directory {
        /// The file.
        path: PathBuf,
        /// The error.
        source: DirectoryError,
    },
}

/// A device tree that was read, and not translated yet.
pub struct DeviceTree {
    path: PathBuf,
    /// `None` for a text with a syntax error.
    tree: Option<Tree>,
    report: Report,
}

impl DeviceTree {
    /// Returns whether it is an overlay, which changes another tree and has no heaps itself.
    pub fn is_overlay(&self) -> bool {
        self.tree.as_ref().is_some_and(overlay::is_overlay)
    }

    /// Applies an overlay. The result is empty if either has a syntax error.
    ///
    /// # Errors
    /// If `overlay` is no overlay, or does not fit this tree.
    pub fn apply(mut self, overlay: Self) -> Result<Self, LoadError> {
        self.report.append(overlay.report);
        self.tree = match (self.tree, overlay.tree) {
            (Some(mut base), Some(tree)) => {
                let applied = overlay::apply(&mut base, &tree);
                applied.map_err(|source| LoadError::Overlay { path: overlay.path, source })?;
                Some(base)
            }
            _ => None,
        };
        Ok(self)
    }

    /// Translates the tree to a configuration. `look_up` resolves the names of users and groups.
    pub fn translate(self, page: PageSize, look_up: LookUp<'_>) -> Loaded {
        translated(self.tree.as_ref(), page, look_up, self.report)
    }
}

/// Reads a device tree: source text, a blob, or a directory such as `/proc/device-tree`. The
/// content determines the form, not the name.
///
/// # Errors
/// If the file does not exist, cannot be read, is too large, is neither text nor blob, or is
/// damaged. Errors inside a readable file are in the diagnostics.
pub fn read(path: &Path) -> Result<DeviceTree, LoadError> {
    if !path.is_dir() {
        return read_bytes(path, &read_file(path)?);
    }
    let mut report = Report::default();
    let tree = directory::read(path, &mut report);
    let tree = tree.map_err(|source| LoadError::Directory { path: path.to_owned(), source })?;
    Ok(DeviceTree { path: path.to_owned(), tree: Some(tree), report })
}

/// Loads the device tree of these files: the first, changed by the others, which are overlays.
/// `None` if there are no files. `look_up` resolves the names of users and groups.
///
/// # Errors
/// As [`read`], and if an overlay does not fit the tree before it.
pub fn load_all(files: &[PathBuf], page: PageSize, look_up: LookUp<'_>) -> Result<Option<Loaded>, LoadError> {
    let Some((base, overlays)) = files.split_first() else { return Ok(None) };
    let tree = overlays.iter().try_fold(read(base)?, |tree, overlay| tree.apply(read(overlay)?))?;
    Ok(Some(tree.translate(page, look_up)))
}

/// Loads one device tree. Names of users and groups in it are unknown.
///
/// # Errors
/// As [`read`].
#[cfg(feature = "testing")]
pub fn load(path: &Path, page: PageSize) -> Result<Loaded, LoadError> {
    Ok(read(path)?.translate(page, &no_accounts))
}

/// Loads the content of a file, source text or a blob; errors name `path`. An overlay is applied to
/// the embedded tree. Names of users and groups are unknown.
///
/// # Errors
/// If it is neither text nor blob, or damaged, or if it is an overlay that does not fit.
pub fn parse(path: &Path, bytes: &[u8], page: PageSize) -> Result<Loaded, LoadError> {
    let mut tree = read_bytes(path, bytes)?;
    if tree.is_overlay() {
        let mut report = Report::default();
        let embedded = embedded_tree(&mut report);
        tree = DeviceTree { path: path.to_owned(), tree: embedded, report }.apply(tree)?;
    }
    Ok(tree.translate(page, &no_accounts))
}

fn read_bytes(path: &Path, bytes: &[u8]) -> Result<DeviceTree, LoadError> {
    let mut report = Report::default();
    let tree = if bytes.starts_with(&dtb::MAGIC) {
        let read = dtb::read(bytes);
        Some(read.map_err(|source| LoadError::Blob { path: path.to_owned(), source })?)
    } else {
        read_text(path, bytes, &mut report)?
    };
    Ok(DeviceTree { path: path.to_owned(), tree, report })
}

/// Returns the built-in configuration, `etc/anion/heaps.dts`.
///
/// It is text. A build without the `dts` feature, as for devices, has no default: the result is
/// empty, with an error that reports this, and the user must name a file.
pub fn embedded(page: PageSize) -> Loaded {
    let mut report = Report::default();
    let tree = embedded_tree(&mut report);
    translated(tree.as_ref(), page, &no_accounts, report)
}

/// Returns an error for every account: a machine without users and groups.
fn no_accounts(account: &Account) -> Result<Vec<Uid>, AccountError> {
    Err(AccountError::Unknown(account.clone()))
}

#[cfg(feature = "dts")]
fn embedded_tree(report: &mut Report) -> Option<Tree> {
    dts::read(include_str!("../../etc/anion/heaps.dts"), report)
}

#[cfg(not(feature = "dts"))]
fn embedded_tree(report: &mut Report) -> Option<Tree> {
    let message = "this build reads no device-tree source, so it has no built-in configuration: give a .dtb";
    report.add(Severity::Error, "/", None, message);
    None
}

/// Reads at most [`MAX_BYTES`], independently of the size that the file reports.
fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_BYTES { Err(LoadError::TooLarge(path.to_owned())) } else { Ok(bytes) }
}

#[cfg(feature = "dts")]
fn read_text(path: &Path, bytes: &[u8], report: &mut Report) -> Result<Option<Tree>, LoadError> {
    let text = text(path, bytes)?;
    Ok(dts::read(&text, report))
}

#[cfg(not(feature = "dts"))]
fn read_text(path: &Path, bytes: &[u8], _report: &mut Report) -> Result<Option<Tree>, LoadError> {
    text(path, bytes)?;
    Err(LoadError::TextNotSupported(path.to_owned()))
}

fn text<'b>(path: &Path, bytes: &'b [u8]) -> Result<Cow<'b, str>, LoadError> {
    let wrong = |offset| LoadError::NeitherBlobNorText { path: path.to_owned(), offset };
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        return Err(wrong(offset));
    }
    comments::text(bytes).map_err(wrong)
}

fn translated(tree: Option<&Tree>, page: PageSize, look_up: LookUp<'_>, mut report: Report) -> Loaded {
    let accounts = Accounts::new(look_up);
    let config = tree.map(|tree| translate::config(tree, page, &accounts, &mut report)).unwrap_or_default();
    Loaded { config, diagnostics: report.finish() }
}
