// SPDX-License-Identifier: Apache-2.0
//! The boundary to C: the types of the interface and its functions. Only this folder of the crate
//! has `unsafe` code.
//!
//! Every function has the contract of the header: its pointers refer to values of their types for
//! the whole call, or are null where null is refused. Handles of buffers are an exception: they may
//! be any address, and are searched for in the list before they are read. A panic is converted to
//! an error code.

#![allow(unsafe_code, reason = "the one folder of this crate that may; every block argues for itself")]

mod abi;
mod calls;
mod describe;
mod native;

pub use abi::Mapper;
pub use calls::AIMapper_loadIMapper;
pub(crate) use native::Native;

/// The version of the interface, which programs find by this name.
#[unsafe(no_mangle)]
pub static ANDROID_HAL_MAPPER_VERSION: i32 = 5;
