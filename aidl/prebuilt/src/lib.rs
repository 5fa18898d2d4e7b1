// SPDX-License-Identifier: Apache-2.0
//! Takes the place of the AIDL compiler in the build of rsbinder, whose build script compiles the
//! interfaces of Android's service manager. They are the same in every build, so they are compiled
//! once, by `cargo xtask aidl-code`, into `generated/`. This package has the functions that the
//! build script calls; they write those files. It contains them, so that a checkout can be moved
//! with what cargo built in it.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use thiserror::Error;

/// Returns the files of `generated/`, each with its name.
macro_rules! generated {
    ($($name:literal),+ $(,)?) => { [$(($name, include_str!(concat!("../generated/", $name)))),+] };
}

/// The generated files: name and content.
const GENERATED: [(&str, &str); 11] = generated![
    "accessor_16.rs",
    "cancellation_signal.rs",
    "fmq.rs",
    "permission_controller.rs",
    "service_manager_11.rs",
    "service_manager_12.rs",
    "service_manager_13.rs",
    "service_manager_14.rs",
    "service_manager_15.rs",
    "service_manager_16.rs",
    "stream.rs",
];

/// Why a generated file cannot be written.
#[derive(Debug, Error)]
pub enum AidlError {
    /// Only cargo names the folder.
    #[error("OUT_DIR is not set: this is for build scripts")]
    NoOutput,
    /// It is not among the files that were generated.
    #[error("there is no generated {}; aidl/prebuilt/src/lib.rs lists the files of cargo xtask aidl-code", .0.display())]
    Unknown(PathBuf),
    /// The folder cannot be written.
    #[error("cannot write {}: {error}", file.display())]
    NotWritten {
        /// The file in `OUT_DIR`.
        file: PathBuf,
        /// The error of the system.
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

    /// Writes the generated file to `OUT_DIR`.
    ///
    /// # Errors
    /// If there is no such file, it is not what the caller needs, or it cannot be written.
    pub fn generate(self) -> Result<(), AidlError> {
        let folder = env::var_os("OUT_DIR").ok_or(AidlError::NoOutput)?;
        if self.is_async {
            return Err(AidlError::Async);
        }
        let known = GENERATED.iter().find(|(name, _)| self.output == Path::new(name));
        let Some((name, text)) = known else { return Err(AidlError::Unknown(self.output)) };
        let file = Path::new(&folder).join(name);
        fs::write(&file, text).map_err(|error| AidlError::NotWritten { file, error })
    }
}
