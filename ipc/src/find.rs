// SPDX-License-Identifier: Apache-2.0
//! Selects the service: the one that the user names, else the one of this machine.

use crate::endpoint::{machine_socket, user_socket};
use crate::library::remedy;
use crate::{Connection, Endpoint, FromIBinder, Strong};
use std::path::PathBuf;
use std::{env, io};

/// Environment variable that names the service's socket.
pub const SOCKET_VARIABLE: &str = "ANION_SOCKET";

/// A service that answered.
pub struct Found<I: FromIBinder + ?Sized> {
    /// The address.
    pub endpoint: Endpoint,
    /// The connection to it.
    pub connection: Connection<I>,
}

impl<I: FromIBinder + ?Sized> Found<I> {
    /// Returns the service's interface.
    pub fn interface(&self) -> &Strong<I> {
        &self.connection.service
    }
}

/// Connects, with `connect`, to the service at
///
/// 1. the endpoint `named`;
/// 2. else the socket that [`SOCKET_VARIABLE`] names;
/// 3. else kernel binder, if this machine has a binder device and the service is registered there;
/// 4. else `anion/allocator.sock` in `$XDG_RUNTIME_DIR`, if that directory is this user's own;
/// 5. else `/run/anion/allocator.sock`, the socket of the machine's service.
///
/// # Errors
/// If no service answers. The message names the cause for every address that was tried, and the
/// command that helps, if there is one.
pub fn find<I: FromIBinder + ?Sized>(
    named: Option<Endpoint>,
    connect: impl Fn(&Endpoint) -> io::Result<Connection<I>>,
) -> io::Result<Found<I>> {
    let (mut refusals, mut sockets) = (Vec::new(), Vec::new());
    let candidates = match named.or_else(|| socket_of_environment().map(Endpoint::Socket)) {
        Some(endpoint) => vec![endpoint],
        None => default_places(&mut refusals),
    };
    for endpoint in candidates {
        let endpoint = absolute(endpoint)?;
        match connect(&endpoint) {
            Ok(connection) => {
                log::debug!("connected to {endpoint}");
                return Ok(Found { endpoint, connection });
            }
            Err(error) => {
                refusals.push(error);
                sockets.extend(match endpoint {
                    Endpoint::Socket(path) => Some(path),
                    Endpoint::Binder(_) => None,
                });
            }
        }
    }
    let kind = refusals.last().map_or(io::ErrorKind::NotFound, io::Error::kind);
    let mut reasons: Vec<String> = refusals.iter().map(io::Error::to_string).collect();
    reasons.extend(remedy(&sockets));
    Err(io::Error::new(kind, reasons.join("; ")))
}

/// Returns the socket that the environment names; `None` if it names none.
fn socket_of_environment() -> Option<PathBuf> {
    env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Returns the endpoints to try if none is named. Adds to `refusals` why an endpoint cannot be
/// used.
fn default_places(refusals: &mut Vec<io::Error>) -> Vec<Endpoint> {
    let mut places: Vec<Endpoint> = Endpoint::default_binder().into_iter().collect();
    match user_socket() {
        Ok(path) => places.push(Endpoint::Socket(path)),
        Err(error) => refusals.push(io::Error::new(io::ErrorKind::NotFound, error)),
    }
    places.push(Endpoint::Socket(machine_socket()));
    places
}

/// Returns the endpoint with an absolute path: the address of a socket has no working directory.
fn absolute(endpoint: Endpoint) -> io::Result<Endpoint> {
    match endpoint {
        Endpoint::Socket(path) => std::path::absolute(path).map(Endpoint::Socket),
        Endpoint::Binder(_) => Ok(endpoint),
    }
}
