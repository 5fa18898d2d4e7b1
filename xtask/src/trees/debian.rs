// SPDX-License-Identifier: Apache-2.0
//! Obtains the device trees of Debian's kernels: one package for each architecture, 6 MB in total.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::debian::{self, SID};

/// The name of their bundle in the cache.
const NAME: &str = "trees";

/// The newest kernels, which depend on the packages with the trees.
const KERNELS: [&str; 2] = ["linux-image-arm64:arm64", "linux-image-armmp:armhf"];

/// The prefix of the names of the packages with the trees.
const PREFIX: &str = "linux-base-";

/// Returns the directory with the trees, downloaded unless it is in the cache.
///
/// # Errors
/// If they are unavailable, and the cache has none either.
pub(super) fn obtain(cache: &Path) -> Result<PathBuf> {
    debian::obtain(NAME, &SID, cache, |apt| {
        let mut names = apt.with_dependencies(&KERNELS)?;
        // Other packages of that prefix depend on these, and contain no trees.
        let is_of_version = |name: &str| name.starts_with(|c: char| c.is_ascii_digit());
        names.retain(|name| name.strip_prefix(PREFIX).is_some_and(is_of_version));
        ensure!(
            names.len() == KERNELS.len(),
            "the kernels depend on other packages with device trees than expected: {names:?}"
        );
        Ok(names)
    })
}

/// Returns a message that they will be downloaded, unless they are in the cache.
pub(crate) fn unfetched(cache: &Path) -> Vec<String> {
    let is_there = debian::is_cached(NAME, cache);
    let line = format!("download the device trees of Debian {}: {}", SID.name, KERNELS.join(" "));
    if is_there { Vec::new() } else { vec![line] }
}
