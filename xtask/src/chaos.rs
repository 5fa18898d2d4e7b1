// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask chaos`: clients, hostile connections, kills, restarts and failing resources in a
//! random order, on this machine or in a guest.

use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::Args;

use crate::needs::LINKER;
use crate::process::cargo;
use crate::steps::run_tests;
use crate::tally::Tally;
use crate::tools::ensure_tools;
use crate::vm::{self, ChaosRun, VmArgs};

/// Stop and kill clients and the service, and make resources fail, at random; compare the accounts
///
/// After each round the resources work again and all clients wait: every heap must serve, and the
/// accounts must agree with the buffers that the clients hold according to /proc. The same seed
/// gives the same events; their results depend on timing. Root can make more resources fail, and
/// most of all a guest.
#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// Duration in minutes
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,

    /// Seed of the order of events; random by default
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// Run in a guest with this kernel, with heaps over its devices and less memory
    #[arg(long, value_name = "NAME", value_parser = vm::chaos_kernels())]
    kernel: Option<String>,
}

/// Runs the test `chaos` for some minutes.
///
/// # Errors
/// If the accounts were wrong, a heap did not serve again, a buffer was not zero or changed, or
/// something of a client was left.
pub(crate) fn run(args: &ChaosArgs) -> Result<()> {
    let seed = args.seed.map_or_else(random_seed, Ok)?;
    if let Some(kernel) = &args.kernel {
        println!("seed {seed}");
        let run = ChaosRun { minutes: args.minutes, seed };
        return vm::run(&VmArgs::with_chaos(kernel, run), &mut Tally::default());
    }
    ensure_tools(LINKER)?;
    on_this_machine(args.minutes, seed, &mut Tally::default())
}

/// Returns a seed that differs from run to run.
///
/// # Errors
/// If the clock is before 1970.
pub(crate) fn random_seed() -> Result<u64> {
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed().context("the clock is before 1970")?;
    Ok(u64::from(since_1970.subsec_nanos()))
}

/// Runs the test on this machine, with a service that is confined to its system calls.
///
/// # Errors
/// As `run`.
pub(crate) fn on_this_machine(minutes: u64, seed: u64, tally: &mut Tally) -> Result<()> {
    println!("seed {seed}");
    let mut command = cargo();
    command.args(["test", "--release", "--package", "anion", "--test", "chaos", "--", "--nocapture"]);
    command.env("ANION_CHAOS_MINUTES", minutes.to_string()).env("ANION_CHAOS_SEED", seed.to_string());
    run_tests(command.env("ANION_SECCOMP", "built-in"), tally)
}
