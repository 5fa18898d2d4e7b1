// SPDX-License-Identifier: Apache-2.0
//! The one seam between Anion and its binder library.
//!
//! Everything that differs between `rsbinder` (cargo) and AOSP's `binder` (Soong) is in this crate: who calls,
//! how a status is made and read, how a service is found, registered and served. The service, the command line
//! and the conformance tests use these names and the generated AIDL types, and nothing else of binder.

#![deny(unsafe_code)]

mod callback;
mod caller;
mod client;
mod endpoint;
mod error;
mod find;
#[doc(hidden)]
pub mod server;

pub use callback::{DeathLink, caller_takes_calls, is_same_object};
pub use caller::{CallerIdentity, calling_identity};
pub use client::{Connection, connect, connect_for_callbacks};
pub use endpoint::{Endpoint, EndpointError, default_socket};
pub use error::{ServiceError, is_lost, service_error};
pub use find::{Found, SOCKET_VARIABLE, find};
pub use server::{KernelServer, SocketServer};

pub use rsbinder::{BinderResult as Result, Interface, ParcelFileDescriptor, Status, Strong};

/// Name that the service is registered under, on every transport.
pub const SERVICE_NAME: &str = "vendor.anion.allocator.IHeapAllocator/default";
