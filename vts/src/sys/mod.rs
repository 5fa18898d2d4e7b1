// SPDX-License-Identifier: Apache-2.0
//! The suite's only unsafe code: mappings of buffers, and descriptors received over a socket.

mod mapping;
mod passing;

pub(crate) use mapping::Mapping;
pub(crate) use passing::{receive_descriptor, send_descriptor};
