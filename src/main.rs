// SPDX-License-Identifier: Apache-2.0
//! The allocator service. Reads its configuration, opens its transports, makes the allocator, serves, and waits for
//! the signal to stop.

#![deny(unsafe_code)]

mod daemon;

use anion_ipc::new_binder;
use anyhow::Context;
use clap::{CommandFactory, Parser};
use daemon::args::Arguments;
use daemon::logging;
use daemon::process::{self, StopSignals};
use daemon::transport::Transports;
use sd_notify::NotifyState;
use std::io;
use std::process::ExitCode;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::BnHeapAllocator;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(shell) = arguments.completions {
        clap_complete::generate(shell, &mut Arguments::command(), "aniond", &mut io::stdout());
        return ExitCode::SUCCESS;
    }
    logging::init(arguments.log_level);
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let signals = StopSignals::block()?;
    process::log_panics();
    process::raise_descriptor_limit();
    let transports = Transports::open(&arguments.transport)?;
    let service = new_binder!(BnHeapAllocator, daemon::stub::Stub);
    let serving = transports.serve(&service).context("cannot serve")?;
    let places = serving.places.join(", ");
    log::info!("serving at {places}");
    tell_systemd(&[NotifyState::Ready, NotifyState::Status(&format!("Serving at {places}"))]);
    let signal = signals.wait()?;
    log::info!("{signal}: stopping");
    tell_systemd(&[NotifyState::Stopping, NotifyState::Status("Stopping")]);
    serving.stop();
    Ok(())
}

/// Reports to systemd, if it started this process.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("cannot report to systemd: {error}");
    }
}
