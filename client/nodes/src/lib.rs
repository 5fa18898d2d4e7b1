// SPDX-License-Identifier: Apache-2.0
//! Answers of `/dev/ion` and `/dev/dma_heap/*`, over the allocator service: for programs that were
//! written for these nodes, on machines that have none.
//!
//! This crate does not know how a program's calls reach it. Requests read and write a [`Program`]:
//! the calling process itself, or another one that a supervisor serves.
//!
//! # An open node
//!
//! [`Nodes::open`] returns a descriptor of a sealed memfd whose content names the node. So
//! [`OpenNode::of`] recognises it after dup(2), fork(2), execve(2) or a message. State that ION
//! keeps for an open file, the handles of its older interface, is kept here for the inode of the
//! memfd. It is freed when a request or [`Nodes::release_closed`] finds that no descriptor of it is
//! open.
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
