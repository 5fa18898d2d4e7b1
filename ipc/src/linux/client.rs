// SPDX-License-Identifier: Apache-2.0
//! Finding the service.

use crate::Endpoint;
use rsbinder::rpc::FileDescriptorTransportMode;
use rsbinder::{Client, FromIBinder, ProcessState, SIBinder, StatusCode, Strong, Uri};
use std::io;
use std::time::Duration;

/// A service that does not answer for this long is taken for broken.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A connected service. Dropping it, and every clone of the interface, closes the connection; where callbacks are
/// taken, dropping it alone does.
pub struct Connection<I: FromIBinder + ?Sized> {
    /// The service's interface.
    pub service: Strong<I>,
    client: Client,
    takes_calls: bool,
}

impl<I: FromIBinder + ?Sized> Connection<I> {
    /// Whether the service answers now: one round trip.
    pub fn answers(&self) -> bool {
        SIBinder::from(&self.service).ping_binder().is_ok()
    }
}

impl<I: FromIBinder + ?Sized> Drop for Connection<I> {
    fn drop(&mut self) {
        // The threads that take calls would keep the session for ever.
        if let Some(session) = self.client.session().filter(|_| self.takes_calls) {
            session.close_session();
        }
    }
}

/// Connects to the service registered as `name`.
///
/// Calls made over one socket connection answer one after another; `connections` (at least 1) is how many a client
/// with several threads opens. Kernel binder ignores it. All kernel connections of a process use one device.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` if nothing serves there, others as the system reports them. The message names
/// the endpoint.
pub fn connect<I: FromIBinder + ?Sized>(
    endpoint: &Endpoint,
    name: &str,
    connections: u32,
) -> io::Result<Connection<I>> {
    open(endpoint, name, connections, 0)
}

/// As [`connect`] with one connection, and one more over which the service can call this process's objects. Calls
/// arrive on threads of their own.
///
/// # Errors
/// As [`connect`].
pub fn connect_for_callbacks<I: FromIBinder + ?Sized>(
    endpoint: &Endpoint,
    name: &str,
) -> io::Result<Connection<I>> {
    open(endpoint, name, 1, 1)
}

fn open<I: FromIBinder + ?Sized>(
    endpoint: &Endpoint,
    name: &str,
    outgoing: u32,
    incoming: u32,
) -> io::Result<Connection<I>> {
    let fail = |kind, why: String| io::Error::new(kind, format!("{endpoint}: {why}"));
    let uri = match endpoint {
        Endpoint::Socket(path) => Uri::parse(&format!("unix://{}?profile=android13plus", path.display())),
        Endpoint::Binder(device) => Uri::parse(&format!("binder://?driver={}", device.display())),
    }
    .map_err(|error| fail(io::ErrorKind::InvalidInput, error.to_string()))?;
    let client = Client::open_with(uri, |options, endpoint| {
        if !endpoint.is_kernel() {
            options.fd_mode = Some(FileDescriptorTransportMode::Unix);
            options.outgoing_connections = Some(outgoing.max(1));
            options.incoming_connections = Some(incoming);
            options.timeout = Some(REPLY_TIMEOUT);
        }
    })
    .map_err(|code| {
        let error =
            open_error(endpoint).unwrap_or_else(|| io::Error::other(format!("cannot connect: {code:?}")));
        fail(error.kind(), error.to_string())
    })?;
    let takes_calls = incoming > 0;
    if takes_calls && matches!(endpoint, Endpoint::Binder(_)) {
        ProcessState::start_thread_pool();
    }
    match client.try_get(name) {
        Ok(Some(service)) => Ok(Connection { service, client, takes_calls }),
        Ok(None) => Err(fail(io::ErrorKind::NotFound, format!("{name} is not registered"))),
        Err(StatusCode::DeadObject) => {
            Err(fail(io::ErrorKind::ConnectionRefused, "no service manager answers".to_owned()))
        }
        Err(code) => Err(fail(io::ErrorKind::Other, format!("looking up {name}: {code:?}"))),
    }
}

/// Why the endpoint cannot be opened, in the system's own words: the library reports a bare status code.
fn open_error(endpoint: &Endpoint) -> Option<io::Error> {
    match endpoint {
        Endpoint::Socket(path) => std::os::unix::net::UnixStream::connect(path).err(),
        Endpoint::Binder(device) => std::fs::OpenOptions::new().read(true).write(true).open(device).err(),
    }
}

/// The instances of `interface` that are declared: this machine has no VINTF manifest, so there are none.
///
/// # Errors
/// Never; where there is a manifest, asking for it can fail.
pub fn declared_instances(_interface: &str) -> io::Result<Vec<String>> {
    Ok(Vec::new())
}
