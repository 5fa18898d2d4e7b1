// SPDX-License-Identifier: Apache-2.0
//! The thread that accepts connections. It sleeps in the kernel until a client connects, in every
//! state of the process: a lack of descriptors must not cause a busy loop.
//!
//! It ends when the service stops. Clients that connect later to a socket of systemd wait there for
//! the next service.

use super::budget::{Budget, OverBudget};
use super::closer::Closers;
use super::keeper::Current;
use super::sys::pass_descriptors;
use crate::allocator::Throttle;
use crate::pulse::Pulse;
use anion_ipc::SocketServer;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Pauses after an error that would recur at once: the first and the longest. While the error
/// lasts, each pause is twice the previous one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Milliseconds after which threads that could not be started to close connections are tried again.
const RETRY: u16 = 1000;

/// Number of connections waiting to be closed at which the kernel starts to refuse descriptors over
/// connections that are not accepted yet, and at which it stops.
const CROWDED: (usize, usize) = (64, 8);

/// Stands for an unknown client.
const NOBODY: u32 = u32::MAX;

/// Value of /proc/sys/kernel/overflowuid unless an administrator changed it.
const USUAL_OVERFLOW_UID: u32 = 65534;

/// Accepts connections and passes those within the budget to the server.
pub(super) struct Acceptor {
    listener: Arc<Current>,
    server: Arc<SocketServer>,
    budget: Arc<Budget>,
    closers: Closers,
    /// Whether descriptors are refused until a connection is admitted.
    is_crowded: bool,
    /// Its other end is closed when the service stops.
    stop: UnixStream,
    /// A descriptor to close when the process has no other: without a free one accepting fails, and
    /// the client stays in the queue.
    spare: Option<File>,
    /// The uid that stands for all users whom this process's user namespace does not map; `None` in
    /// the initial namespace, where it is the uid of a user.
    unmapped: Option<u32>,
    complaints: Complaints,
    progress: Arc<Pulse>,
}

/// One throttle for each cause.
#[derive(Default)]
struct Complaints {
    over_total: Throttle,
    over_uid: Throttle,
    unmapped: Throttle,
    descriptors: Throttle,
    failure: Throttle,
}

impl Acceptor {
    pub(super) fn new(
        listener: Arc<Current>,
        server: Arc<SocketServer>,
        budget: Arc<Budget>,
        stop: UnixStream,
        progress: Arc<Pulse>,
    ) -> Self {
        let (spare, unmapped) = (spare(), unmapped_uid());
        let (closers, complaints) = (budget.closers(), Complaints::default());
        Self {
            listener,
            server,
            budget,
            closers,
            is_crowded: false,
            stop,
            spare,
            unmapped,
            complaints,
            progress,
        }
    }

    /// Accepts until the service stops.
    pub(super) fn run(mut self) {
        let (first, longest) = PAUSES;
        let mut pause = first;
        loop {
            self.progress.step();
            match self.accept() {
                Ok(None) => return,
                Ok(Some(stream)) => {
                    pause = first;
                    self.look_at_crowd();
                    self.admit(stream);
                }
                Err(error) => {
                    self.complain(&error);
                    thread::sleep(pause);
                    pause = (2 * pause).min(longest);
                }
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if is_out_of_descriptors(error) {
            // Another thread used the descriptor of the spare first.
            self.complaints.descriptors.warn("out of file descriptors: connections wait");
        } else {
            self.complaints.failure.warn(format_args!("cannot accept a connection: {error}"));
        }
    }

    /// Waits until a client connects. Returns whether the service serves it; if it stops, the
    /// client stays in the socket's queue.
    fn is_served(&self, listener: &UnixListener) -> io::Result<bool> {
        let mut fds = [listener.as_fd(), self.stop.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        loop {
            let limit = if self.closers.resume() { PollTimeout::from(RETRY) } else { PollTimeout::NONE };
            if poll(&mut fds, limit)? > 0 {
                return Ok(fds[1].revents().is_none_or(|events| events.is_empty()));
            }
        }
    }

    /// Returns the next connection; `None` once the service stops.
    fn accept(&mut self) -> io::Result<Option<UnixStream>> {
        loop {
            let listener = self.listener.socket();
            let accepted = self.is_served(&listener).and_then(|is_served| {
                if is_served { listener.accept().map(|(stream, _)| Some(stream)) } else { Ok(None) }
            });
            let error = match accepted {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR | libc::ECONNABORTED) => {}
                // Another socket has replaced it.
                Some(libc::EINVAL) if !Arc::ptr_eq(&listener, &self.listener.socket()) => {}
                _ if is_out_of_descriptors(&error) && self.spare.take().is_some() => {
                    // The descriptor of the spare accepts the client that waits.
                    let (stream, _) = listener.accept()?;
                    self.spare = spare();
                    if self.spare.is_some() {
                        return Ok(Some(stream));
                    }
                    self.refuse(
                        NOBODY,
                        stream,
                        "the service has no file descriptor left (RLIMIT_NOFILE; LimitNOFILE= of its unit)",
                    );
                    self.spare = spare();
                    self.complaints.descriptors.warn("out of file descriptors: a connection is refused");
                }
                _ => {
                    self.spare = self.spare.take().or_else(spare);
                    return Err(error);
                }
            }
        }
    }

    /// Has the kernel refuse descriptors over connections that are not admitted, while many
    /// connections wait to be closed because of descriptors. Older kernels cannot.
    fn look_at_crowd(&mut self) {
        let (many, few) = CROWDED;
        let is_crowded = self.closers.waiting() > if self.is_crowded { few } else { many };
        if is_crowded != self.is_crowded {
            self.is_crowded = is_crowded;
            // Older kernels have no such option.
            let _ = pass_descriptors(self.listener.socket().as_fd(), !is_crowded);
        }
    }

    fn admit(&mut self, stream: UnixStream) {
        let (uid, permit) = match getsockopt(&stream, sockopt::PeerCredentials) {
            Ok(peer) if self.unmapped == Some(peer.uid()) => {
                self.complaints.unmapped.warn(format_args!(
                    "a connection of pid {} is refused: uid {} stands for all users whom the service's user \
                     namespace does not map (/proc/{}/uid_map), so they cannot be told apart",
                    peer.pid(),
                    peer.uid(),
                    std::process::id()
                ));
                let why = "stands for all users whom the user namespace of the service does not map";
                return self.refuse(peer.uid(), stream, &format!("uid {} {why}", peer.uid()));
            }
            Ok(peer) => (peer.uid(), self.budget.admit(peer.uid(), peer.pid(), stream.as_raw_fd())),
            Err(error) => {
                self.complaints
                    .failure
                    .warn(format_args!("cannot determine the process of a connection: {error}"));
                return self.closers.close(NOBODY, stream);
            }
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(over) => {
                let complaints = match over {
                    OverBudget::Total { .. } => &mut self.complaints.over_total,
                    OverBudget::Connections { .. } => &mut self.complaints.over_uid,
                };
                complaints.warn(format_args!("a connection is refused: {over}"));
                return self.refuse(uid, stream, &over.to_string());
            }
        };
        if self.is_crowded {
            let _ = pass_descriptors(stream.as_fd(), true);
        }
        if let Err(error) = self.server.serve(stream, permit) {
            self.complaints.failure.warn(format_args!("cannot serve a connection: {error}"));
        }
    }
}

impl Acceptor {
    /// Sends a client the reason why its connection is not served, and has the connection closed.
    fn refuse(&self, uid: u32, stream: UnixStream, why: &str) {
        SocketServer::refuse(&stream, why);
        self.closers.close(uid, stream);
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Returns the uid that the kernel reports for users whom this process's user namespace does not
/// map (user_namespaces(7)); `None` if it maps all.
fn unmapped_uid() -> Option<u32> {
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    if map.split_whitespace().eq(["0", "0", "4294967295"]) {
        return None;
    }
    let said = fs::read_to_string("/proc/sys/kernel/overflowuid").ok();
    Some(said.and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL_OVERFLOW_UID))
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}
