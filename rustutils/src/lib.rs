// SPDX-License-Identifier: Apache-2.0
//! The part of AOSP's `rustutils` that Anion uses, with the same paths and signatures.
//!
//! AOSP's crate is in no public registry and needs bionic; this one reads the property area itself and builds
//! anywhere.

#![deny(unsafe_code)]

pub mod system_properties;
