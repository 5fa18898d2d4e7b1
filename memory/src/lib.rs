// SPDX-License-Identifier: Apache-2.0
//! Code that the service and its clients share for the memory of a buffer: mapping it, dma-buf CPU
//! accesses, and asking whether another process has a file open. It also has the names for kinds of
//! heaps and buffers.
//!
//! It knows neither heaps nor the interface nor connections.

#![deny(unsafe_code)]

mod sys;
mod words;

pub use sys::dma_buf;
pub use sys::lease;
pub use sys::map;
pub use words::{Access, Backing, BufferId, HeapType};
