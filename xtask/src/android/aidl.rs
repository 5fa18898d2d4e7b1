// SPDX-License-Identifier: Apache-2.0
//! Runs AOSP's own AIDL compiler, from Debian's package, in a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::debian::{Bundle, SID, Tree};
use crate::process::run;
use crate::tools::cache_dir;

/// The compiler and its dependencies. Older releases of Debian have a compiler without
/// `@VintfStability` for Rust, so it comes from the newest one, with the C library of that release.
pub(crate) const COMPILER: Bundle =
    Bundle { name: "aidl", suite: &SID, with_dependencies: &["aidl"], alone: &[] };

/// The interface's package, as a path.
pub(super) const PACKAGE: &str = "vendor/anion/allocator";

/// The version and hash that the interface reports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) version: u32,
    pub(crate) hash: String,
}

/// The compiler.
#[derive(Debug)]
pub(crate) struct Aidl {
    /// The unpacked packages.
    tree: Tree,
}

impl Aidl {
    /// Returns the newest compiler, downloaded unless it is in the cache.
    ///
    /// # Errors
    /// If it can neither be downloaded nor found in the cache, or this machine is neither x86-64
    /// nor arm64.
    pub(crate) fn find() -> Result<Self> {
        let aidl = Self { tree: COMPILER.obtain(&cache_dir()?)? };
        aidl.command().map(|_| aidl)
    }

    fn command(&self) -> Result<Command> {
        self.tree.program("usr/lib/android-sdk/build-tools/debian/aidl")
    }

    /// Compiles a package below `sources` for one language into `to`. The generated interfaces
    /// return this version and hash.
    ///
    /// # Errors
    /// The error of the compiler.
    pub(crate) fn compile(
        &self,
        language: &str,
        answer: &Answer,
        (sources, package): (&Path, &str),
        to: &Path,
    ) -> Result<()> {
        fs::create_dir_all(to).with_context(|| to.display().to_string())?;
        let mut command = self.command()?;
        command.arg(format!("--lang={language}")).args(["--structured", "--stability=vintf", "-Werror"]);
        command.arg(format!("--version={}", answer.version)).arg(format!("--hash={}", answer.hash));
        command.args(["--omit_invocation", "-I", ".", "-o"]).arg(to);
        if matches!(language, "cpp" | "ndk") {
            command.arg("-h").arg(to.join("include"));
        }
        run(command.current_dir(sources).args(files(sources, package)?))
    }

    /// Writes the API below `sources`, without comments and with all names fully qualified, below
    /// `to`.
    ///
    /// # Errors
    /// The error of the compiler.
    pub(crate) fn dump(&self, sources: &Path, to: &Path) -> Result<()> {
        let mut command = self.command()?;
        command.args(["--dumpapi", "--structured", "--stability=vintf", "-I", ".", "-o"]).arg(to);
        run(command.current_dir(sources).args(files(sources, PACKAGE)?))
    }

    /// Checks whether the API below `new` is `compatible` with the one below `old`, or `equal`.
    ///
    /// # Errors
    /// If it is not; with the compiler's list of differences.
    pub(crate) fn check(&self, level: &str, old: &Path, new: &Path) -> Result<()> {
        let mut command = self.command()?;
        run(command
            .arg(format!("--checkapi={level}"))
            .args(["--structured", "--stability=vintf"])
            .args([old, new]))
    }
}

/// Returns a package's files, with the paths that the compiler requires.
fn files(sources: &Path, package: &str) -> Result<Vec<PathBuf>> {
    let folder = sources.join(package);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "aidl") {
            files.push(Path::new(package).join(name));
        }
    }
    files.sort();
    Ok(files)
}
