// SPDX-License-Identifier: Apache-2.0
//! The seam's side towards `rsbinder`: kernel binder with a device of one's choice, and RPC binder
//! over Unix sockets.

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

/// Newest wire version of the android13plus profile that is spoken (Android 16); older peers
/// negotiate down.
const WIRE_VERSION: u32 = 2;
