// SPDX-License-Identifier: Apache-2.0
//! Takes the place of the AIDL compiler in the build of rsbinder, whose build script compiles the
//! interfaces of Android's service manager. They are the same in every build, so they are compiled
//! once, by `cargo xtask aidl-code`, into `generated/`. This package has the functions that the
//! build script calls; they copy those files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use thiserror::Error;

/// Why a generated file is not there.
#[derive(Debug, Error)]
pub enum AidlError {
    /// Only cargo names the folder.
    #[error("OUT_DIR is not set: this is for build scripts")]
    NoOutput,
    /// The file is not among those that were generated, or the folder cannot be written.
    #[error("cannot copy {} to {}: {error}; cargo xtask aidl-code generates it", from.display(), to.display())]
    NotCopied {
        /// The file in `generated/`.
        from: PathBuf,
        /// The file in `OUT_DIR`.
        to: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The files have no functions for async callers.
    #[error("rsbinder's feature `async` is on, and the generated interfaces are without it")]
    Async,
}

/// Names one of the generated files.
#[derive(Debug, Default)]
pub struct Builder {
    output: PathBuf,
    is_async: bool,
}

impl Builder {
    /// Returns a builder of no file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ignores the AIDL file: the output's name tells the generated one.
    #[must_use]
    pub fn source(self, _: PathBuf) -> Self {
        self
    }

    /// Ignores whether the code is for rsbinder itself: all of it is.
    #[must_use]
    pub fn set_crate_support(self, _: bool) -> Self {
        self
    }

    /// Sets whether the code is for async callers.
    #[must_use]
    pub fn set_async_support(mut self, is_async: bool) -> Self {
        self.is_async = is_async;
        self
    }

    /// Sets the name of the generated file.
    #[must_use]
    pub fn output(mut self, output: PathBuf) -> Self {
        self.output = output;
        self
    }

    /// Copies the generated file to `OUT_DIR`.
    ///
    /// # Errors
    /// If it cannot be copied, or is not what the caller needs.
    pub fn generate(self) -> Result<(), AidlError> {
        let folder = env::var_os("OUT_DIR").ok_or(AidlError::NoOutput)?;
        self.copy_to(folder)
    }

    fn copy_to(self, folder: OsString) -> Result<(), AidlError> {
        if self.is_async {
            return Err(AidlError::Async);
        }
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated").join(&self.output);
        let to = Path::new(&folder).join(&self.output);
        println!("cargo:rerun-if-changed={}", from.display());
        fs::copy(&from, &to).map(drop).map_err(|error| AidlError::NotCopied { from, to, error })
    }
}
