// SPDX-License-Identifier: Apache-2.0
//! What `/dev/ion` and `/dev/dma_heap/*` answer, served by the allocator service: for programs that
//! were written for these nodes, on machines that have none.
//!
//! How a program's calls get here is not known here. [`Program`] is what requests read and write of
//! it: the calling process itself, or another one that a supervisor serves.
//!
//! # An open node
//!
//! [`Nodes::open`] gives a descriptor of a sealed memfd whose content names the node. So it is
//! known by itself ([`OpenNode::of`]), whatever way it took: dup(2), fork(2), execve(2), a message.
//! What ION keeps for an open file, the handles of its older interface, is kept here for the inode
//! of the memfd, and freed when a request or [`Nodes::release_closed`] finds that no descriptor of
//! it is open any more.
//!
//! # Which ION
//!
//! Kernels before 4.12 gave handles, later ones descriptors; [`Interface`] says which are imitated.

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
