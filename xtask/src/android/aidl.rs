// SPDX-License-Identifier: Apache-2.0
//! AOSP's own AIDL compiler, from Debian's package, run from a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::run;
use crate::tools::cache_dir;
use crate::vm::kernel::apt::{Apt, Suite};

/// Older releases of Debian have a compiler without `@VintfStability` for Rust, so it comes from the newest one, with
/// that one's C library.
const SUITE: Suite = Suite { archive: "Debian", name: "sid" };

/// The package with the compiler, and those that it needs to run.
const PACKAGES: [&str; 8] = [
    "aidl",
    "android-libbase",
    "android-libcutils",
    "android-liblog",
    "libatomic1",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
];

/// The interface's package, as a path.
const PACKAGE: &str = "vendor/anion/allocator";

/// What the interface says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) version: u32,
    pub(crate) hash: String,
}

/// The compiler.
#[derive(Debug)]
pub(crate) struct Aidl {
    /// The directory with its packages unpacked.
    root: PathBuf,
}

impl Aidl {
    /// The newest compiler, downloaded unless it is in the cache.
    ///
    /// # Errors
    /// If it can neither be downloaded nor found, or this machine is neither x86-64 nor arm64.
    pub(crate) fn find() -> Result<Self> {
        let cache = cache_dir()?;
        let tools = cache.join("tools");
        fs::create_dir_all(&tools).context("no directory for tools")?;
        let aidl = match download(&cache, &tools) {
            Ok(root) => Self { root },
            Err(error) => match cached(&tools) {
                Some(root) => {
                    println!("{error:#}; taking the AIDL compiler of the cache");
                    Self { root }
                }
                None => return Err(error),
            },
        };
        aidl.command().map(|_| aidl)
    }

    /// The program under the loader and the libraries of its own release.
    fn command(&self) -> Result<Command> {
        let (triple, loader) = match std::env::consts::ARCH {
            "x86_64" => ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
            "aarch64" => ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
            other => bail!("where the AIDL compiler is on {other} is not known"),
        };
        let libraries = self.root.join("usr/lib").join(triple);
        let mut command = Command::new(libraries.join(loader));
        let path = [libraries.clone(), libraries.join("android")];
        let path = std::env::join_paths(path).context("the cache's path has a colon")?;
        command.arg("--library-path").arg(path);
        command.arg(self.root.join("usr/lib/android-sdk/build-tools/debian/aidl"));
        Ok(command)
    }

    /// Compiles the interface below `sources` for one language into `to`; it will give this answer.
    ///
    /// # Errors
    /// As the compiler says.
    pub(crate) fn compile(&self, language: &str, answer: &Answer, sources: &Path, to: &Path) -> Result<()> {
        fs::create_dir_all(to).with_context(|| to.display().to_string())?;
        let mut command = self.command()?;
        command.arg(format!("--lang={language}")).args(["--structured", "--stability=vintf", "-Werror"]);
        command.arg(format!("--version={}", answer.version)).arg(format!("--hash={}", answer.hash));
        command.args(["--omit_invocation", "-I", ".", "-o"]).arg(to);
        if matches!(language, "cpp" | "ndk") {
            command.arg("-h").arg(to.join("include"));
        }
        run(command.current_dir(sources).args(files(sources)?))
    }

    /// Writes the API below `sources`, without comments and with every name in full, below `to`.
    ///
    /// # Errors
    /// As the compiler says.
    pub(crate) fn dump(&self, sources: &Path, to: &Path) -> Result<()> {
        let mut command = self.command()?;
        command.args(["--dumpapi", "--structured", "--stability=vintf", "-I", ".", "-o"]).arg(to);
        run(command.current_dir(sources).args(files(sources)?))
    }

    /// Whether the API below `new` is `compatible` with the one below `old`, or `equal`.
    ///
    /// # Errors
    /// If it is not; the compiler says what differs.
    pub(crate) fn check(&self, level: &str, old: &Path, new: &Path) -> Result<()> {
        let mut command = self.command()?;
        run(command
            .arg(format!("--checkapi={level}"))
            .args(["--structured", "--stability=vintf"])
            .args([old, new]))
    }
}

/// The interface's files, as the compiler wants them named.
fn files(sources: &Path) -> Result<Vec<PathBuf>> {
    let folder = sources.join(PACKAGE);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "aidl") {
            files.push(Path::new(PACKAGE).join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// The directory with the newest compiler.
fn download(cache: &Path, tools: &Path) -> Result<PathBuf> {
    let apt = Apt::of_suite(&SUITE, cache)?;
    let attempt = || -> Result<PathBuf> {
        let place = tools.join(directory_name(&apt.version(PACKAGES[0])?));
        if place.is_dir() {
            return Ok(place);
        }
        let scratch = tempfile::tempdir_in(tools).context("no scratch directory in the cache")?;
        for package in PACKAGES {
            apt.unpack(package, &apt.version(package)?, &scratch.path().join("root"))?;
        }
        match fs::rename(scratch.path().join("root"), &place) {
            // Another run may have been quicker.
            Err(error) if !place.is_dir() => Err(error).context("cannot move the AIDL compiler to its place"),
            _ => Ok(place),
        }
    };
    // Lists older than the mirror name files that are gone.
    attempt().or_else(|_| {
        apt.refresh()?;
        attempt()
    })
}

fn directory_name(version: &str) -> String {
    format!("aidl-{}", version.replace([':', '/'], "_"))
}

/// The newest compiler of the cache.
fn cached(tools: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(tools).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("aidl-")).max().map(|name| tools.join(name))
}
