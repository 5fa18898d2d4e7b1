// SPDX-License-Identifier: Apache-2.0
//! Which configuration is served.

use crate::config::spec::Config;
use crate::config::{self, DEFAULT_FILE, Loaded, Severity};
use crate::sys::memory::page_size;
use anyhow::{Context, ensure};
use std::path::Path;

/// Returns the configuration in `file`, else the default one; and where it came from. What is wrong
/// in it is logged: a heap that cannot be understood is left out, and the others are served.
///
/// # Errors
/// If nothing can be read, or no heap is left.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<(Config, String)> {
    let page = page_size().context("cannot tell the page size")?;
    let file = file.or(DEFAULT_FILE.map(Path::new));
    let (Loaded { config, diagnostics }, origin) = match file {
        Some(file) => (config::load(file, page).context("no configuration")?, file.display().to_string()),
        None => (config::embedded(page), "built in".to_owned()),
    };
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
