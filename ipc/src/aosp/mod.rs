// SPDX-License-Identifier: Apache-2.0
//! The implementation for AOSP's `binder`: only kernel binder, through the device and the service
//! manager that `libbinder_ndk` selects for the partition of the process.

mod callback;
mod caller;
mod client;
pub mod server;
mod status;

pub use callback::{DeathLink, caller_takes_calls, is_same_object};
pub use caller::calling_identity;
pub(crate) use client::remedy;
pub use client::{Connection, connect, connect_as_operator, connect_for_callbacks, declared_instances};
pub use status::{is_lost, service_error};

pub use binder::{FromIBinder, Interface, ParcelFileDescriptor, Result, Status, Strong};
