// SPDX-License-Identifier: Apache-2.0
//! The part of AOSP's `rustutils` that Anion uses, with the same paths and signatures.
//!
//! AOSP's crate is in no public registry and needs bionic; this one reads the property area itself
//! and builds anywhere.

#![deny(unsafe_code)]

#[cfg(feature = "inherited-fd")]
pub mod inherited_fd;
pub mod system_properties;

/// What needs `unsafe`; it is found at the paths that AOSP has for it.
#[cfg(feature = "inherited-fd")]
mod sys;
