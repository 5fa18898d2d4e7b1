// SPDX-License-Identifier: Apache-2.0
//! Finds the service and connects to it.

use super::WIRE_VERSION;
use super::denial;
use super::transport::{Heard, Transport};
use crate::Endpoint;
use rsbinder::rpc::{FileDescriptorTransportMode, RpcClientConfig, RpcSession, RpcTransport};
use rsbinder::{Client, FromIBinder, ProcessState, SIBinder, StatusCode, Strong, Uri};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Time after which a service without an answer counts as broken.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// A connected service. Dropping it and every clone of the interface closes the connection. For a
/// connection that receives calls, dropping only this closes it.
pub struct Connection<I: FromIBinder + ?Sized> {
    /// The service's interface.
    pub service: Strong<I>,
    /// `None` over kernel binder.
    session: Option<RpcSession>,
    takes_calls: bool,
}

impl<I: FromIBinder + ?Sized> Connection<I> {
    /// Returns whether the service answers now. Makes one round trip.
    pub fn answers(&self) -> bool {
        SIBinder::from(&self.service).ping_binder().is_ok()
    }
}

impl<I: FromIBinder + ?Sized> Drop for Connection<I> {
    fn drop(&mut self) {
        // The threads that receive calls would keep the session permanently.
        if let Some(session) = self.session.as_ref().filter(|_| self.takes_calls) {
            session.close_session();
        }
    }
}

/// Connects to the service: over a socket to the root object of the service there, over kernel
/// binder to the service that is registered as `name`.
///
/// Calls over one socket connection run one after another; a client with several threads can open
/// several `connections` (at least 1). Kernel binder ignores it. All kernel connections of a
/// process use one device.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` if no service listens there, or the service refuses the
/// connection; `ConnectionReset` if a service closed the connection twice without a reason;
/// `PermissionDenied` if this process may not write to the socket; others as the system reports
/// them. The message names the endpoint, and the limit or the group that prevents the
/// connection.
pub fn connect<I: FromIBinder + ?Sized>(
    endpoint: &Endpoint,
    name: &str,
    connections: u32,
) -> io::Result<Connection<I>> {
    open(endpoint, name, Connections { outgoing: connections, incoming: 0, is_operator: false })
}

/// Connects as [`connect`] with one connection, for administration and not to allocate. The service
/// keeps connections for root and its own user outside the budget.
///
/// # Errors
/// As [`connect`].
pub fn connect_as_operator<I: FromIBinder + ?Sized>(
    endpoint: &Endpoint,
    name: &str,
) -> io::Result<Connection<I>> {
    open(endpoint, name, Connections { outgoing: 1, incoming: 0, is_operator: true })
}

/// Connects as [`connect`] with one connection, and another one over which the service can call
/// this process's objects. Separate threads receive the calls.
///
/// # Errors
/// As [`connect`].
pub fn connect_for_callbacks<I: FromIBinder + ?Sized>(
    endpoint: &Endpoint,
    name: &str,
) -> io::Result<Connection<I>> {
    open(endpoint, name, Connections { outgoing: 1, incoming: 1, is_operator: false })
}

/// Numbers of connections in a session.
#[derive(Clone, Copy)]
struct Connections {
    /// For calls to the service, at least 1.
    outgoing: u32,
    /// For calls from the service.
    incoming: u32,
    is_operator: bool,
}

fn open<I: FromIBinder + ?Sized>(
    endpoint: &Endpoint,
    name: &str,
    connections: Connections,
) -> io::Result<Connection<I>> {
    let takes_calls = connections.incoming > 0;
    let (found, session) = match endpoint {
        Endpoint::Socket(path) => {
            let (session, root) = open_session(path, connections).map_err(|error| at(endpoint, &error))?;
            (Strong::try_from(root).map(Some), Some(session))
        }
        Endpoint::Binder(device) => {
            let client = open_device(device).map_err(|error| at(endpoint, &error))?;
            if takes_calls {
                ProcessState::start_thread_pool();
            }
            (client.try_get(name), None)
        }
    };
    let fail = |kind, why: String| at(endpoint, &io::Error::new(kind, why));
    match found {
        Ok(Some(service)) => Ok(Connection { service, session, takes_calls }),
        Ok(None) | Err(StatusCode::NameNotFound) => {
            Err(fail(io::ErrorKind::NotFound, format!("{name} is not registered")))
        }
        Err(StatusCode::DeadObject) => {
            Err(fail(io::ErrorKind::ConnectionRefused, "no service manager answers".to_owned()))
        }
        Err(code) => Err(fail(io::ErrorKind::Other, format!("cannot look up {name}: {code:?}"))),
    }
}

/// Returns the error with the endpoint's name.
fn at(endpoint: &Endpoint, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{endpoint}: {error}"))
}

/// Opens a session, and returns it with its root object. A service that stops closes connections
/// that it has just accepted, without a reason. Then this connects once more: a socket of systemd
/// leads to the next service.
fn open_session(path: &Path, connections: Connections) -> io::Result<(RpcSession, SIBinder)> {
    match attempt_session(path, connections) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => attempt_session(path, connections),
        opened => opened,
    }
}

/// Makes one attempt. The error is `ConnectionReset` if the service closed the connection without a
/// reason.
fn attempt_session(path: &Path, connections: Connections) -> io::Result<(RpcSession, SIBinder)> {
    // The library returns only a status code; the system's error and the service's refusal are more
    // precise.
    let mut refused = None;
    let heard = Heard::default();
    let config = RpcClientConfig::new(WIRE_VERSION, || {
        let stream = UnixStream::connect(path).map_err(|error| {
            refused = Some(denial::explain(path, &error));
            StatusCode::DeadObject
        })?;
        let transport = Transport::connecting(stream, connections.is_operator, Heard::clone(&heard));
        Ok(Box::new(transport.map_err(StatusCode::from)?) as Box<dyn RpcTransport>)
    })
    .fd_mode(FileDescriptorTransportMode::Unix)
    .outgoing_connections(connections.outgoing.max(1))
    .incoming_connections(connections.incoming)
    .timeout(REPLY_TIMEOUT);
    let opened = RpcSession::setup_client_android13plus_with_config(config);
    let opened = opened.and_then(|session| session.get_root().map(|root| (session, root)));
    opened.map_err(|code| {
        if let Some(why) = heard.get() {
            let why = format!("the service refuses the connection: {why}");
            return io::Error::new(io::ErrorKind::ConnectionRefused, why);
        }
        refused.take().unwrap_or_else(|| match code {
            StatusCode::DeadObject => {
                io::Error::new(io::ErrorKind::ConnectionReset, "the service closed the connection")
            }
            code => io::Error::other(format!("cannot connect: {code:?}")),
        })
    })
}

fn open_device(device: &Path) -> io::Result<Client> {
    let uri = Uri::parse(&format!("binder://?driver={}", device.display()))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    Client::open(uri).map_err(|code| {
        // For the same reason.
        let opened = std::fs::OpenOptions::new().read(true).write(true).open(device);
        opened.err().unwrap_or_else(|| io::Error::other(format!("cannot connect: {code:?}")))
    })
}

/// Returns the declared instances of `interface`: none, since this machine has no VINTF manifest.
///
/// # Errors
/// Never; with a manifest, the query can fail.
pub fn declared_instances(_interface: &str) -> io::Result<Vec<String>> {
    Ok(Vec::new())
}
