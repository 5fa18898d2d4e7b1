// SPDX-License-Identifier: Apache-2.0
//! The handle of a graphic buffer: what the allocator's service writes and the mapper reads.
//!
//! A handle has two descriptors, that of the buffer and that of its metadata, and [`INTS`] numbers.
//! [`Handle::to_ints`] returns the numbers, [`Handle::parse`] reads them, [`Handle::check`]
//! compares them with the files behind the descriptors. The sender of a handle may have forged it,
//! so every number is checked: numbers that follow from others (code, modifier, stride, planes)
//! must be those that [`anion_layout`] computes, and the sizes must fit the files, which cannot
//! shrink.
//!
//! [`metadata`] tells where the settable metadata are in the second file, and what the service
//! writes there first. Every process with a handle writes to it at any time, so nothing that is
//! read there may be trusted.
//!
//! Nothing here asks the system.

#![forbid(unsafe_code)]

mod check;
mod handle;
mod ints;
pub mod metadata;
#[cfg(test)]
mod tests;

pub use check::{BadFile, File, Kind, Which};
pub use handle::{Handle, Invalid, MAX_LAYERS, Request};
pub use ints::{INTS, MAGIC, Malformed, VERSION};

/// Descriptors of a handle: the buffer, then the metadata.
pub const FDS: usize = 2;
