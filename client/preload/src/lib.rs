// SPDX-License-Identifier: Apache-2.0
//! `libanion-preload.so`: the device nodes of ION and of dma-heaps for programs that open them, by
//! `LD_PRELOAD`. `anionctl run` sets it.
//!
//! It has functions of the C library's names, which call the C library's own first. Only where that
//! fails in the way that it does for a node that is not there or not permitted, it looks whether
//! the call is about one of the nodes. So all else is as without it, at the cost of one more call;
//! no lock is taken and nothing is allocated for it. `anion-nodes` knows what the nodes answer.
//!
//! Start reading at `served`, which decides; `open`, `status`, `directory` and `requests` have the
//! functions by subject; `sys` reads and writes their arguments.

pub mod directory;
pub mod open;
pub mod requests;
mod served;
pub mod status;
pub mod sys;
