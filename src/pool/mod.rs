// SPDX-License-Identifier: Apache-2.0
//! Floor 3: memory between two clients, and which of it is free. Generic over what memory is: nothing here makes a
//! system call, takes a lock or reads a clock, so that all of it runs under an interpreter and against a model.
//!
//! # Life of a spare
//! A buffer that its last holder let go of is a *dirty* spare in [`Deferred`]. The worker takes it out, scrubs it
//! ([`Spare::scrub`]), and puts the *zeroed* spare on a [`Shelf`]; types admit no dirty one there. A spare on a shelf
//! is handed out again, or given back to the kernel when the shelf is full, idle, or memory is scarce.
//!
//! A *fresh* spare ([`Spare::fresh`]) comes from the source and has never been held: [`Demand`] tells how many of which
//! sizes are worth making ahead of the next request. It fits every domain until it is handed out.
//!
//! An [`Arena`] tells which bytes of memory that was set aside for one heap are in use.

mod arena;
mod assembly;
mod deferred;
mod demand;
mod shelf;
mod spare;
#[cfg(test)]
mod tests;

pub use arena::{Arena, FreeBytes, Layout};
pub use assembly::{Assembly, BlockSizes, Effort, Incomplete, Wanted};
pub use deferred::Deferred;
pub use demand::{Demand, DemandLimits, Target};
pub use shelf::{Shelf, ShelfLimits};
pub use spare::{Dirty, Spare, TrustDomain, Zeroed};
