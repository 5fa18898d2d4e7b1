// SPDX-License-Identifier: Apache-2.0
//! The project's tasks: `cargo xtask test` checks everything, `cargo xtask vm` tests over kernel binder in a guest.

mod huge;
mod process;
mod readme;
mod release;
mod sepolicy;
mod server;
mod steps;
mod tally;
mod tools;
mod vm;

use std::process::ExitCode;

use clap::Parser;

use self::tally::Tally;

/// The project's tasks
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Test(steps::TestArgs),
    Vm(vm::VmArgs),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Test(args) => steps::test(&args),
        Task::Vm(args) => vm::run(&args, &mut Tally::default()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
