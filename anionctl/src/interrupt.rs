// SPDX-License-Identifier: Apache-2.0
//! Waits that SIGINT and SIGTERM end early, so that a command can finish cleanly.

use crate::failure::Failure;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// While it exists, SIGINT and SIGTERM do not end the process. They end the current or next wait.
pub(crate) struct Interrupt {
    signals: UnixStream,
}

/// The first event of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// The descriptor can be read.
    Readable,
    /// A signal requested the end of the command.
    Interrupted,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The time is over.
    Elapsed,
    /// A signal requested the end of the command.
    Interrupted,
}

impl Interrupt {
    /// Installs handlers for both signals.
    ///
    /// # Errors
    /// [`Failure::Local`] if the process has no free descriptors.
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = || -> io::Result<UnixStream> {
            let (signals, sender) = UnixStream::pair()?;
            pipe::register(SIGINT, sender.try_clone()?)?;
            pipe::register(SIGTERM, sender)?;
            Ok(signals)
        };
        listen()
            .map(|signals| Self { signals })
            .map_err(|error| Failure::local("cannot wait for signals", &error))
    }

    /// Waits until the descriptor can be read or accepts a connection, or a signal arrives.
    ///
    /// # Errors
    /// [`Failure::Local`] if the wait fails.
    pub(crate) fn wait_for(&mut self, other: BorrowedFd<'_>) -> Result<Ready, Failure> {
        let wanted = |fd| PollFd::new(fd, PollFlags::POLLIN);
        loop {
            let mut fds = [wanted(self.signals.as_fd()), wanted(other)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) if fds[0].any() == Some(true) => return Ok(Ready::Interrupted),
                Ok(_) => return Ok(Ready::Readable),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(Failure::local("cannot wait for clients", &error.into())),
            }
        }
    }

    /// Sleeps for `time`, or until a signal.
    ///
    /// # Errors
    /// [`Failure::Local`] if the wait fails.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<Waited, Failure> {
        let deadline = Instant::now().checked_add(time);
        loop {
            // There is no deadline if the time is beyond the range of the clock.
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Waited::Elapsed);
            }
            let read = self.signals.set_read_timeout(left).and_then(|()| self.signals.read(&mut [0]));
            match read {
                Ok(_) => return Ok(Waited::Interrupted),
                Err(error) if is_early(error.kind()) => {}
                Err(error) => return Err(Failure::local("cannot wait for signals", &error)),
            }
        }
    }
}

/// Returns whether a read ended without a signal to report: by timeout, or because a signal
/// interrupted the call.
fn is_early(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
