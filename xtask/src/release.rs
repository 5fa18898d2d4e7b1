// SPDX-License-Identifier: Apache-2.0
//! Builds the release programs that the black-box tests run.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cross::{Rust, Target};
use crate::process::{cargo, output_of};

/// The packages of the programs, for cargo.
pub(crate) const PROGRAMS: [&str; 6] =
    ["--package", "anion", "--package", "anion-vts", "--package", "anion-contract"];

/// The package of the mapper.
const MAPPER_PACKAGE: &str = "anion-mapper";
/// The benchmark's target.
const BENCHMARK: &str = "allocate";

/// The paths of the release programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) aniond: PathBuf,
    pub(crate) anionctl: PathBuf,
    pub(crate) vts: PathBuf,
    pub(crate) contract: PathBuf,
}

/// Builds the service, its command line, the conformance suite and the contract table, as far as
/// they are out of date.
///
/// # Errors
/// If the build fails, or one of the programs is missing.
pub(crate) fn build() -> Result<Programs> {
    println!("building the release programs");
    let mut command = cargo();
    programs(&messages_of(command.args(["build", "--release", "--bins"]).args(PROGRAMS))?)
}

/// Builds the same for another architecture, for an emulated machine, and the mapper.
///
/// # Errors
/// As `build`, and if the compiler is unavailable.
pub(crate) fn build_for(target: &Target, rust: &Rust) -> Result<(Programs, PathBuf)> {
    println!("building the programs for {}", target.triple);
    let mut command = rust.cargo("build");
    command.args(["--lib", "--package", MAPPER_PACKAGE]);
    target.equip(&mut command);
    let messages = messages_of(&mut command)?;
    Ok((programs(&messages)?, mapper(&messages)?))
}

/// Runs a build, and returns cargo's messages.
fn messages_of(command: &mut Command) -> Result<String> {
    output_of(command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit()))
}

/// Returns the programs of a build.
fn programs(messages: &str) -> Result<Programs> {
    let find = |name: &str| {
        executable(messages, name)
            .with_context(|| format!("cargo made no program {name} in the release build"))
    };
    Ok(Programs {
        aniond: find("aniond")?,
        anionctl: find("anionctl")?,
        vts: find("anion-vts")?,
        contract: find("anion-contract")?,
    })
}

/// Builds an example if it is out of date.
///
/// # Errors
/// If the build fails, or the example is missing.
pub(crate) fn build_example(name: &str) -> Result<PathBuf> {
    build_one(&["build", "--release", "--example", name], name)
}

/// Builds a test program of the service if it is out of date.
///
/// # Errors
/// If the build fails, or the program is missing.
pub(crate) fn build_test(name: &str) -> Result<PathBuf> {
    build_one(&["test", "--release", "--no-run", "--package", "anion", "--test", name], name)
}

/// Builds the benchmark if it is out of date.
///
/// # Errors
/// If the build fails, or the benchmark is missing.
pub(crate) fn build_benchmark() -> Result<PathBuf> {
    build_one(&["bench", "--no-run", "--bench", BENCHMARK], BENCHMARK)
}

/// Runs cargo with these arguments, and returns the program of this name that it made.
fn build_one(arguments: &[&str], name: &str) -> Result<PathBuf> {
    let messages = messages_of(cargo().args(arguments))?;
    executable(&messages, name)
        .with_context(|| format!("`cargo {}` made no program {name}", arguments.join(" ")))
}

/// Returns the path of a program in cargo's messages (`--message-format=json`).
pub(crate) fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_wanted = message["reason"] == "compiler-artifact" && message["target"]["name"] == name;
        message["executable"].as_str().filter(|_| is_wanted).map(PathBuf::from)
    })
}

/// Builds the mapper as its clients load it, as far as cargo links it, if it is out of date.
///
/// # Errors
/// If the build fails, or the mapper is missing.
pub(crate) fn build_mapper() -> Result<PathBuf> {
    let mut command = cargo();
    // With the programs' packages: a separate build would compile crates again with fewer features.
    command.args(["build", "--release", "--lib", "--package", MAPPER_PACKAGE]).args(PROGRAMS);
    mapper(&messages_of(&mut command)?)
}

/// Returns the mapper of a build.
fn mapper(messages: &str) -> Result<PathBuf> {
    library(messages, "anion_mapper", ".so").context("cargo made no mapper")
}

/// Returns the path of a static library in cargo's messages.
pub(crate) fn archive(messages: &str, name: &str) -> Option<PathBuf> {
    library(messages, name, ".a")
}

/// Returns the path of the library with this suffix.
fn library(messages: &str, name: &str, end: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let files = message["filenames"].as_array().filter(|_| message["target"]["name"] == name)?;
        files.iter().filter_map(Value::as_str).find(|file| file.ends_with(end)).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"aniond"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"aniond"},"executable":"/t/release/aniond"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "aniond"), Some("/t/release/aniond".into()));
        assert_eq!(executable(messages, "anionctl"), None);
    }
}
