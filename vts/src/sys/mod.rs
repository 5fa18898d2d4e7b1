// SPDX-License-Identifier: Apache-2.0
//! The suite's only unsafe code: mappings of buffers, descriptors from a socket, and holes.

mod mapping;
mod passing;
mod punch;

pub(crate) use mapping::Mapping;
pub(crate) use passing::{receive_descriptor, send_descriptor};
pub(crate) use punch::punch_hole;
