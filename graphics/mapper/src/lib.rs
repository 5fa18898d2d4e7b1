// SPDX-License-Identifier: Apache-2.0
//! `mapper.anion.so`: what a process needs to use the graphic buffers that it was given. It imports
//! handles, maps buffers for the CPU, and reads and writes their metadata: version 5 of Android's
//! `AIMapper`, whose header is `include/anion-mapper.h`.
//!
//! It asks no service and starts no thread. All that it keeps is the list of imported buffers
//! (`registry`), so that a handle that was never imported, or is free already, is refused and not
//! looked into.
//!
//! # Whom it trusts
//!
//! The program that calls it, as any library does: its pointers are what the header says. Neither
//! handles nor the memory beside a buffer: any process that has a buffer may have written them.
//! Import checks all of a handle against its files ([`anion_handle`]), whose sizes are fixed, so no
//! access faults later.
//!
//! # Locks
//!
//! The lock of the list is held for a look-up, an insertion or a removal; that of a buffer
//! (`buffer::Buffer`) to count its locks. Neither is held during a system call, and no two are held
//! together. Any thread may call.

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
