// SPDX-License-Identifier: Apache-2.0
//! The project's tasks: `cargo xtask test` checks everything, `cargo xtask vm` tests over kernel
//! binder in a guest, `cargo xtask observe` records the system calls of the service, `cargo xtask
//! fresh` runs README.md's commands on a machine that has only Debian 12 and Rust, `cargo xtask
//! fuzz` runs the fuzzers, `cargo xtask faults` makes system calls of the service fail, `cargo
//! xtask chaos` stops and kills clients and the service while resources fail, `cargo xtask trees`
//! reads a folder of device trees, `cargo xtask install` installs the service and its command line,
//! `cargo xtask dist` builds a Debian package of both, `cargo xtask install-c` installs the client
//! library for C and C++.

mod aidl_code;
mod android;
mod browser;
mod chaos;
mod conformance;
mod cross;
mod debian;
mod deny;
mod faults;
mod fresh;
mod fuzz;
mod huge;
mod install;
mod libanion;
mod needs;
mod observe;
mod process;
mod python;
mod readme;
mod release;
mod report;
mod sepolicy;
mod server;
mod soak;
mod steps;
mod tally;
mod tools;
mod trees;
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
    Observe(observe::ObserveArgs),
    Fresh(fresh::FreshArgs),
    Fuzz(fuzz::FuzzArgs),
    Faults(faults::FaultsArgs),
    Chaos(chaos::ChaosArgs),
    Trees(trees::TreesArgs),
    SepolicyReal(sepolicy::RealArgs),
    #[command(hide = true)]
    Fold(observe::FoldArgs),
    Install(install::InstallArgs),
    Dist(install::DistArgs),
    InstallC(libanion::InstallArgs),
    /// Generate the Rust code of the AIDL files
    AidlCode,
    /// Take the screenshots of docs/ with Chromium
    Screenshots,
    /// Generate client/c/include/anion.h from the Rust sources
    CHeader,
    /// Write the interface of the present AIDL files to aidl_api's `current`
    UpdateApi,
    /// Freeze the interface of the present AIDL files as the next version; this cannot be undone
    FreezeApi,
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Test(args) => steps::test(&args),
        Task::Vm(args) => vm::run(&args, &mut Tally::default()),
        Task::Observe(args) => observe::run(&args),
        Task::Fresh(args) => fresh::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Faults(args) => faults::run(&args),
        Task::Chaos(args) => chaos::run(&args),
        Task::Trees(args) => trees::run(&args),
        Task::SepolicyReal(args) => sepolicy::compile_real(&args),
        Task::Fold(args) => observe::fold(&args),
        Task::Install(args) => install::install(&args),
        Task::Dist(args) => install::dist(&args),
        Task::InstallC(args) => libanion::install(&args),
        Task::AidlCode => aidl_code::write(),
        Task::Screenshots => browser::write(),
        Task::CHeader => libanion::write_header(),
        Task::UpdateApi => android::update_api(),
        Task::FreezeApi => android::freeze_api(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
