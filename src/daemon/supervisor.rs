// SPDX-License-Identifier: Apache-2.0
//! Reports to systemd, if it started this process and requests reports. Android's init watches the
//! process itself and requests none.

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
    use sd_notify::NotifyState;
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

    fn tell(state: &[NotifyState<'_>]) {
        // An empty variable counts as unset.
        if std::env::var_os("NOTIFY_SOCKET").is_some_and(|place| place.is_empty()) {
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
