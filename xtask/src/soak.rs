// SPDX-License-Identifier: Apache-2.0
//! The step `soak` of `cargo xtask test`: many allocations, and two minutes of chaos.

use anyhow::Result;

use crate::chaos;
use crate::process::cargo;
use crate::steps::run_tests;
use crate::tally::Tally;

/// Client operations of the soak, of which each allocates about two buffers.
const OPERATIONS: &str = "300000";
/// Duration of the chaos after it.
const CHAOS_MINUTES: u64 = 2;

/// Runs the soak test, then the test `chaos` with a random seed.
///
/// # Errors
/// If something of a client was left, a buffer was not zero or changed, or an account was wrong.
pub(crate) fn run(tally: &mut Tally) -> Result<()> {
    let mut soak = cargo();
    soak.args(["test", "--release", "--test", "soak", "--", "--nocapture"]);
    soak.env("ANION_SOAK_OPERATIONS", OPERATIONS).env("ANION_SECCOMP", "built-in");
    run_tests(&mut soak, tally)?;
    chaos::on_this_machine(CHAOS_MINUTES, chaos::random_seed()?, tally)
}
