// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask faults`: makes the system calls of a running service fail, by strace.

use anyhow::Result;
use clap::Args;

use crate::needs::{LINKER, TRACER};
use crate::steps::{nextest, run_tests};
use crate::tally::Tally;
use crate::tools::ensure_tools;

/// The test, which is a program of its own.
const TEST: [&str; 4] = ["--test", "faults", "--run-ignored", "all"];

/// Make each system call of a running service fail while clients use it
///
/// The list of the system calls is seccomp/observed-x86_64.txt; tests/faults/calls.rs has the
/// errors of each, or the reason why it does not fail. Without --only this takes some minutes.
#[derive(Debug, Args)]
pub(crate) struct FaultsArgs {
    /// Fail only this system call
    #[arg(long, value_name = "SYSCALL")]
    only: Option<String>,
}

/// Injects all errors in all patterns.
///
/// # Errors
/// If strace is missing, or the service did not survive a fault or kept something.
pub(crate) fn run(args: &FaultsArgs) -> Result<()> {
    ensure_tools(&[LINKER, TRACER].concat())?;
    let mut command = nextest()?;
    command.args(TEST).arg("--no-capture").env("ANION_FAULTS", "all");
    if let Some(call) = &args.only {
        command.env("ANION_FAULTS_ONLY", call);
    }
    run_tests(&mut command, &mut Tally::default())
}

/// Injects the first error of each system call, for the test command.
///
/// # Errors
/// As [`run`].
pub(crate) fn test(tally: &mut Tally) -> Result<()> {
    run_tests(nextest()?.args(TEST), tally)
}
