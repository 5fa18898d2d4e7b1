// SPDX-License-Identifier: Apache-2.0
//! The process around the service: arguments, logging, signals, sockets and connections.
//!
//! [`main`] reads the configuration, opens the transports, makes the allocator, enforces the
//! seccomp filter, serves, and waits for the signal to stop.

/// The command line.
mod args;

/// Log messages.
mod logging;

/// Names of users and groups.
mod accounts;

/// A process that looks them up for a service with a filter.
#[cfg(not(soong))]
mod lookup;

/// Prints the meaning of a configuration file.
mod check_config;

/// Loads the configuration.
mod configuration;

/// Devices that appear while the service runs.
mod devices;

/// Configuration that changes while the service runs.
mod reload;

/// The service inside another program's process.
#[cfg(all(feature = "testing", not(soong)))]
pub mod in_process;

// Reports the features that this machine has, and those that it lacks.
mod doctor;

/// Limits that prevent the start.
mod limits;

/// Settings of the whole process: signals, core dumps, panics.
mod process;

/// The seccomp filter of a serving process.
#[cfg(not(soong))]
pub(crate) mod seccomp;

/// Settings of the process before anything else starts.
mod sys;

/// The listening socket: bound by this process or passed by systemd.
#[cfg(not(soong))]
mod listener;

/// Messages with descriptors.
#[cfg(not(soong))]
mod descriptors;

/// Descriptors from systemd.
#[cfg(not(soong))]
mod passed;

/// Live buffers that outlive a restart.
#[cfg(not(soong))]
pub(crate) mod carry;

/// Ownership of the socket's path.
#[cfg(not(soong))]
mod lock;

/// Keeps the socket at its path.
#[cfg(not(soong))]
mod keeper;

/// Limits of a client's connections.
#[cfg(not(soong))]
mod budget;

/// Closes connections that are not served.
#[cfg(not(soong))]
mod closer;

/// The thread that accepts connections.
#[cfg(not(soong))]
mod accept;

/// Opens and serves the transports.
#[cfg_attr(soong, path = "transport_on_device.rs")]
mod transport;

/// Threads that hang.
mod watchdog;

/// The binder objects.
mod services;

/// Reports to the process that started this one.
mod supervisor;

use crate::allocator::Allocator;
#[cfg(not(soong))]
use crate::config::Account;
use crate::sys::fd::without_proc;
use anyhow::Context;
use args::Arguments;
#[cfg(not(soong))]
use carry::Store;
use devices::DeviceWatcher;
use log::LevelFilter;
#[cfg(not(soong))]
use lookup::Lookup;
#[cfg(not(soong))]
use passed::Passed;
use process::StopSignals;
#[cfg(not(soong))]
use seccomp::Filter;
use services::Services;
#[cfg(soong)]
pub use services::fuzzed_service;
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use transport::Transports;

/// Runs the program to its end. It owns the descriptors that the process inherited, so `main` must
/// call only this function, once; `tests/floors.rs` checks that.
pub fn main() -> ExitCode {
    let inherited = sys::own_inherited_descriptors();
    let arguments = Arguments::read();
    #[cfg(not(soong))]
    if let Some(outcome) = describe_itself(&arguments) {
        return outcome.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    #[cfg(not(soong))]
    if arguments.look_up_accounts {
        return lookup::answer().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    if arguments.doctor {
        // The user wants only the report.
        let _output = logging::init(arguments.log_level.or(Some(LevelFilter::Off)));
        return doctor::run(&arguments);
    }
    let output = logging::init(arguments.log_level);
    let outcome = if arguments.check_config.is_empty() {
        serve(&arguments, inherited, &output).map(|()| true)
    } else {
        check_config::run(&arguments.check_config, arguments.json, &mut io::stdout().lock())
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            log::error!("{error:#}{}", limits::behind(&error));
            ExitCode::FAILURE
        }
    }
}

/// Writes the completion script or the manual page to standard output, if the arguments ask for
/// one.
#[cfg(not(soong))]
fn describe_itself(arguments: &Arguments) -> Option<io::Result<()>> {
    let mut command = <Arguments as clap::CommandFactory>::command();
    if let Some(shell) = arguments.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "aniond", &mut script);
        return Some(io::Write::write_all(&mut io::stdout(), &script));
    }
    arguments.man.then(|| clap_mangen::Man::new(command).section("8").render(&mut io::stdout()))
}

fn serve(arguments: &Arguments, inherited: io::Result<()>, output: &logging::Output) -> anyhow::Result<()> {
    limits::raise_descriptors()?;
    inherited
        .map_err(|error| without_proc("/proc/self/fd", error))
        .context("cannot take over the descriptors of the parent")?;
    let signals = StopSignals::block()?;
    output.never_wait();
    sys::give_freed_memory_back();
    process::log_panics();
    process::keep_buffers_out_of_core_dumps();
    let (config, origin) = configuration::load(&arguments.config, &accounts::look_up)?;
    #[cfg(not(soong))]
    let (confine, is_confined) = {
        let filter = Filter::load(&arguments.seccomp)?;
        let is_confined = filter.is_some();
        (move || filter.as_ref().map_or(Ok(()), Filter::enforce), is_confined)
    };
    #[cfg(soong)]
    let (confine, is_confined) = (|| Ok(()), false);
    #[cfg(not(soong))]
    let (passed, store) = (Passed::announced()?, Store::open());
    #[cfg(not(soong))]
    let transports = Transports::open(&arguments.transport, &config.policy, &passed.sockets)?;
    #[cfg(soong)]
    let transports = Transports::open(&arguments.transport, &config.policy)?;
    #[cfg(not(soong))]
    let lookup = is_confined.then(Lookup::start);
    #[cfg(not(soong))]
    let look_up = |account: &Account| match &lookup {
        Some(lookup) => lookup.look_up(account),
        None => accounts::look_up(account),
    };
    #[cfg(soong)]
    let look_up = accounts::look_up;
    let devices = DeviceWatcher::new();
    let rules = config.graphics.clone();
    let allocator = Allocator::new(config, &arguments.cgroup).context("cannot make the heaps")?;
    describe(&allocator, &origin);
    #[cfg(not(soong))]
    carry::take_over(&passed, &allocator);
    let services = Services::new(&allocator, origin, arguments.transport.graphics.as_ref(), &rules);
    let serving = transports.serve(&services, confine, !is_confined)?;
    if let Err(error) = devices.and_then(|devices| devices.start(&allocator)) {
        log::info!("cannot wait for devices to appear: {error}");
    }
    let threads = allocator.background().into_iter().chain(serving.background()).collect();
    let limit = arguments.watchdog.map(|seconds| Duration::from_secs(seconds.into()));
    watchdog::start(limit, threads, output).context("cannot start the watchdog's thread")?;
    let status = format!("Serving at {}", serving.places.join(" and "));
    log::info!("{status}");
    supervisor::ready(&status);
    let signal =
        signals.wait(|| reload::reload(&arguments.config, &look_up, &allocator, &serving, &rules))?;
    log::info!("{signal}: stopping");
    supervisor::stopping();
    serving.stop();
    #[cfg(not(soong))]
    if let Some(store) = store {
        store.put(&allocator);
    }
    Ok(())
}

/// Logs the heaps that are served, and those that are unavailable.
fn describe(allocator: &Allocator, origin: &str) {
    let heaps = allocator.heaps();
    let available = heaps.iter().filter(|heap| heap.unavailable().is_none()).count();
    log::info!("configuration ({origin}): {available} of {} heaps are available", heaps.len());
    for heap in heaps {
        if let Some(why) = heap.unavailable() {
            log::warn!("heap {} (id {}) is not available: {why}", heap.name(), heap.id());
        }
        if let Some(reason) = &heap.spec().shared {
            log::warn!(
                "heap {} (id {}) shares pooled memory across trust domains: {reason}",
                heap.name(),
                heap.id()
            );
        }
    }
    for (backing, mechanism) in allocator.release_mechanisms() {
        log::info!("releases of buffers of kind {} are detected by {}", backing.name(), mechanism.describe());
    }
}
