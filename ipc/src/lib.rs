// SPDX-License-Identifier: Apache-2.0
//! The only crate that names the binder library.
//!
//! It contains everything that differs between `rsbinder` (cargo) and AOSP's `binder` (Soong): the
//! caller's identity, statuses, and how a service is found, registered and served. The service, the
//! command line and the conformance tests use only this crate and the generated AIDL types.

#![deny(unsafe_code)]

mod endpoint;
mod error;
mod find;
mod identity;
mod interface;

#[cfg(soong)]
mod aosp;
#[cfg(soong)]
use aosp as library;
#[cfg(not(soong))]
mod linux;
#[cfg(not(soong))]
use linux as library;

pub use endpoint::{Endpoint, EndpointError, default_socket};
pub use error::{OutOfDescriptors, ServiceError};
pub use find::{Found, SOCKET_VARIABLE, find};
pub use identity::CallerIdentity;
#[doc(hidden)]
pub use library::server;
pub use library::server::KernelServer;
pub use library::{Connection, connect, connect_as_operator, connect_for_callbacks, declared_instances};
pub use library::{DeathLink, caller_takes_calls, calling_identity, is_same_object};
pub use library::{FromIBinder, Interface, ParcelFileDescriptor, Status, Strong};
#[cfg(not(soong))]
pub use library::{Held, Opening, Permit, Refused, server::SocketServer};
pub use library::{Result, is_lost, service_error};

/// Name of the interface that the service implements.
pub const INTERFACE_NAME: &str = "vendor.anion.allocator.IHeapAllocator";

/// Name under which the service is registered, on every transport.
pub const SERVICE_NAME: &str = "vendor.anion.allocator.IHeapAllocator/default";
