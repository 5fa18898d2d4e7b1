// SPDX-License-Identifier: Apache-2.0
//! `libanion`: the client library for C and C++.
//!
//! A thin edge over `anion-client`: each exported function turns its arguments into Rust values,
//! makes one call and turns the result into a status and an object. Pointers are in the signatures
//! as what they are (`Option<&T>` for one that may be NULL, `Option<Box<T>>` for one that is given
//! back), or as a type of `sys` whose one method reads them; `sys` has the only `unsafe` blocks.
//! `error::attempt` is around everything that can fail or panic.
//!
//! The names are C's, and the comments of exported items are those of `include/anion.h`, which is
//! made of these files. Symbols are exported by `libanion.map` alone.

#![expect(non_camel_case_types, reason = "the names of C")]

pub mod buffer;
/// cbindgen:ignore
pub mod compat;
pub mod connection;
pub mod error;
pub mod heaps;
pub mod layout;
pub mod mapping;
pub mod pressure;
mod record;
pub mod request;
pub mod reservation;
pub mod sys;
pub mod usage;
