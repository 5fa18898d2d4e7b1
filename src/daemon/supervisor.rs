// SPDX-License-Identifier: Apache-2.0
//! Telling whoever started this process how it is doing: systemd, where it asks. Android's init watches the process
//! itself and asks nothing.

/// Clients are served from now on.
pub(crate) fn ready(status: &str) {
    backend::tell_ready(status);
}

/// No client is served any more.
pub(crate) fn stopping() {
    backend::tell_stopping();
}

#[cfg(not(soong))]
mod backend {
    use sd_notify::NotifyState;

    pub(super) fn tell_ready(status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    pub(super) fn tell_stopping() {
        tell(&[NotifyState::Stopping, NotifyState::Status("Stopping")]);
    }

    fn tell(state: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(state) {
            log::warn!("cannot report to systemd: {error}");
        }
    }
}

#[cfg(soong)]
mod backend {
    pub(super) fn tell_ready(_status: &str) {}

    pub(super) fn tell_stopping() {}
}
