// SPDX-License-Identifier: Apache-2.0
//! Runs other programs and reads their output.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tally::Tally;

/// Returns the checkout from which this task runner was built.
pub(crate) fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Returns the cargo that started this program, in the checkout's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root()).stdin(Stdio::null());
    forget_package(&mut command);
    command
}

/// Removes from `command` the variables that `cargo run` sets for this package, so that no build
/// script sees them.
pub(crate) fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let about_us = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix))
        });
        if about_us {
            command.env_remove(name);
        }
    }
}

/// Returns `command` as a shell line.
pub(crate) fn line_of(command: &Command) -> String {
    let quoted = |word: &OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let mut words: Vec<&OsStr> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    if words.starts_with(&LEASH.map(OsStr::new)) {
        words.drain(..LEASH.len());
    }
    if let Some(cargo) = words.first_mut().filter(|program| Path::new(program).ends_with("cargo")) {
        *cargo = OsStr::new("cargo");
    }
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Runs `command` with inherited output.
///
/// # Errors
/// If it cannot be started or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// Runs `command` and returns its standard output.
///
/// # Errors
/// If it cannot be started, does not exit with 0 or its output is not UTF-8.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let line = line_of(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(output.status.success(), "`{line}` failed: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("the output of `{line}` is not UTF-8"))
}

/// Runs `command` and returns its standard output. Shows its standard error only if it fails.
///
/// # Errors
/// If it cannot be started or does not exit with 0.
pub(crate) fn quietly(command: &mut Command) -> Result<String> {
    let line = line_of(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}` failed: {}\n{}", output.status, complaints.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a test runner with inherited output, and counts the tests that it reports.
///
/// # Errors
/// If it cannot be started. The status and the counts report the results of the tests.
pub(crate) fn count_tests(command: &mut Command) -> Result<(ExitStatus, Tally)> {
    let mut tally = Tally::default();
    let status = each_line(command, |text| {
        println!("{text}");
        if let Some(more) = Tally::from_line(text) {
            tally += more;
        }
    })?;
    Ok((status, tally))
}

/// Runs `command` and calls `take` with each line of its standard output or error.
///
/// # Errors
/// If it cannot be started or its output cannot be read.
pub(crate) fn each_line(command: &mut Command, mut take: impl FnMut(&str)) -> Result<ExitStatus> {
    let line = line_of(command);
    let (reader, writer) = io::pipe().context("cannot create a pipe")?;
    let mut child = command
        .stdout(writer.try_clone().context("cannot create a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    // The command keeps its writing ends: without this, the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for text in lossy_lines(reader) {
        take(&text.with_context(|| format!("cannot read the output of `{line}`"))?);
    }
    child.wait().with_context(|| format!("cannot wait for `{line}`"))
}

/// Returns the lines of `reader` without their line ends; bytes that are not UTF-8 are replaced.
pub(crate) fn lossy_lines(reader: impl io::Read) -> impl Iterator<Item = io::Result<String>> {
    BufReader::new(reader)
        .split(b'\n')
        .map(|line| line.map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned()))
}

/// Returns the directory of cargo's downloads and configuration.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CARGO_HOME").or_else(|| set("HOME").map(|home| home.join(".cargo")))
}

/// Returns the path of `program` in `PATH`.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Arguments that end a program together with the one that started it.
const LEASH: [&str; 4] = ["setpriv", "--pdeathsig", "TERM", "--"];

/// Returns a command that gets SIGTERM when this program ends for any reason.
pub(crate) fn leashed(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(LEASH[0]);
    command.args(&LEASH[1..]).arg(program);
    without_settings(&mut command);
    command
}

/// Removes the settings of the user who started this program (`ANION_CONFIG` and similar) from
/// `command`.
pub(crate) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("ANION_")) {
            command.env_remove(name);
        }
    }
}

/// A process that is killed when this is dropped.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns `PATH` with `directory` in front.
pub(crate) fn path_with(directory: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(all).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("/opt/toolchain/bin/cargo");
        command.args(["nextest", "run", "-E", "test(boards)", "it's", ""]);
        assert_eq!(line_of(&command), r"cargo nextest run -E 'test(boards)' 'it'\''s' ''");
        assert_eq!(line_of(leashed("bash").args(["-c", "true"])), "bash -c true");
    }

    #[test]
    fn tests_are_counted_over_both_streams() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'
            echo '     Summary [   0.2s] 3 tests run: 2 passed, 1 failed, 0 skipped' >&2; exit 3";
        let (status, tally) = count_tests(Command::new("sh").args(["-c", script])).expect("sh runs");
        assert_eq!(status.code(), Some(3));
        assert_eq!(tally, Tally { passed: 4, failed: 1 });
    }
}
