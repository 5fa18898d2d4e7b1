// SPDX-License-Identifier: Apache-2.0
//! Floor 3: the arithmetic of memory between two clients, for any type of memory. Nothing here
//! makes a system call, takes a lock or reads a clock, so all of it runs under an interpreter and
//! against a model. `heap/pool.rs` has the pool of a heap, with its lock.
//!
//! # Life of pooled memory
//! Memory that its last holder released is *dirty*, in the
//! [`ReleasedList`](released::ReleasedList). The worker, or a caller that needs it, cleans it
//! ([`Pooled::clean`]). It is then on the [`FreeLists`](free_list::FreeLists), whose type excludes
//! dirty memory. Clean memory serves another request. It is returned to the kernel when the pool is
//! full, when it is unused for long, or when memory is scarce.
//!
//! *Fresh* memory ([`Pooled::fresh`]) comes from the source and has never been held: [`Demand`]
//! computes how many buffers of which sizes are worth preallocating. It fits every domain until a
//! client gets it.
//!
//! An [`Arena`] records the free ranges of memory that was set aside for one heap.

mod arena;
mod assembly;
mod contents;
mod demand;
mod free_list;
mod pooled;
mod released;
#[cfg(test)]
mod tests;
mod untouched;

pub use arena::{Arena, FreeBytes, Layout};
pub use assembly::{Assembly, BlockSizes};
pub use contents::{Contents, Evicted, PoolLimits};
pub use demand::{Demand, DemandLimits};
pub use pooled::{Clean, Dirty, Pooled, TrustDomain};
pub use released::ReleasedId;
pub use untouched::UntouchedSizes;
