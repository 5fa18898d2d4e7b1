// SPDX-License-Identifier: Apache-2.0
//! Runs the soak: many allocations and releases by clients that die at random.

use anyhow::Result;

use crate::process::cargo;
use crate::steps::run_tests;
use crate::tally::Tally;

/// Client operations, of which each allocates about two buffers.
const OPERATIONS: &str = "300000";

/// Runs the soak with an optimised, confined service, for the test command.
///
/// # Errors
/// If it fails.
pub(crate) fn test(tally: &mut Tally) -> Result<()> {
    let mut soak = cargo();
    soak.args(["test", "--release", "--test", "soak", "--", "--nocapture"]);
    soak.env("ANION_SOAK_OPERATIONS", OPERATIONS).env("ANION_SECCOMP", "built-in");
    run_tests(&mut soak, tally)
}
