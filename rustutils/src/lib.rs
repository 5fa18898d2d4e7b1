// SPDX-License-Identifier: Apache-2.0
//! The part of AOSP's `rustutils` that Anion uses, with the same paths and signatures.
//!
//! AOSP's crate is in no public registry and needs bionic. This crate reads the property area
//! itself and builds on every Linux.

#![deny(unsafe_code)]

#[cfg(feature = "inherited-fd")]
pub mod inherited_fd;
pub mod system_properties;

/// Code that needs `unsafe`. It is re-exported under AOSP's paths.
#[cfg(feature = "inherited-fd")]
mod sys;
