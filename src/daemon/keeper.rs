// SPDX-License-Identifier: Apache-2.0
//! Keeps the socket at its path. Programs that clean directories also remove sockets; the service
//! would then serve only connected clients, and new clients could not connect.
//!
//! The kernel reports changes of the socket's directory; the thread sleeps between them. A lost
//! socket that this process made is bound again, and connections stay. If that fails, for lack of a
//! descriptor for example, the thread tries again for some 40 s. If it keeps failing, or if the
//! seccomp filter forbids it, the process ends with an error, so that its supervisor restarts it.
//! The process does not touch a socket of systemd, or of another process that serves at the path.

use super::listener::Listener;
use anyhow::anyhow;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use nix::sys::socket::{Shutdown, shutdown};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Pause before this process binds a lost socket again: the program that removed it may replace it.
const BIND_PAUSE: Duration = Duration::from_millis(2);
/// The same pause before the process ends.
const END_PAUSE: Duration = Duration::from_secs(1);

/// Pause after the first failure; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Failures in a row after which the thread does not try again.
const MOST_FAILURES: u32 = 12;

/// Reason why a socket cannot be kept at its path.
enum Failure {
    /// The directory cannot be watched.
    Watch(Errno),
    /// The lost socket cannot be bound again.
    Bind(anyhow::Error),
}

/// A socket that can be replaced while threads accept from it. The lock is a leaf, held for a copy.
pub(super) struct Current(Mutex<Arc<UnixListener>>);

impl Current {
    /// Returns a socket that has not been replaced yet.
    pub(super) fn new(socket: UnixListener) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Arc::new(socket))))
    }

    /// Returns the socket to accept from now.
    pub(super) fn socket(&self) -> Arc<UnixListener> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns whether a client waits to be accepted.
    pub(super) fn has_client(&self) -> bool {
        let socket = self.socket();
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        // An error counts as no client.
        let _ = poll(&mut fds, PollTimeout::ZERO);
        fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN))
    }

    /// Replaces the socket. A thread that waits for a client at the old one gets `EINVAL`.
    fn replace(&self, socket: UnixListener) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Arc::new(socket));
        drop(current);
        // It fails if no thread listened.
        let _ = shutdown(old.as_raw_fd(), Shutdown::Both);
    }
}

/// The socket of the service; `None` once the service has stopped.
pub(super) type Shared = Arc<Mutex<Option<Listener>>>;

/// Watches one socket's directory.
pub(super) struct Keeper {
    events: Inotify,
    listener: Shared,
    current: Arc<Current>,
    /// Whether this process may bind sockets while it serves.
    may_bind: bool,
}

impl Keeper {
    /// Prepares to watch. Call it before the seccomp filter: it makes an inotify instance.
    ///
    /// # Errors
    /// `EMFILE` beyond the user's inotify instances or the process's descriptors.
    pub(super) fn new(listener: Shared, current: Arc<Current>, may_bind: bool) -> io::Result<Self> {
        let events = Inotify::init(InitFlags::IN_CLOEXEC)?;
        Ok(Self { events, listener, current, may_bind })
    }

    /// Starts the thread that watches until the service stops.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(self) -> io::Result<()> {
        thread::Builder::new().name("socket-keeper".to_owned()).spawn(move || self.run())?;
        Ok(())
    }

    fn run(self) {
        let mut failures = 0;
        loop {
            let Some(path) = lock(&self.listener).as_ref().and_then(|one| one.path().map(Path::to_owned))
            else {
                return;
            };
            let place = path.display();
            match self.keep(&path) {
                Ok(()) => failures = 0,
                Err(Failure::Watch(error)) if failures == MOST_FAILURES => {
                    log::info!("no longer watching {place} for removal: {error}");
                    return;
                }
                Err(Failure::Bind(error)) if failures == MOST_FAILURES || !self.may_bind => {
                    log::error!(
                        "{place}: the socket was removed or replaced, and cannot be bound again: {error:#}; the \
                         service ends, to be started again"
                    );
                    process::exit(1)
                }
                Err(failure) => {
                    if let (Failure::Bind(error), 0) = (failure, failures) {
                        log::warn!(
                            "{place}: the socket was removed or replaced; trying to bind it: {error:#}"
                        );
                    }
                    thread::sleep(FIRST_PAUSE * (1 << failures));
                    failures += 1;
                }
            }
        }
    }

    /// Puts a lost socket in its place, or waits for an event that may be about the socket.
    fn keep(&self, path: &Path) -> Result<(), Failure> {
        // A second watch of the same directory changes nothing. The path may lead to another one by
        // now.
        self.watch(path).map_err(Failure::Watch)?;
        if self.is_lost() && self.restore(path).map_err(Failure::Bind)? {
            return Ok(());
        }
        self.wait(path).map_err(Failure::Watch)
    }

    fn watch(&self, socket: &Path) -> nix::Result<()> {
        let events = AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let directory = socket.parent().filter(|directory| !directory.as_os_str().is_empty());
        match self.events.add_watch(directory.unwrap_or(Path::new(".")), events) {
            // The directory is missing, which the next check detects.
            Err(Errno::ENOENT) => Ok(()),
            watched => watched.map(drop),
        }
    }

    /// Sleeps until an event that may be about the socket.
    fn wait(&self, socket: &Path) -> nix::Result<()> {
        let concerns =
            |event: &InotifyEvent| event.name.as_deref().is_none_or(|name| Some(name) == socket.file_name());
        loop {
            match self.events.read_events() {
                Ok(events) if events.iter().any(concerns) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn is_lost(&self) -> bool {
        lock(&self.listener).as_ref().is_some_and(|listener| !listener.is_in_place())
    }

    /// Binds the socket again if it is still lost after a pause. Returns whether it is in place.
    ///
    /// # Errors
    /// If this process cannot bind it and no other process serves at the path.
    fn restore(&self, path: &Path) -> anyhow::Result<bool> {
        thread::sleep(if self.may_bind { BIND_PAUSE } else { END_PAUSE });
        let mut guard = lock(&self.listener);
        // The service is stopping, or another program restored the socket.
        let Some(listener) = guard.as_mut().filter(|listener| !listener.is_in_place()) else {
            return Ok(true);
        };
        let place = path.display();
        if !listener.is_own() {
            log::warn!(
                "{place}: the socket was removed or replaced, and new clients cannot connect; systemd owns it: \
                 restart its .socket unit with systemctl"
            );
            return Ok(false);
        }
        let bound = match self.may_bind {
            true => listener.bind_again()?,
            // The filter also forbids the calls that would find another server.
            false if path.exists() => None,
            false => return Err(anyhow!("the list of system calls (--seccomp) forbids it")),
        };
        let Some(socket) = bound else {
            log::warn!("{place}: another socket has taken this path, and new clients connect to it");
            return Ok(false);
        };
        self.current.replace(socket);
        log::warn!("{place}: the socket was removed or replaced; it is bound again");
        Ok(true)
    }
}

/// Locks the listener. Every change of it is complete, or leaves a listener that is not in place,
/// which is checked again.
fn lock(listener: &Shared) -> MutexGuard<'_, Option<Listener>> {
    listener.lock().unwrap_or_else(PoisonError::into_inner)
}
