// SPDX-License-Identifier: Apache-2.0
//! The edge to C: the types of the interface, its functions, and the one folder of this crate with
//! `unsafe` code.
//!
//! Every function is what the header says: its pointers refer to what their types say for the whole
//! call, or are null where that is refused. The one exception are handles of buffers, which are
//! looked up by their address before anything is read there. A panic ends in an error code.

#![allow(unsafe_code, reason = "the one folder of this crate that may; every block argues for itself")]

mod abi;
mod calls;
mod describe;
mod native;

pub use abi::Mapper;
pub use calls::AIMapper_loadIMapper;
pub(crate) use native::Native;

/// The version of the interface, which programs look for by this name.
#[unsafe(no_mangle)]
pub static ANDROID_HAL_MAPPER_VERSION: i32 = 5;
