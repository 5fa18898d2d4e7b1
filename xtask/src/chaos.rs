// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask chaos`: clients, hostile connections, kills and restarts in a random order.

use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::Args;

use crate::needs::LINKER;
use crate::process::cargo;
use crate::steps::run_tests;
use crate::tally::Tally;
use crate::tools::ensure_tools;

/// Stop and kill clients and the service at random, and compare the accounts
///
/// After each round all clients wait, and the accounts must agree with the buffers that they hold
/// according to /proc. The same seed gives the same events; their results depend on timing.
#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// Duration in minutes
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,

    /// Seed of the order of events; random by default
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

/// Runs the test `chaos` for some minutes.
///
/// # Errors
/// If the accounts were wrong, a buffer was not zero or changed, or something of a client was left.
pub(crate) fn run(args: &ChaosArgs) -> Result<()> {
    ensure_tools(LINKER)?;
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed().context("the clock is before 1970")?;
    let seed = args.seed.unwrap_or(u64::from(since_1970.subsec_nanos()));
    println!("seed {seed}");
    let mut command = cargo();
    command.args(["test", "--package", "anion", "--test", "chaos", "--", "--nocapture"]);
    command.env("ANION_CHAOS_MINUTES", args.minutes.to_string()).env("ANION_CHAOS_SEED", seed.to_string());
    run_tests(&mut command, &mut Tally::default())
}
