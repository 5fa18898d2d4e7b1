// SPDX-License-Identifier: Apache-2.0
//! What the service and its clients do alike with the memory of a buffer: they map it, tell
//! dma-bufs of the CPU's accesses, and ask who else has a file open. And the words that both have
//! for kinds of heaps and buffers.
//!
//! It knows neither side: no heap, no interface, no connection.

#![deny(unsafe_code)]

mod sys;
mod words;

pub use sys::dma_buf;
pub use sys::lease;
pub use sys::map;
pub use words::{Access, Backing, BufferId, HeapType};
