// SPDX-License-Identifier: Apache-2.0
//! Which configuration is served.

use anion::config::spec::Config;
use anion::config::{self, Severity};
use anyhow::{Context, ensure};
use log::Level;
use std::path::Path;

/// The configuration in `file`, or the built-in one; and where it came from. What is wrong in it is logged, and what
/// is good of it is served.
///
/// # Errors
/// If the file cannot be read, or no heap is left.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<(Config, String)> {
    let page = anion::sys::memory::page_size().context("asking for the page size")?;
    let (loaded, origin) = match file {
        Some(file) => (config::load(file, page)?, file.display().to_string()),
        None => (config::embedded(page), "built in".to_owned()),
    };
    for diagnostic in &loaded.diagnostics {
        let level = match diagnostic.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warn,
            Severity::Note => Level::Info,
        };
        log::log!(level, "configuration ({origin}): {diagnostic}");
    }
    ensure!(!loaded.config.heaps.is_empty(), "the configuration ({origin}) has no heap to serve");
    Ok((loaded.config, origin))
}
