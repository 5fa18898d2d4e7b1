// SPDX-License-Identifier: Apache-2.0
//! The implementation for `rsbinder`: kernel binder through any device, and RPC binder over Unix
//! sockets.

mod callback;
mod caller;
mod client;
mod denial;
mod permit;
mod remedy;
pub mod server;
mod status;
mod sys;
mod transport;

pub use callback::{DeathLink, caller_takes_calls, is_same_object};
pub use caller::calling_identity;
pub use client::{Connection, connect, connect_as_operator, connect_for_callbacks, declared_instances};
pub use permit::{Held, Permit};
pub(crate) use remedy::remedy;
pub use status::{is_lost, service_error};
pub use transport::{Opening, Refused};

pub use rsbinder::{BinderResult as Result, FromIBinder, Interface, ParcelFileDescriptor, Status, Strong};

/// Newest supported wire version of the android13plus profile (Android 16); older peers negotiate
/// an older one.
const WIRE_VERSION: u32 = 2;
