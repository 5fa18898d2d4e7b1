// SPDX-License-Identifier: Apache-2.0
//! Provides the programs that the tasks need, from Debian's packages, or from crates that are built
//! into a cache.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::cross::{Rust, Target};
use crate::process::{cargo, find_program, output_of, run};

/// A program and its Debian package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    /// Its name in `PATH`, or the absolute path of any file.
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// A crate whose programs are built once into the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CrateTool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) programs: &'static [&'static str],
    /// The build arguments of `cargo install`.
    options: &'static [&'static str],
}

impl CrateTool {
    /// Returns its path in the cache; the suffix identifies another architecture. The path contains
    /// the version, so an existing program is the right one.
    fn place(&self, cache: &Path, suffix: &str) -> PathBuf {
        cache.join("tools").join(format!("{}-{}{suffix}", self.name, self.version))
    }

    fn is_in(&self, root: &Path) -> bool {
        self.programs.iter().all(|program| root.join("bin").join(program).is_file())
    }

    /// Returns a message that it will be built, for this machine or another, unless it is in the
    /// cache.
    pub(crate) fn unbuilt(&self, cache: &Path, target: Option<&Target>) -> Option<String> {
        let suffix = target.map_or(String::new(), Target::suffix);
        let is_built = self.is_in(&self.place(cache, &suffix));
        (!is_built).then(|| format!("build {} {}{suffix}", self.name, self.version))
    }
}

/// The service manager for kernel binder outside Android, and its command line.
pub(crate) const RSBINDER_TOOLS: CrateTool = CrateTool {
    name: "rsbinder-tools",
    version: "0.12.0",
    programs: &["rsb_hub", "rsb_service"],
    // It only resolves a service's name from time to time: an optimised build would take longer
    // than it saves.
    options: &["--debug"],
};

/// The test runner. Any installed version is used.
pub(crate) const NEXTEST: CrateTool = CrateTool {
    name: "cargo-nextest",
    version: "0.9.143",
    programs: &["cargo-nextest"],
    // It is needed once, and early: the build has no optimisation and no self-updater.
    options: &["--debug", "--no-default-features", "--features", "default-no-update"],
};

/// The generator of the C header. It is not linked.
pub(crate) const CBINDGEN: CrateTool =
    CrateTool { name: "cbindgen", version: "0.29.4", programs: &["cbindgen"], options: &["--debug"] };

/// Checks the linked crates against `deny.toml`. Any installed version is used.
pub(crate) const DENY: CrateTool = CrateTool {
    name: "cargo-deny",
    version: "0.20.2",
    programs: &["cargo-deny"],
    // It runs for three seconds in this form, and its build takes 75 on two cores.
    options: &["--debug"],
};

/// Returns the directory for files that are downloaded or built once, outside the tree:
/// `$ANION_CACHE`, else `$XDG_CACHE_HOME/anion`, else `~/.cache/anion`. Creates it.
///
/// # Errors
/// If none of the variables is set or the directory cannot be created.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let from = |name: &str, below: &str| {
        std::env::var_os(name).filter(|value| !value.is_empty()).map(|value| Path::new(&value).join(below))
    };
    let dir = from("ANION_CACHE", "")
        .or_else(|| from("XDG_CACHE_HOME", "anion"))
        .or_else(|| from("HOME", ".cache/anion"))
        .context("cannot choose a directory for the cache: set ANION_CACHE, XDG_CACHE_HOME or HOME")?;
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create the cache {}", dir.display()))?;
    dir.canonicalize().with_context(|| format!("cannot use the cache {}", dir.display()))
}

/// Returns whether this process may install packages.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Checks that every tool exists; as root, installs the missing ones.
///
/// # Errors
/// If tools are missing and cannot be installed; the message names their packages and the command.
pub(crate) fn ensure_tools(tools: &[Tool]) -> Result<()> {
    let missing = missing(tools, |program| find_program(program).is_some());
    if missing.is_empty() {
        println!("all required Debian packages are installed");
        return Ok(());
    }
    let install = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !is_root() {
        bail!("missing Debian packages: {}; install them as root with: {install}", missing.join(", "));
    }
    // The package lists are empty on a new machine and outdated on an old one.
    if install_packages(&missing).is_err() {
        apt_update()?;
        install_packages(&missing)
            .with_context(|| format!("cannot install missing Debian packages with: {install}"))?;
    }
    match self::missing(tools, |program| find_program(program).is_some()).as_slice() {
        [] => Ok(()),
        left => bail!("the packages {} are installed, but their programs are not in PATH", left.join(", ")),
    }
}

/// Returns the packages of the missing tools, each once, sorted.
fn missing(tools: &[Tool], is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let packages: BTreeSet<_> =
        tools.iter().filter(|tool| !is_there(tool.program)).map(|tool| tool.package).collect();
    packages.into_iter().collect()
}

/// Prints which packages will be installed, with their dependencies, and installs them.
fn install_packages(packages: &[&str]) -> Result<()> {
    let planned = output_of(apt_install(packages).arg("--simulate"))?;
    let others: Vec<&str> = installed(&planned).filter(|name| !packages.contains(name)).collect();
    println!("installing {}", packages.join(" "));
    if !others.is_empty() {
        println!("installing {} dependencies of these packages: {}", others.len(), others.join(" "));
    }
    run(apt_install(packages).arg("-qq"))
}

fn apt_install(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["install", "-y", "--no-install-recommends"]).args(packages);
    command
}

/// Returns the packages in the output of a simulated apt-get installation.
fn installed(planned: &str) -> impl Iterator<Item = &str> {
    planned.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
}

/// Downloads the package lists.
///
/// # Errors
/// If apt fails, or this process is not root.
pub(crate) fn apt_update() -> Result<()> {
    run(Command::new("apt-get").args(["-qq", "update"]))
}

/// Returns the directory with the programs of `tool`, which are built at first use.
///
/// # Errors
/// If the build fails.
pub(crate) fn ensure_crate(tool: CrateTool) -> Result<PathBuf> {
    ensure_built(tool, "", |install| {
        install.args(tool.options).env("CARGO_TARGET_DIR", cache_dir()?.join("target"));
        Ok(())
    })
}

/// Returns the same for another architecture.
///
/// # Errors
/// If the build fails.
pub(crate) fn ensure_crate_for(tool: CrateTool, target: &Target, rust: &Rust) -> Result<PathBuf> {
    ensure_built(tool, &target.suffix(), |install| {
        rust.equip(install);
        target.equip(install.args(tool.options));
        Ok(())
    })
}

fn ensure_built(
    tool: CrateTool,
    suffix: &str,
    equip: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<PathBuf> {
    let root = tool.place(&cache_dir()?, suffix);
    let bin = root.join("bin");
    if tool.is_in(&root) {
        return Ok(bin);
    }
    println!("building {} {} into {}, once", tool.name, tool.version, root.display());
    let mut install = cargo();
    install.args(["install", tool.name, "--version", tool.version, "--locked", "--force", "-j2", "--root"]);
    install.env("CARGO_PROFILE_DEV_DEBUG", "false");
    install.arg(&root).args(tool.programs.iter().flat_map(|program| ["--bin", program]));
    equip(&mut install)?;
    run(&mut install)?;
    Ok(bin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_package_is_named_once() {
        let tools = [
            Tool { program: "a", package: "pa" },
            Tool { program: "b", package: "pb" },
            Tool { program: "b2", package: "pb" },
        ];
        assert_eq!(missing(&tools, |program| program == "a"), ["pb"]);
        assert_eq!(missing(&tools, |_| false), ["pa", "pb"]);
        assert!(missing(&tools, |_| true).is_empty());
    }

    #[test]
    fn new_packages_are_read_from_the_installation_plan() {
        let planned = "Reading package lists...\nInst libelf1 [0.187-1] (0.188-2.1 Debian:12 [amd64])\n\
            Inst libelf-dev (0.188-2.1 Debian:12 [amd64])\nConf libelf-dev (0.188-2.1 Debian:12 [amd64])\n";
        assert_eq!(installed(planned).collect::<Vec<_>>(), ["libelf1", "libelf-dev"]);
    }
}
