// SPDX-License-Identifier: Apache-2.0
//! Memory that enters and leaves a pool, and its counters.

use super::memory::{Poolable, Stored};
use super::{Discards, Released};
use crate::pool::{Clean, Pooled, ReleasedId, TrustDomain};
use crate::units::BackedBytes;
use std::sync::Arc;

/// Counters of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolCounters {
    /// Clean bytes in it.
    pub pooled_bytes: u64,
    /// Buffers served from it.
    pub hits: u64,
    /// Buffers that it could have served but did not.
    pub misses: u64,
    /// Buffers preallocated for repeated demand.
    pub preallocated: u64,
    /// Bytes cleaned, by the worker and in calls.
    pub scrubbed_bytes: u64,
    /// The part of `scrubbed_bytes` that callers cleaned.
    pub scrubbed_in_call_bytes: u64,
    /// Buffers served with data of their own trust domain's clients, as the request permitted.
    pub unzeroed: u64,
    /// Released buffers that were not pooled, or were evicted.
    pub discarded: Discards,
}

/// The memory that a request gets from a pool.
pub struct Taken<M: Poolable = Stored> {
    /// Clean memory.
    pub clean: Vec<Pooled<M, Clean>>,
    /// Released memory of its own domain, to clean with [`Pool::clean`](super::Pool::clean).
    pub released: Vec<Released<M>>,
    /// Released memory of its own domain to use uncleaned, with
    /// [`Pool::reuse`](super::Pool::reuse).
    pub as_is: Vec<Released<M>>,
    /// Whether the domain returned its last new buffer of this size untouched. The pool then gets
    /// no such buffer from it.
    pub is_untouched: bool,
}

/// How a request's buffers were served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Number of buffers from the pool.
    pub hits: usize,
    /// Number of `hits` that no client had held before.
    pub fresh: usize,
    /// Number of buffers of new memory.
    pub misses: usize,
}

impl<M: Poolable> Taken<M> {
    /// Returns the number of buffers.
    pub fn len(&self) -> usize {
        self.clean.len() + self.released.len() + self.as_is.len()
    }
}

/// A request's size and domain.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Bytes of each buffer.
    pub bytes: BackedBytes,
    /// The number of buffers.
    pub count: usize,
    /// The trust domain of the caller.
    pub domain: &'a TrustDomain,
    /// Whether it accepts data of the domain's own clients.
    pub unzeroed: bool,
}

/// Memory for the worker to clean.
pub struct Work<M: Poolable = Stored> {
    pub(super) id: ReleasedId,
    /// The cleaning to do without any lock.
    pub wipe: Arc<M::Wipe>,
}
