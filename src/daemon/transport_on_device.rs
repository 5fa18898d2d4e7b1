// SPDX-License-Identifier: Apache-2.0
//! Serves on a device: only kernel binder, with the same names as `transport.rs`. A device has a
//! service manager and a policy, so the sockets of other machines are not used.

use super::args::{TransportArguments, TransportKind};
use super::services::Services;
use crate::config::spec::Policy;
use crate::graphics;
use crate::pulse::Watched;
use anion_ipc::{Endpoint, KernelServer, SERVICE_NAME};
use anyhow::{Context, bail, ensure};
use std::path::PathBuf;
use std::time::Duration;

/// The process's binder device, before any client is served.
pub(crate) struct Transports(KernelServer);

/// The served objects.
pub(crate) struct Serving {
    /// Address of the service.
    pub(crate) places: Vec<String>,
}

impl Transports {
    /// Opens the binder device.
    ///
    /// # Errors
    /// If the arguments request a socket, or a device other than the one that the process can use.
    pub(crate) fn open(arguments: &TransportArguments, _policy: &Policy) -> anyhow::Result<Self> {
        ensure!(
            arguments.socket.is_none()
                && arguments.socket_mode.is_none()
                && arguments.socket_group.is_none()
                && arguments.graphics_socket.is_none(),
            "the arguments name a socket, but this build serves only kernel binder"
        );
        match arguments.transport {
            None | Some(TransportKind::Auto | TransportKind::Binder) => {}
            Some(kind @ (TransportKind::Socket | TransportKind::Both)) => {
                bail!("--transport is {kind:?}, but this build serves only kernel binder")
            }
        }
        let device = match (&arguments.binder_device, Endpoint::default_binder()) {
            (Some(device), _) => device.clone(),
            (None, Some(Endpoint::Binder(device))) => device,
            (None, _) => PathBuf::from("/dev/binder"),
        };
        Ok(Self(KernelServer::open(&device, arguments.threads).context("cannot open kernel binder")?))
    }

    /// Registers `services`, confines the process and serves. Never binds a socket.
    ///
    /// # Errors
    /// If the service manager refuses, or `confine` fails.
    pub(crate) fn serve(
        self,
        services: &Services,
        confine: impl Fn() -> anyhow::Result<()>,
        _may_bind: bool,
    ) -> anyhow::Result<Serving> {
        let place = |name: &str| format!("{} as {name}", self.0.endpoint());
        let mut places = vec![place(SERVICE_NAME)];
        let published = self.0.publish(SERVICE_NAME, &services.heaps, Duration::ZERO);
        published.context("cannot serve over kernel binder")?;
        if let Some((instance, service)) = &services.graphics {
            let name = format!("{}/{instance}", graphics::INTERFACE_NAME);
            let published = self.0.publish(&name, service, Duration::ZERO);
            published.context("cannot serve the graphics allocator over kernel binder")?;
            places.push(place(&name));
        }
        confine()?;
        Ok(Serving { places })
    }
}

impl Serving {
    /// Returns nothing: the binder library has threads of its own.
    pub(crate) fn background(&self) -> Vec<Watched> {
        Vec::new()
    }

    /// Does nothing: the driver keeps no connections for some uids.
    pub(crate) fn set_policy(&self, _policy: &Policy) {}

    /// Does nothing: the service manager detects the end of the process.
    pub(crate) fn stop(self) {}
}
