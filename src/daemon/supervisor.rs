// SPDX-License-Identifier: Apache-2.0
//! Reports to the process that started this one: to systemd, where it asks for that. Android's init
//! watches the process itself and asks for nothing.

/// Reports that clients are served from now on.
pub(crate) fn ready(status: &str) {
    backend::tell_ready(status);
}

/// Reports that no client is served any more.
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
        // One that is empty counts as unset.
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
    pub(super) fn tell_ready(_status: &str) {}

    pub(super) fn tell_stopping() {}
}
