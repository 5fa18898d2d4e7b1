// SPDX-License-Identifier: Apache-2.0
//! Floor 3: the arithmetic of memory between two clients. Generic over what memory is: nothing here
//! makes a system call, takes a lock or reads a clock, so that all of it runs under an interpreter
//! and against a model. The pool that each heap has, with its lock, is `heap/pool.rs`.
//!
//! # Life of pooled memory
//! Memory that its last holder released is *dirty*, in the
//! [`ReleasedList`](released::ReleasedList). The worker or a caller that needs it cleans it
//! ([`Pooled::clean`]); it is then on the [`FreeLists`](free_list::FreeLists), which accept no
//! dirty memory by type. Clean memory is handed out again, or returned to the kernel when the pool
//! is full, when it is idle, or when memory is scarce.
//!
//! *Fresh* memory ([`Pooled::fresh`]) comes from the source and has never been held: [`Demand`]
//! tells how many buffers of which sizes are worth preallocating. It fits every domain until it is
//! handed out.
//!
//! An [`Arena`] tells which bytes of memory that was set aside for one heap are in use.

mod arena;
mod assembly;
mod contents;
mod demand;
mod free_list;
mod pooled;
mod released;
#[cfg(test)]
mod tests;

pub use arena::{Arena, FreeBytes, Layout};
pub use assembly::{Assembly, BlockSizes};
pub use contents::{Contents, Evicted, PoolLimits};
pub use demand::{Demand, DemandLimits};
pub use pooled::{Clean, Dirty, Pooled, TrustDomain};
pub use released::ReleasedId;
