// SPDX-License-Identifier: Apache-2.0
//! Settings of the whole process: signals, core dumps, panics.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use std::fs;
use std::io::{self, IsTerminal};
use std::panic;
use std::thread;

/// The signals that end the service, and SIGHUP. They are blocked in every thread and fetched by
/// one that waits for them, so no code runs in a handler of theirs.
pub(crate) struct StopSignals {
    stop: SigSet,
    /// A terminal shows the service, which SIGHUP ends with it.
    is_shown: bool,
}

impl StopSignals {
    /// Blocks SIGTERM, SIGINT and SIGHUP for this thread and all threads that it starts, so call it
    /// before starting any. It also blocks SIGIO and SIGXFSZ: a broken lease raises the first, a
    /// file beyond `RLIMIT_FSIZE` the second, and the default action of both would end the process.
    /// Rust's runtime ignores SIGPIPE.
    ///
    /// # Errors
    /// As the system reports them.
    pub(crate) fn block() -> anyhow::Result<Self> {
        let stop: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
        let blocked: SigSet = stop.iter().chain([Signal::SIGIO, Signal::SIGXFSZ]).collect();
        blocked.thread_block().context("cannot block signals")?;
        Ok(Self { stop, is_shown: io::stderr().is_terminal() })
    }

    /// Sleeps until one of them comes that ends the service. After that they have their default
    /// action again: a second one ends the process wherever the clean stop is. SIGHUP ends a
    /// service that a terminal shows; for another one `reload` is called, and it serves on.
    ///
    /// # Errors
    /// As the system reports them.
    pub(crate) fn wait(self, reload: impl Fn()) -> anyhow::Result<Signal> {
        let signal = loop {
            let signal = self.stop.wait().context("cannot wait for signals")?;
            if signal != Signal::SIGHUP || self.is_shown {
                break signal;
            }
            reload();
        };
        self.stop.thread_unblock().context("cannot unblock signals")?;
        Ok(signal)
    }
}

/// Keeps clients' buffers out of core dumps: of the process's memory these have its private
/// anonymous pages alone, and the headers of its programs (core(5)).
pub(crate) fn keep_buffers_out_of_core_dumps() {
    const FILTER: &str = "/proc/self/coredump_filter";
    if let Err(error) = fs::write(FILTER, "0x11") {
        log::warn!("core dumps of the service would contain buffers of clients: {FILTER}: {error}");
    }
}

/// Sends panics to the log. The binder library catches those of a call, and the service goes on.
pub(crate) fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = message.unwrap_or("no message");
        log::error!("panic in thread {} at {place}: {message}", thread.name().unwrap_or("?"));
    }));
}
