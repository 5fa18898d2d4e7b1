// SPDX-License-Identifier: Apache-2.0
//! Code that the service and its clients share for the memory of a buffer: maps it, brackets CPU
//! accesses to dma-bufs, and asks whether another process has a file open. It also has the names
//! for kinds of heaps and buffers.
//!
//! It does not use heaps, the interface or connections.

#![deny(unsafe_code)]

mod sys;
mod words;

pub use sys::dma_buf;
pub use sys::lease;
pub use sys::map;
pub use words::{Access, Backing, BufferId, HeapType};
