// SPDX-License-Identifier: Apache-2.0
//! Finds the service and connects to it.

use crate::Endpoint;
use binder::{FromIBinder, IBinder, ProcessState, Strong};
use std::io;
use std::path::PathBuf;

/// A connected service.
pub struct Connection<I: FromIBinder + ?Sized> {
    /// The service's interface.
    pub service: Strong<I>,
}

impl<I: FromIBinder + ?Sized> Connection<I> {
    /// Returns whether the service answers now. Makes one round trip.
    pub fn answers(&self) -> bool {
        self.service.as_binder().ping_binder().is_ok()
    }
}

/// Finds the service that is registered as `name`, and waits for it: init starts services that the
/// device declares. Kernel binder uses one connection, and ignores `connections`.
///
/// # Errors
/// `Unsupported` for a socket, or a device other than the process's own; `NotFound` if the device's
/// VINTF manifest does not declare `name`, or the caller may not find it. The message names the
/// endpoint.
pub fn connect<I: FromIBinder + ?Sized>(
    endpoint: &Endpoint,
    name: &str,
    _connections: u32,
) -> io::Result<Connection<I>> {
    let fail = |kind, why: String| io::Error::new(kind, format!("{endpoint}: {why}"));
    endpoint.require_own_device()?;
    match binder::is_declared(name) {
        Ok(true) => {}
        Ok(false) => {
            return Err(fail(io::ErrorKind::NotFound, format!("{name} is not declared on this device")));
        }
        Err(code) => return Err(fail(io::ErrorKind::Other, format!("cannot query {name}: {code:?}"))),
    }
    let service = binder::wait_for_interface(name)
        .map_err(|code| fail(io::ErrorKind::NotFound, format!("cannot get {name}: {code:?}")))?;
    Ok(Connection { service })
}

/// Connects as [`connect`]: kernel binder has no budget of connections, so an operator needs no
/// extra one.
///
/// # Errors
/// As [`connect`].
pub fn connect_as_operator<I: FromIBinder + ?Sized>(
    endpoint: &Endpoint,
    name: &str,
) -> io::Result<Connection<I>> {
    connect(endpoint, name, 1)
}

/// Connects as [`connect`], for a process whose objects the service calls. Separate threads receive
/// the calls.
///
/// # Errors
/// As [`connect`].
pub fn connect_for_callbacks<I: FromIBinder + ?Sized>(
    endpoint: &Endpoint,
    name: &str,
) -> io::Result<Connection<I>> {
    let connection = connect(endpoint, name, 1)?;
    ProcessState::start_thread_pool();
    Ok(connection)
}

/// Returns the command that helps if no service was found at these sockets; `None` here, since init
/// starts the service on a device.
pub(crate) fn remedy(_sockets: &[PathBuf]) -> Option<String> {
    None
}

/// Returns the instances of `interface` that the device's VINTF manifest declares.
///
/// # Errors
/// If the service manager does not answer.
pub fn declared_instances(interface: &str) -> io::Result<Vec<String>> {
    binder::get_declared_instances(interface)
        .map_err(|code| io::Error::other(format!("cannot list the instances of {interface}: {code:?}")))
}
