// SPDX-License-Identifier: Apache-2.0
//! Connecting.

use crate::error::{Failure, anion_error, attempt, boxed, given, make};
use crate::sys::{SettingsIn, Text};
use ::anion_client::{Client, Endpoint, Settings};
use std::ffi::{CString, c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

/// A client of the allocator service.
pub struct anion_client {
    pub(crate) client: Client,
    endpoint: CString,
}

/// Settings of a client.
#[repr(C)]
#[derive(Default)]
pub struct anion_settings<'a> {
    /// The sizeof of this structure.
    pub struct_size: usize,
    /// As for anion_connect(); NULL for the default.
    pub endpoint: Text<'a>,
    /// Milliseconds that a call waits for a service that has ended to start again; 0 for the
    /// default of 5000. 1 is a single attempt.
    pub patience_ms: u32,
    /// Number of calls that are answered at once over a socket; 0 for the default of 1. Kernel
    /// binder ignores it.
    pub connections: u32,
}

/// Returns the library's version: "MAJOR.MINOR.PATCH".
#[unsafe(no_mangle)]
pub extern "C" fn anion_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Connects to the service.
///
/// `endpoint` is a socket's path, which begins with `/` or `.`, `unix:PATH`, `binder` or
/// `binder:DEVICE`. With NULL the library looks for the service as anionctl(1) does: the socket
/// that ANION_SOCKET names, else kernel binder if the service is registered there, else the first
/// that answers of $XDG_RUNTIME_DIR/anion/allocator.sock (if that directory belongs to the caller)
/// and /run/anion/allocator.sock.
///
/// Fails with -EINVAL if `endpoint` is none of these, and with -ENOTCONN if no service answers: the
/// message names the cause for each address, and the command that helps.
#[unsafe(no_mangle)]
pub extern "C" fn anion_connect(
    endpoint: Text<'_>,
    client: Option<&mut MaybeUninit<*mut anion_client>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(client, "client", error, || connect(&anion_settings { endpoint, ..Default::default() }))
}

/// Connects with `settings`; NULL for the defaults.
#[unsafe(no_mangle)]
pub extern "C" fn anion_connect_with(
    settings: SettingsIn<'_>,
    client: Option<&mut MaybeUninit<*mut anion_client>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(client, "client", error, || connect(&settings.read()?))
}

fn connect(asked: &anion_settings<'_>) -> Result<*mut anion_client, Failure> {
    let mut settings = Settings::default();
    if let Some(endpoint) = asked.endpoint.get("endpoint")? {
        let parsed: Result<Endpoint, _> = endpoint.parse();
        settings.endpoint = Some(parsed.map_err(|error| Failure::Argument(error.to_string()))?);
    }
    if asked.patience_ms != 0 {
        settings.patience = Duration::from_millis(asked.patience_ms.into());
    }
    settings.connections = asked.connections.max(1);
    let client = Client::with(settings)?;
    let endpoint = CString::new(client.endpoint().to_string()).unwrap_or_default();
    Ok(boxed(anion_client { client, endpoint }))
}

/// Returns the address of the service: a socket's path or "binder:DEVICE".
#[unsafe(no_mangle)]
pub extern "C" fn anion_client_endpoint(client: Option<&anion_client>) -> *const c_char {
    client.map_or(ptr::null(), |client| client.endpoint.as_ptr())
}

/// Returns the number of services that the client was connected to so far, at least 1. While it
/// stays the same, reservations of the client still exist.
#[unsafe(no_mangle)]
pub extern "C" fn anion_client_generation(client: Option<&anion_client>) -> u64 {
    client.map_or(0, |client| client.client.generation())
}

/// Ends the connection. Buffers, mappings and pressure listeners stay valid; so do reservations,
/// which keep the connection that made them.
#[unsafe(no_mangle)]
pub extern "C" fn anion_client_free(client: Option<Box<anion_client>>) {
    attempt(None, || {
        drop(client);
        Ok(0)
    });
}

/// Returns the client of the argument.
pub(crate) fn client_of(client: Option<&anion_client>) -> Result<&Client, Failure> {
    Ok(&given(client, "client")?.client)
}
