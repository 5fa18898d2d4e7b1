// SPDX-License-Identifier: Apache-2.0
//! `anionctl`: inspects the allocator service, and allocates and checks buffers.
//!
//! It is a plain client of the AIDL interface, with the permissions of its uid and no others.
//! `doctor` executes the service's program, which checks the machine also without a running
//! service.
//!
//! Module map: `args` defines the command line. `alloc` allocates buffers and checks them. Most
//! other commands fetch rows (`rows`) and show them (`output`) as a table or as JSON. `failure`
//! defines the exit codes.

#![deny(unsafe_code)]

mod alloc;
mod args;
mod check;
mod doctor;
mod exec;
mod failure;
mod heaps;
mod help;
mod holders;
mod image;
mod inspect;
mod interrupt;
mod journal;
mod latency;
#[cfg(not(soong))]
mod manual;
mod metrics;
mod output;
mod pressure;
#[cfg(not(soong))]
mod report;
mod request;
mod reserve;
mod restart;
mod rows;
#[cfg(not(soong))]
mod run;
mod sys;
mod table;
mod trace;
mod usage;
mod users;
mod watch;
mod words;

use anion_ipc::{Connection, Endpoint, Found, SERVICE_NAME, Strong};
use args::{Arguments, Command};
#[cfg(not(soong))]
use clap::CommandFactory;
use clap::error::ErrorKind;
use failure::Failure;
use output::Output;
use std::io::{self, Write};
use std::process::ExitCode;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// A connected service.
type Service = Found<dyn IHeapAllocator>;

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let arguments = match args::parse() {
        Ok(arguments) => arguments,
        Err(error) => return report_usage(&error),
    };
    start_log(arguments.global.verbose);
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                // If standard error is closed, the message cannot be reported elsewhere.
                let _ = writeln!(io::stderr(), "anionctl: {message}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs one command.
fn run(arguments: Arguments) -> Result<(), Failure> {
    let output = Output::new(arguments.global.json);
    let named = || arguments.global.endpoint().map_err(Failure::unreachable);
    let by = |opener: fn(&Endpoint) -> io::Result<Connection<_>>| {
        anion_ipc::find(named()?, opener).map_err(Failure::unreachable)
    };
    let connect = || by(|endpoint| anion_ipc::connect(endpoint, SERVICE_NAME, 1));
    // Read-only commands connect as operator, which works also when the service has no free
    // connection.
    let look = || by(|endpoint| anion_ipc::connect_as_operator(endpoint, SERVICE_NAME));
    match arguments.command {
        Command::List => ask(look, |service| heaps::list(service, &output)),
        Command::Alloc(alloc) => alloc::run(&alloc, connect()?, &output),
        Command::Reserve(reserve) => reserve::run(&reserve, connect, &output),
        Command::Stats => ask(look, |service| heaps::stats(service, &output)),
        Command::Usage(args) => ask(look, |service| usage::show(&args, service, &output)),
        Command::Holders(holders) => holders::run(&holders, look(), &output),
        Command::Describe(describe) => {
            // Before connecting: the connection's descriptor would use the first free number.
            let inherited = inspect::inherited(&describe)?;
            inspect::describe(inherited, look()?.interface(), &output)
        }
        Command::Explain(request) => ask(look, |service| inspect::explain(&request, service, &output)),
        Command::Dump(dump) => inspect::dump(&dump, look()?.interface(), &output),
        Command::Trim(trim) => inspect::trim(&trim, look()?.interface(), &output),
        Command::Watch(watch) => {
            // Without the connection for callbacks, it polls.
            let callbacks = || by(|endpoint| anion_ipc::connect_for_callbacks(endpoint, SERVICE_NAME));
            watch::run(&watch, || callbacks().or_else(|_| look()), &output)
        }
        #[cfg(all(not(soong), any(target_arch = "x86_64", target_arch = "aarch64")))]
        Command::Run(args) if args.trap => Err(run::trap::run(&args, || Ok(connect()?.endpoint))),
        #[cfg(not(soong))]
        Command::Run(args) => {
            // The program connects to the same endpoint itself. This checks that the service exists
            // before the program starts.
            let endpoint = connect()?.endpoint;
            Err(run::become_it(&args, &endpoint))
        }
        Command::Metrics(metrics) => metrics::run(&metrics, look, &output),
        Command::Trace(trace) => trace::run(&trace, look, &output),
        #[cfg(not(soong))]
        Command::Report(report) => report::run(&report, &look()?, &output),
        Command::Doctor(doctor) => Err(doctor::become_it(&doctor, &arguments.global)),
        #[cfg(not(soong))]
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "anionctl", &mut script);
            output.raw(&script)
        }
        #[cfg(not(soong))]
        Command::Man { pages: Some(directory), .. } => manual::write_pages(&directory),
        #[cfg(not(soong))]
        Command::Man { command, pages: None } => output.raw(&manual::page(command.as_deref())?),
    }
}

/// Shows what the service answers. If the service does not answer, because it restarts for example,
/// connects again and asks once more. `show` must write its output after its last call.
fn ask(
    look: impl Fn() -> Result<Service, Failure>,
    show: impl Fn(&Strong<dyn IHeapAllocator>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match show(look()?.interface()) {
        Err(Failure::Unreachable(_)) => show(look()?.interface()),
        shown => shown,
    }
}

/// Prints clap's message: help and version on standard output, all others as an error of this
/// program.
fn report_usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A write error means that the reader closed the output.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let text = match text.strip_prefix("error: ") {
        Some(message) => format!("anionctl: {message}"),
        None => text,
    };
    let _ = writeln!(io::stderr(), "{}", text.trim_end());
    ExitCode::from(failure::USAGE)
}

/// Sends log records to standard error: none by default, those of the client with -v, all with -vv.
fn start_log(verbose: u8) {
    let mut log = env_logger::Builder::new();
    match verbose {
        0 => log.filter_level(log::LevelFilter::Off),
        1 => log.filter_level(log::LevelFilter::Warn).filter_module("anionctl", log::LevelFilter::Debug),
        _ => log.filter_level(log::LevelFilter::Trace),
    };
    log.init();
}
