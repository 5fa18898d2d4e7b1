// SPDX-License-Identifier: Apache-2.0
//! `libanion`: the client library for C and C++.
//!
//! A thin layer over `anion-client`: each exported function converts its arguments to Rust values,
//! makes one call, and converts the result to a status and an object. Signatures contain pointers
//! as Rust types (`Option<&T>` if it may be NULL, `Option<Box<T>>` if the function frees it), or as
//! a type of `sys` with one method that reads them. Only `sys` has `unsafe` blocks.
//! `error::attempt` wraps all code that can fail or panic.
//!
//! The names follow C. The comments of exported items become those of `include/anion.h`, which is
//! generated from these files. Only `libanion.map` exports symbols.

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
