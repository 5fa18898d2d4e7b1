// SPDX-License-Identifier: Apache-2.0
//! A device of the kernel's graphics drivers, for the examples that give it buffers.

use anyhow::{Context, Result};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// An open device.
pub(super) struct Card(File);

impl Card {
    /// Opens the device at `path` for reading and writing.
    ///
    /// # Errors
    /// As open(2); the message names the path.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        Ok(Self(file.with_context(|| format!("cannot open {}", path.display()))?))
    }
}

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}
