// SPDX-License-Identifier: Apache-2.0
//! The allocator service. Reads its configuration, opens its transports, makes the allocator, gives up the system
//! calls that it needs no more, serves, and waits for the signal to stop.

#![deny(unsafe_code)]

mod daemon;

use anion::allocator::Allocator;
use anion::service::HeapAllocatorService;
use anyhow::Context;
use clap::Parser;
use daemon::args::Arguments;
use daemon::process::{self, StopSignals};
use daemon::seccomp::Filter;
use daemon::transport::Transports;
use daemon::{check_config, configuration, logging, supervisor, sys};
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let inherited = sys::own_inherited_descriptors();
    let arguments = Arguments::parse();
    #[cfg(not(soong))]
    if let Some(shell) = arguments.completions {
        clap_complete::generate(
            shell,
            &mut <Arguments as clap::CommandFactory>::command(),
            "aniond",
            &mut io::stdout(),
        );
        return ExitCode::SUCCESS;
    }
    logging::init(arguments.log_level);
    let outcome = if arguments.check_config.is_empty() {
        serve(&arguments, inherited).map(|()| true)
    } else {
        check_config::run(&arguments.check_config, arguments.json, &mut io::stdout().lock())
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments, inherited: io::Result<()>) -> anyhow::Result<()> {
    inherited.context("cannot take over what the parent left open")?;
    let signals = StopSignals::block()?;
    process::log_panics();
    process::raise_descriptor_limit();
    let (config, origin) = configuration::load(arguments.config.as_deref())?;
    let filter = Filter::load(&arguments.seccomp)?;
    let transports = Transports::open(&arguments.transport)?;
    let allocator = Allocator::new(config, &arguments.cgroup).context("cannot make the heaps")?;
    describe(&allocator, &origin);
    let confine = || filter.as_ref().map_or(Ok(()), Filter::enforce);
    let serving = transports.serve(&HeapAllocatorService::binder(allocator), confine)?;
    let status = format!("Serving at {}", serving.places.join(" and "));
    log::info!("{status}");
    supervisor::ready(&status);
    let signal = signals.wait()?;
    log::info!("{signal}: stopping");
    supervisor::stopping();
    serving.stop();
    Ok(())
}

/// Logs what there is to serve, and what there is not.
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
                "heap {} (id {}) shares spares across trust domains: {reason}",
                heap.name(),
                heap.id()
            );
        }
    }
    for (backing, mechanism) in allocator.release_mechanisms() {
        log::info!("released buffers of kind {} are noticed by {}", backing.name(), mechanism.describe());
    }
}
