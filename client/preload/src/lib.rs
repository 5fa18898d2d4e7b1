// SPDX-License-Identifier: Apache-2.0
//! `libanion-preload.so`: serves the device nodes of ION and of dma-heaps to programs that open
//! them, by `LD_PRELOAD`. `anionctl run` sets it.
//!
//! It defines functions with the C library's names, which call the C library first. Only if that
//! call fails with an error of a missing or forbidden node, they check whether the call concerns a
//! node. So all other calls behave as without the library, at the cost of one more call, without a
//! lock or an allocation. `anion-nodes` answers for the nodes.
//!
//! Start reading at `served`, which selects the calls. `open`, `status`, `directory` and `requests`
//! have the functions by subject; `sys` reads and writes their arguments.

pub mod directory;
pub mod open;
pub mod requests;
mod served;
pub mod status;
pub mod sys;
