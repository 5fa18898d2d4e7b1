// SPDX-License-Identifier: Apache-2.0
//! `mapper.anion.so`: gives a process access to graphic buffers that it received. It imports
//! handles, maps buffers for the CPU, and reads and writes their metadata: version 5 of Android's
//! `AIMapper`, whose header is `include/anion-mapper.h`.
//!
//! It calls no service and starts no thread. Its only state is the list of imported buffers
//! (`registry`), with which it refuses handles that were never imported or are already freed,
//! without reading them.
//!
//! # Trust
//!
//! The library trusts the program that calls it: its pointers are valid as the header requires. It
//! does not trust handles or metadata files: any process with the buffer may have written them. An
//! import checks the whole handle against its files ([`anion_handle`]), whose sizes are fixed, so
//! no later access faults.
//!
//! # Locks
//!
//! The lock of the list is held for a search, an insertion or a removal; that of a buffer
//! (`buffer::Buffer`) while its locks are counted. Neither is held during a system call, and they
//! are never held together. Any thread may call.

#![deny(unsafe_code)]

mod access;
mod buffer;
mod encode;
mod error;
mod file;
mod page;
mod registry;
mod set;
mod standard;
mod sys;

pub use sys::{AIMapper_loadIMapper, ANDROID_HAL_MAPPER_VERSION, Mapper};
