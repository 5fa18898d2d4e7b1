// SPDX-License-Identifier: Apache-2.0
//! Reads the configuration of the service.

use crate::config::spec::Config;
use crate::config::{self, DEFAULT_FILE, LoadError, Loaded, LookUp, Severity};
use crate::sys::memory::page_size;
use crate::units::PageSize;
use anyhow::{Context, ensure};
use std::path::PathBuf;

/// Returns the configuration in `files`, a device tree and its overlays, else the default
/// configuration; and where it came from. Logs its errors: an invalid heap is skipped, and the
/// others are served. `look_up` resolves the names of users and groups.
///
/// # Errors
/// If nothing can be read, or no valid heap is left.
pub(crate) fn load(files: &[PathBuf], look_up: LookUp<'_>) -> anyhow::Result<(Config, String)> {
    let page = page_size().context("cannot determine the page size")?;
    let (Loaded { config, diagnostics }, origin) = read(files, page, look_up).context("no configuration")?;
    for diagnostic in &diagnostics {
        let level = match diagnostic.severity {
            Severity::Error => log::Level::Error,
            Severity::Warning => log::Level::Warn,
            Severity::Note => log::Level::Info,
        };
        log::log!(level, "configuration ({origin}): {diagnostic}");
    }
    ensure!(!config.heaps.is_empty(), "the configuration ({origin}) describes no heap that can be served");
    Ok((config, origin))
}

/// Reads the configuration in `files`, else the default one. Also returns its name.
///
/// # Errors
/// If a file cannot be read, or an overlay does not fit the tree before it.
pub(super) fn read(
    files: &[PathBuf],
    page: PageSize,
    look_up: LookUp<'_>,
) -> Result<(Loaded, String), LoadError> {
    let default: Vec<PathBuf> = DEFAULT_FILE.map(PathBuf::from).into_iter().collect();
    let files = if files.is_empty() { &default } else { files };
    let origin = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" + ");
    let loaded = config::load_all(files, page, look_up)?;
    Ok(loaded.map_or_else(|| (config::embedded(page), "built in".to_owned()), |loaded| (loaded, origin)))
}
