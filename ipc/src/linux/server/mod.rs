// SPDX-License-Identifier: Apache-2.0
//! Serves over Unix sockets, connection by connection, and over kernel binder through its service
//! manager.

mod kernel;
mod publish;
mod socket;

pub use kernel::KernelServer;
pub use publish::{DumpArgument, DumpOutcome, Features, dump_arguments, dump_outcome, features};
pub use socket::SocketServer;
