// SPDX-License-Identifier: Apache-2.0
//! Runs the examples in tests.

use super::{DEADLINE, Daemon};
use std::path::{Path, PathBuf};

/// Returns the path of the example of this name, in cargo's folder beside the programs under test.
pub(crate) fn path_of(name: &str) -> PathBuf {
    let programs = Path::new(env!("CARGO_BIN_EXE_anionctl")).parent().expect("a directory");
    let example = programs.join("examples").join(name);
    assert!(example.exists(), "{} is missing: run cargo build --examples", example.display());
    example
}

/// Returns the example of this name.
pub(crate) fn example(name: &str) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(path_of(name));
    command.timeout(DEADLINE);
    command
}

/// Returns the error message of the example, with a running service.
pub(crate) fn complaint(name: &str, arguments: &[&str]) -> String {
    let daemon = Daemon::start(&[]);
    let assert = example(name).arg("--socket").arg(daemon.socket()).args(arguments).assert().failure();
    super::anionctl::stderr(assert)
}

/// Checks that the example names the service that it cannot reach.
pub(crate) fn check_that_a_missing_service_is_named(name: &str) {
    let assert = example(name).args(["--socket", "/nowhere/socket"]).assert().failure();
    let message = super::anionctl::stderr(assert);
    assert!(message.contains("/nowhere/socket: there is no socket"), "{message}");
}
