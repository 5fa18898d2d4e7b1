// SPDX-License-Identifier: Apache-2.0
//! Installs the Python package as a user does, builds its wheel, and tests it against the real
//! service.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::{forget_package, path_with, run, without_settings, workspace_root};
use crate::release;
use crate::steps::run_tests;
use crate::tally::Tally;
use crate::tools::cache_dir;

/// The package, from the root of the checkout.
const PACKAGE: &str = "./client/python";

/// The part of a wheel's name that means every CPython from 3.11 on.
const EVERY_PYTHON: &str = "-cp311-abi3-linux_";

/// The directory of pip's downloads, in the cache.
const DOWNLOADS: &str = "pip";

/// Returns the names of files that the step would download into the cache.
pub(crate) fn unfetched(cache: &Path) -> Vec<String> {
    let is_there = cache.join(DOWNLOADS).is_dir();
    let line = format!("download the Python packages that build and test {PACKAGE}, 50 MiB");
    (!is_there).then_some(line).into_iter().collect()
}

/// Installs the package into a virtual environment with Debian's Python, builds its wheel, compares
/// it with its type stubs and runs its tests.
///
/// # Errors
/// If the package cannot be built or is not for every Python version, or a check or a test fails.
pub(crate) fn test(tally: &mut Tally) -> Result<()> {
    let service = release::build()?.aniond;
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let [venv, wheels] = ["venv", "wheels"].map(|name| scratch.path().join(name));
    run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&venv))?;
    run(pip(&venv, "install")?.arg(PACKAGE))?;
    run(pip(&venv, "wheel")?.args(["--no-deps", "--wheel-dir"]).arg(&wheels).arg(PACKAGE))?;
    say_wheel(&wheels)?;
    let package = workspace_root().join(PACKAGE);
    let requirements = package.join("tests/requirements.txt");
    run(pip(&venv, "install")?.args(["--no-deps", "--only-binary", ":all:", "-r"]).arg(requirements))?;

    let in_package = |module: &str| {
        let mut python = python(&venv);
        python.args(["-m", module]).current_dir(&package);
        python
    };
    let types = scratch.path().join("types");
    run(in_package("mypy").arg("--cache-dir").arg(&types).arg("tests"))?;
    *tally += Tally::one(true);
    let allowlist = ["--allowlist", "tests/stubtest-allowlist.txt"];
    run(in_package("mypy.stubtest").args(["--mypy-config-file", "pyproject.toml", "anion"]).args(allowlist))?;
    *tally += Tally::one(true);
    let mut tests = in_package("pytest");
    tests.args(["-p", "no:cacheprovider", "--basetemp"]).arg(scratch.path().join("tests"));
    run_tests(tests.env("ANION_TEST_SERVICE", service).env("ANION_SECCOMP", "built-in"), tally)
}

/// Returns the environment's Python, without this program's own settings.
fn python(venv: &Path) -> Command {
    let mut python = Command::new(venv.join("bin/python"));
    python.current_dir(workspace_root()).env("PYTHONDONTWRITEBYTECODE", "1");
    without_settings(&mut python);
    forget_package(&mut python);
    python
}

/// Returns pip, which uses the cargo that started this program.
fn pip(venv: &Path, command: &str) -> Result<Command> {
    let mut pip = python(venv);
    if let Some(folder) = std::env::var_os("CARGO").as_deref().and_then(|cargo| Path::new(cargo).parent()) {
        pip.env("PATH", path_with(folder));
    }
    pip.args(["-m", "pip", command, "--quiet", "--disable-pip-version-check"]);
    pip.env("PIP_CACHE_DIR", cache_dir()?.join(DOWNLOADS));
    Ok(pip)
}

/// Prints the name of the wheel.
fn say_wheel(wheels: &Path) -> Result<()> {
    let entry = fs::read_dir(wheels).context("pip made no wheel")?.next().context("pip made no wheel")??;
    let (name, bytes) = (entry.file_name(), entry.metadata()?.len());
    let name = name.to_string_lossy();
    ensure!(
        name.contains(EVERY_PYTHON),
        "the name of the wheel is {name}, but it must contain {EVERY_PYTHON}, for every CPython from 3.11 on"
    );
    println!("made {name}, {} KiB", bytes / 1024);
    Ok(())
}
