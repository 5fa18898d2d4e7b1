// SPDX-License-Identifier: Apache-2.0
//! Reports to systemd, if it started this process and requests reports. Android's init watches the
//! process itself and requests none.

#[cfg(not(soong))]
pub(crate) use backend::{forget_stored, store, stores};
use std::time::Duration;

/// Reports that clients are served from now on.
pub(crate) fn ready(status: &str) {
    backend::tell_ready(status);
}

/// Returns the supervisor's watchdog time, the longest time between two reports; `None` if it
/// requests none.
pub(crate) fn watchdog() -> Option<Duration> {
    backend::watchdog()
}

/// Reports that all threads make progress.
pub(crate) fn alive() {
    backend::tell_alive();
}

/// Reports that no client is served any more.
pub(crate) fn stopping() {
    backend::tell_stopping();
}

#[cfg(not(soong))]
mod backend {
    use super::super::descriptors;
    use sd_notify::NotifyState;
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::os::unix::net::UnixDatagram;
    use std::path::PathBuf;
    use std::time::Duration;

    pub(super) fn tell_ready(status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    pub(super) fn tell_stopping() {
        tell(&[NotifyState::Stopping, NotifyState::Status("Stopping")]);
    }

    pub(super) fn tell_alive() {
        tell(&[NotifyState::Watchdog]);
    }

    pub(super) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
    }

    /// Returns the path of systemd's socket. An empty variable counts as unset.
    fn place() -> Option<PathBuf> {
        std::env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty()).map(PathBuf::from)
    }

    /// Returns whether systemd may store descriptors for the next service.
    pub(crate) fn stores() -> bool {
        place().is_some()
    }

    /// Stores descriptors under `name` for the next service. systemd ignores the request if the
    /// unit has too small a `FileDescriptorStoreMax=`.
    ///
    /// # Errors
    /// If systemd cannot be reached.
    pub(crate) fn store(name: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some(place) = place() else { return Ok(()) };
        let socket = UnixDatagram::unbound()?;
        socket.connect(place)?;
        // Without polling: the other end of a socket is closed when this process ends, for which
        // systemd would remove the socket.
        let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n");
        descriptors::send(&socket, text.as_bytes(), descriptors)
    }

    /// Removes the descriptors that are stored under `name`.
    pub(crate) fn forget_stored(name: &str) {
        let name = format!("FDNAME={name}");
        tell(&[NotifyState::Custom("FDSTOREREMOVE=1"), NotifyState::Custom(&name)]);
    }

    fn tell(state: &[NotifyState<'_>]) {
        if place().is_none() {
            return;
        }
        if let Err(error) = sd_notify::notify(state) {
            log::warn!("cannot report to systemd: {error}");
        }
    }
}

#[cfg(soong)]
mod backend {
    use std::time::Duration;

    pub(super) fn tell_ready(_status: &str) {}

    pub(super) fn tell_stopping() {}

    pub(super) fn tell_alive() {}

    pub(super) fn watchdog() -> Option<Duration> {
        None
    }
}
