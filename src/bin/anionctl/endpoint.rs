// SPDX-License-Identifier: Apache-2.0
//! Which service to talk to.
//!
//! 1. the endpoint that a flag names;
//! 2. the socket that `ANION_SOCKET` names;
//! 3. kernel binder, if this machine has a binder device and the service is registered there;
//! 4. the default socket of this user.

use anion_ipc::{Connection, Endpoint, SERVICE_NAME, Strong, default_socket};
use std::path::PathBuf;
use std::{env, io};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// Environment variable that names the service's socket.
const SOCKET_VARIABLE: &str = "ANION_SOCKET";

/// A service that answered.
pub(crate) struct Service {
    /// Where it was found.
    pub(crate) endpoint: Endpoint,
    connection: Connection<dyn IHeapAllocator>,
}

impl Service {
    /// Its interface.
    pub(crate) fn interface(&self) -> &Strong<dyn IHeapAllocator> {
        &self.connection.service
    }
}

/// Connects to the service at `named`, else to the first place of the list above where one answers.
///
/// # Errors
/// If none answers; the message has the reason for every place that was tried.
pub(crate) fn connect(named: Option<Endpoint>) -> io::Result<Service> {
    connect_by(named, |endpoint, name| anion_ipc::connect(endpoint, name, 1))
}

/// As [`connect`], with a connection of the caller's kind.
///
/// # Errors
/// As [`connect`].
pub(crate) fn connect_by(
    named: Option<Endpoint>,
    connect: impl Fn(&Endpoint, &str) -> io::Result<Connection<dyn IHeapAllocator>>,
) -> io::Result<Service> {
    let mut refusals = Vec::new();
    let candidates = match named.or_else(|| socket_of_environment().map(Endpoint::Socket)) {
        Some(endpoint) => vec![endpoint],
        None => default_places(&mut refusals),
    };
    for endpoint in candidates {
        let endpoint = absolute(endpoint)?;
        match connect(&endpoint, SERVICE_NAME) {
            Ok(connection) => {
                log::debug!("connected to {endpoint}");
                return Ok(Service { endpoint, connection });
            }
            Err(error) => refusals.push(error),
        }
    }
    let kind = refusals.last().map_or(io::ErrorKind::NotFound, io::Error::kind);
    let reasons: Vec<String> = refusals.iter().map(io::Error::to_string).collect();
    Err(io::Error::new(kind, reasons.join("; ")))
}

/// The socket that the environment names, if it names one.
fn socket_of_environment() -> Option<PathBuf> {
    env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Where a service may be if nothing names it; adds to `refusals` why a place is none.
fn default_places(refusals: &mut Vec<io::Error>) -> Vec<Endpoint> {
    let mut places: Vec<Endpoint> = Endpoint::default_binder().into_iter().collect();
    match default_socket() {
        Ok(path) => places.push(Endpoint::Socket(path)),
        Err(error) => refusals.push(io::Error::new(io::ErrorKind::NotFound, error)),
    }
    places
}

/// The same endpoint with an absolute path: a socket's address has no working directory.
fn absolute(endpoint: Endpoint) -> io::Result<Endpoint> {
    match endpoint {
        Endpoint::Socket(path) => std::path::absolute(path).map(Endpoint::Socket),
        Endpoint::Binder(_) => Ok(endpoint),
    }
}
