// SPDX-License-Identifier: Apache-2.0
//! Runs a server beside the tests.

use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::process::line_of;

/// A server in a process group of its own, stopped when dropped.
pub(crate) struct Server {
    child: Child,
    line: String,
    stopped: bool,
}

impl Server {
    /// Starts `command` and waits until a process accepts connections on `socket`.
    ///
    /// # Errors
    /// If it cannot be started, exits by itself or does not serve within `patience`.
    pub(crate) fn start(command: &mut Command, socket: &Path, patience: Duration) -> Result<Self> {
        let line = line_of(command);
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        let mut server = Self { child, line, stopped: false };
        let deadline = Instant::now() + patience;
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = server.child.try_wait()? {
                server.stopped = true;
                bail!("`{}` ended before it served {}: {status}", server.line, socket.display());
            }
            if Instant::now() > deadline {
                bail!("`{}` does not serve {} within {patience:?}", server.line, socket.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Stops the server with a signal, as a service manager does.
    ///
    /// # Errors
    /// If it had ended before, does not end within a minute or ends with a code other than 0.
    pub(crate) fn stop(self) -> Result<()> {
        let pid = self.child.id();
        self.stop_with(|| {
            signal_group(pid, Signal::SIGTERM);
            Ok(())
        })
    }

    /// Stops the server by calling `ask`, if the parent program of the server does not forward
    /// signals.
    ///
    /// # Errors
    /// As [`Server::stop`], and if `ask` fails.
    pub(crate) fn stop_with(mut self, ask: impl FnOnce() -> Result<()>) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            self.stopped = true;
            bail!("`{}` ended by itself: {status}", self.line);
        }
        ask()?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                self.stopped = true;
                ensure!(status.success(), "`{}` did not stop cleanly on SIGTERM: {status}", self.line);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(anyhow!("`{}` did not end within a minute of SIGTERM", self.line))
    }
}

/// Signals the whole process group of `leader`. A group that has ended is no error.
fn signal_group(leader: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(leader) {
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.stopped {
            signal_group(self.child.id(), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_early_is_an_error() {
        let nowhere = Path::new("/nonexistent/socket");
        let error = Server::start(Command::new("false").arg("x"), nowhere, Duration::from_secs(180))
            .err()
            .expect("nothing serves");
        assert!(error.to_string().contains("ended before it served"), "{error}");
    }

    #[test]
    fn a_server_that_does_not_serve_is_stopped() {
        let nowhere = Path::new("/nonexistent/socket");
        let error = Server::start(Command::new("sleep").arg("60"), nowhere, Duration::from_millis(10))
            .err()
            .expect("nothing serves");
        assert!(error.to_string().contains("does not serve"), "{error}");
    }
}
