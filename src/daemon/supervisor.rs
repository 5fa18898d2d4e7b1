// SPDX-License-Identifier: Apache-2.0
//! Reports to systemd, if it started this process and requests reports. Android's init watches the
//! process itself and requests none.

#[cfg(not(soong))]
use std::io;
#[cfg(not(soong))]
use std::os::fd::BorrowedFd;
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

/// Returns whether the supervisor may store descriptors for the next service.
#[cfg(not(soong))]
pub(crate) fn stores() -> bool {
    backend::place().is_some()
}

/// Stores descriptors under `name` for the next service. systemd ignores the request if the unit
/// has too small a `FileDescriptorStoreMax=`.
///
/// # Errors
/// If systemd cannot be reached.
#[cfg(not(soong))]
pub(crate) fn store(name: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    backend::store(name, descriptors)
}

/// Removes the descriptors that are stored under `name`.
#[cfg(not(soong))]
pub(crate) fn forget_stored(name: &str) {
    backend::forget_stored(name);
}

#[cfg(not(soong))]
mod backend {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use sd_notify::NotifyState;
    use std::io::{self, IoSlice};
    use std::mem::MaybeUninit;
    use std::os::fd::BorrowedFd;
    use std::os::unix::net::UnixDatagram;
    use std::path::PathBuf;
    use std::time::Duration;

    /// Most descriptors that are stored with one message.
    const DESCRIPTORS: usize = 16;

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
    pub(super) fn place() -> Option<PathBuf> {
        std::env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty()).map(PathBuf::from)
    }

    pub(super) fn store(name: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some(place) = place() else { return Ok(()) };
        let socket = UnixDatagram::unbound()?;
        socket.connect(place)?;
        // Without polling: the other end of a socket is closed when this process ends, for which
        // systemd would remove the socket.
        let text = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let parts = [IoSlice::new(text.as_bytes())];
        sendmsg(&socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    pub(super) fn forget_stored(name: &str) {
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
