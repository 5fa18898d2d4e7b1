// SPDX-License-Identifier: Apache-2.0
//! Builds and checks for other architectures with Debian's Rust, whose standard libraries for all
//! of them are packages.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::debian::{Bundle, SID};
use crate::process::{cargo, output_of, run, workspace_root};
use crate::release::{PROGRAMS, archive};
use crate::tally::Tally;
use crate::tools::cache_dir;

/// The compiler, its libraries, and the standard library of this machine and of the others.
pub(crate) const RUST: Bundle = Bundle {
    name: "rust",
    suite: &SID,
    with_dependencies: &["libstd-rust-dev"],
    // With its dependencies, Debian's compiler would include a C compiler of its release.
    alone: &["rustc", "libstd-rust-dev:arm64", "libstd-rust-dev:armhf", "libstd-rust-dev:i386"],
};

/// An architecture that programs are built for.
#[derive(Debug)]
pub(crate) struct Target {
    /// Rust's name for it.
    pub(crate) triple: &'static str,
    /// The linker of its programs.
    linker: &'static str,
    pub(crate) strip: &'static str,
    /// The folder of the loader and the libraries that its programs need.
    pub(crate) libraries: &'static str,
}

/// 64-bit ARM.
pub(crate) const ARM64: Target = Target {
    triple: "aarch64-unknown-linux-gnu",
    linker: "aarch64-linux-gnu-gcc",
    strip: "aarch64-linux-gnu-strip",
    libraries: "/usr/aarch64-linux-gnu/lib",
};

/// Targets with pointers of 32 bits, which are type-checked.
const NARROW: [&str; 2] = [ARM32, "i686-unknown-linux-gnu"];
/// The 32-bit target for which programs are also linked.
const ARM32: &str = "armv7-unknown-linux-gnueabihf";

/// Between a debug build, which is too slow under emulation, and a release build, which takes too
/// long.
const PROFILE: &str = "guest";

/// Debian's Rust.
#[derive(Debug)]
pub(crate) struct Rust {
    /// A program that executes the compiler.
    rustc: PathBuf,
    /// The build directory of cargo.
    target_dir: PathBuf,
}

impl Rust {
    /// Returns Debian's newest Rust, downloaded unless it is in the cache.
    ///
    /// # Errors
    /// If it can neither be downloaded nor found in the cache.
    pub(crate) fn find() -> Result<Self> {
        let tree = RUST.obtain(&cache_dir()?)?;
        let command = tree.program("usr/bin/rustc")?;
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Option<Vec<&str>> = words.map(|word| word.to_str()).collect();
        let words = words.context("the cache's path is not UTF-8")?.join("' '");
        let rustc = tree.path("rustc");
        let sysroot = tree.path("usr");
        // Cargo requires the compiler as one word. The compiler's default sysroot is a path where
        // it is not installed.
        let script = format!("#!/bin/sh\nexec '{words}' --sysroot '{}' \"$@\"\n", sysroot.display());
        if fs::read_to_string(&rustc).ok().as_ref() != Some(&script) {
            fs::write(&rustc, script).with_context(|| format!("cannot write {}", rustc.display()))?;
            fs::set_permissions(&rustc, Permissions::from_mode(0o755))
                .context("cannot make the compiler script executable")?;
        }
        Ok(Self { rustc, target_dir: workspace_root().join("target/cross") })
    }

    /// Returns cargo with this compiler, for the programs of a device.
    pub(crate) fn cargo(&self, verb: &str) -> Command {
        let mut command = cargo();
        command.args([verb, "--bins", "--profile", PROFILE]).args(PROGRAMS);
        self.equip(&mut command);
        command
    }

    /// Sets this compiler for a cargo command.
    pub(crate) fn equip(&self, command: &mut Command) {
        command.env("RUSTC", &self.rustc).env("CARGO_TARGET_DIR", &self.target_dir);
    }
}

impl Target {
    /// Returns the suffix of its build directories in the cache.
    pub(crate) fn suffix(&self) -> String {
        format!("-{}", self.triple)
    }

    /// Sets this target for a cargo command.
    pub(crate) fn equip(&self, command: &mut Command) {
        let name = self.triple.to_uppercase().replace('-', "_");
        command.args(["--target", self.triple]).env(format!("CARGO_TARGET_{name}_LINKER"), self.linker);
    }
}

/// Checks that the programs, libanion and the mapper type-check with 32-bit pointers, including the
/// layouts that `sys` asserts, and that C programs link with libanion there.
///
/// # Errors
/// If a check fails, or Debian's Rust is unavailable.
pub(crate) fn check(tally: &mut Tally) -> Result<()> {
    let rust = Rust::find()?;
    let mut command = rust.cargo("check");
    command.args(["--lib", "--package", "anion-c", "--package", "anion-mapper"]);
    command.args(NARROW.iter().flat_map(|triple| ["--target", triple]));
    run(&mut command)?;
    for triple in NARROW {
        println!("{triple}: type-checked");
        *tally += Tally::one(true);
    }
    link_programs(&rust, tally)
}

/// Compiles the tests of libanion in C for 32-bit ARM and links them with the library.
fn link_programs(rust: &Rust, tally: &mut Tally) -> Result<()> {
    let mut command = cargo();
    command.args(["build", "--package", "anion-c", "--target", ARM32]);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    rust.equip(&mut command);
    let archive = archive(&output_of(&mut command)?, "anion_c").context("cargo made no libanion_c.a")?;

    let source = workspace_root().join("client/c");
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let files = fs::read_dir(source.join("tests")).context("cannot list the tests of libanion")?;
    for file in files {
        let file = file.context("cannot list the tests of libanion")?.path();
        if file.extension() != Some(OsStr::new("c")) {
            continue;
        }
        let mut command = Command::new("arm-linux-gnueabihf-gcc");
        command.args(["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror"]);
        let version = format!("-DANION_TEST_VERSION=\"{}\"", env!("CARGO_PKG_VERSION"));
        command.arg(version).arg("-I").arg(source.join("include"));
        command.arg(&file).arg(&archive).args(["-lgcc_s", "-lpthread", "-ldl", "-lm", "-o"]);
        run(command.arg(scratch.path().join("program")))?;
        *tally += Tally::one(true);
    }
    println!("{ARM32}: the programs in C are linked");
    Ok(())
}
