// SPDX-License-Identifier: Apache-2.0
//! Settings of the whole process: signals, core dumps, panics.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use std::fs;
use std::io::{self, IsTerminal};
use std::panic;
use std::thread;

/// The signals that end the service, and SIGHUP. They are blocked in every thread. One thread waits
/// for them, so no code runs in a signal handler.
pub(crate) struct StopSignals {
    stop: SigSet,
    /// Whether the service runs on a terminal; then SIGHUP ends it.
    is_shown: bool,
}

impl StopSignals {
    /// Blocks SIGTERM, SIGINT and SIGHUP in this thread and all threads that it starts, so call it
    /// before starting any. It also blocks SIGIO, which a broken lease raises, and SIGXFSZ, which a
    /// file beyond `RLIMIT_FSIZE` raises: the default action of both ends the process. Rust's
    /// runtime ignores SIGPIPE.
    ///
    /// # Errors
    /// As the system reports them.
    pub(crate) fn block() -> anyhow::Result<Self> {
        let stop: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
        let blocked: SigSet = stop.iter().chain([Signal::SIGIO, Signal::SIGXFSZ]).collect();
        blocked.thread_block().context("cannot block signals")?;
        Ok(Self { stop, is_shown: io::stderr().is_terminal() })
    }

    /// Sleeps until a signal arrives that ends the service, and returns it. Then the signals have
    /// their default action again: a second one ends the process at once, even during the clean
    /// stop. SIGHUP ends a service on a terminal; otherwise it calls `reload`, and the service
    /// continues.
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

/// Excludes clients' buffers from core dumps: a dump then contains only private anonymous pages and
/// the headers of programs (core(5)).
pub(crate) fn keep_buffers_out_of_core_dumps() {
    const FILTER: &str = "/proc/self/coredump_filter";
    if let Err(error) = fs::write(FILTER, "0x11") {
        log::warn!("core dumps of the service would contain buffers of clients: {FILTER}: {error}");
    }
}

/// Logs panics. The binder library catches a panic in a call, and the service continues.
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
