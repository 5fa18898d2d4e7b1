// SPDX-License-Identifier: Apache-2.0
//! Answers requests to `/dev/ion` and `/dev/dma_heap/*` with the allocator service, for programs
//! that use these nodes, on machines without them.
//!
//! This crate is independent of how a program's calls reach it. Requests read and write a
//! [`Program`]: the calling process itself, or a process that a supervisor serves.
//!
//! # An open node
//!
//! [`Nodes::open`] returns a descriptor of a sealed memfd whose content names the node. So
//! [`OpenNode::of`] recognises it after dup(2), fork(2), execve(2) or a message. ION keeps the
//! handles of its older interface for each open file; this crate keeps them for the inode of the
//! memfd. A request or [`Nodes::release_closed`] frees them when all descriptors of the memfd are
//! closed.
//!
//! # Which ION
//!
//! Kernels before 4.12 gave handles, later ones descriptors; [`Interface`] selects what is
//! imitated.

#![forbid(unsafe_code)]

mod dma_heap;
mod handles;
mod ion;
mod node;
mod open_node;
mod program;
mod service;

pub use ion::HEAP;
pub use node::{DMA_HEAPS, HeapName, ION, Node, NodeStatus, is_above_dma_heaps, node_at, node_below};
pub use open_node::{LENGTH, OpenNode};
pub use program::Program;
pub use service::{Entry, Interface, Nodes, Settings};
