// SPDX-License-Identifier: Apache-2.0
//! The handle of a graphic buffer: the allocator's service writes it, and the mapper reads it.
//!
//! A handle has two descriptors, that of the buffer and that of its metadata, and [`INTS`] numbers.
//! [`Handle::to_ints`] returns the numbers, [`Handle::parse`] reads them, and [`Handle::check`]
//! compares them with the files of the descriptors. The sender of a handle may have forged it, so
//! every number is checked: numbers that follow from others (code, modifier, stride, planes) must
//! be those that [`anion_layout`] computes, and the sizes must fit the files, which cannot shrink.
//!
//! [`metadata`] defines the positions of the settable metadata in the second file, and its initial
//! content. Every process with the handle can write to it at any time, so no value in it may be
//! trusted.
//!
//! This crate makes no system calls.

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

/// Descriptors of a handle: that of the buffer, then that of the metadata.
pub const FDS: usize = 2;
