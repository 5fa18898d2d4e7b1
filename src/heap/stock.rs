// SPDX-License-Identifier: Apache-2.0
//! A heap's memory between two clients: its deferred frees and its shelf, under one lock.
//!
//! # Who may hold the lock
//! It is a leaf, and short: nothing is scrubbed, dropped or asked of the kernel while it is held. What is taken out
//! under the lock is worked on or dropped after it.

use crate::pool::{Deferred, Dirty, Shelf, ShelfLimits, Spare, TrustDomain};
use crate::source::Memory;
use crate::sys::inotify::Watch;
use crate::units::BackedBytes;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Smallest buffer that is kept: below, a fresh memfd is ready about as soon as a recycled one.
const MIN_BYTES: u64 = 32 << 10;

/// A buffer's memory with its watch, which stays with the file.
#[derive(Clone)]
pub struct Stored {
    /// The memory.
    pub memory: Arc<dyn Memory>,
    /// `None` if the kernel's watches were used up.
    pub watch: Option<Watch>,
}

/// A released buffer's memory.
pub type Released = Spare<Stored, Dirty>;

/// Buffers whose memory is truly free now, or on the shelf: the ledger is to retire them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retired {
    /// How many.
    pub buffers: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a stock has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StockCounters {
    /// Bytes on the shelf.
    pub pooled_bytes: u64,
    /// Buffers served from the shelf.
    pub hits: u64,
    /// Buffers that the shelf could have served and did not.
    pub misses: u64,
    /// Bytes scrubbed.
    pub scrubbed_bytes: u64,
    /// Buffers that were scrubbed or to be scrubbed, and were not kept: the shelf full, too many waiting, memory
    /// scarce, somebody opened it again, a seal added, hardly touched, or the scrub failed.
    pub discarded: u64,
}

/// Deferred frees and shelf of one heap.
pub struct Stock(Mutex<Inner>);

struct Inner {
    deferred: Deferred<Stored>,
    shelf: Shelf<Stored>,
    counters: StockCounters,
}

impl Stock {
    /// An empty stock.
    pub fn new(limits: ShelfLimits) -> Self {
        let counters = StockCounters::default();
        Self(Mutex::new(Inner { deferred: Deferred::default(), shelf: Shelf::new(limits), counters }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether buffers of this size are kept at all.
    pub fn keeps(bytes: BackedBytes) -> bool {
        bytes.get() >= MIN_BYTES
    }

    /// Zeroed memory of exactly this size that `domain` may have.
    pub fn take(&self, bytes: BackedBytes, domain: &TrustDomain) -> Option<Stored> {
        if !Self::keeps(bytes) {
            return None;
        }
        let mut inner = self.lock();
        let spare = inner.shelf.take(bytes.get(), domain);
        let counter = if spare.is_some() { &mut inner.counters.hits } else { &mut inner.counters.misses };
        *counter += 1;
        spare.map(Spare::into_memory)
    }

    /// Queues what a client let go of.
    ///
    /// # Errors
    /// The memory itself if as much waits as the shelf could take. What waits is in nobody's account: clients that let
    /// go faster than it is scrubbed could pile it up beyond every quota.
    pub fn defer(&self, released: Released) -> Result<(), Released> {
        let mut inner = self.lock();
        let limits = inner.shelf.limits();
        let room = limits.bytes.saturating_sub(inner.deferred.bytes());
        if inner.deferred.len() >= limits.spares || released.bytes().get() > room {
            inner.counters.discarded += 1;
            return Err(released);
        }
        inner.deferred.push(released);
        Ok(())
    }

    /// A released buffer goes back at once, since memory is scarce.
    pub fn count_discarded(&self) {
        self.lock().counters.discarded += 1;
    }

    /// Scrubs the buffer that was released last and puts it on the shelf at time `now`; `None` if none waits. The
    /// memory is scrubbed without the lock.
    pub fn scrub_one(&self, now: Duration) -> Option<Retired> {
        let released = self.lock().deferred.pop()?;
        let retired = Retired { buffers: 1, bytes: released.bytes().get() };
        self.keep(released, now);
        Some(retired)
    }

    fn keep(&self, released: Released, now: Duration) {
        let bytes = released.bytes().get();
        let idle = |stored: &Stored| stored.memory.is_idle().unwrap_or(false);
        // Asked again after the scrub: whoever opened the file meanwhile may have written to it.
        let scrubbed = (released.memory().memory.is_worth_keeping() && idle(released.memory()))
            .then(|| released.scrub(|stored| stored.memory.scrub()))
            .and_then(Result::ok)
            .filter(|spare| idle(spare.memory()));
        let mut inner = self.lock();
        let refused = match scrubbed {
            Some(spare) => {
                inner.counters.scrubbed_bytes += bytes;
                inner.shelf.put(spare, now).err()
            }
            None => {
                inner.counters.discarded += 1;
                return;
            }
        };
        inner.counters.discarded += u64::from(refused.is_some());
        drop(inner);
        // Giving pages back takes the kernel time.
        drop(refused);
    }

    /// Works off deferred frees at once, to the shelf: at least `bytes` bytes if there are that many, all for 0
    /// (`ion_heap_freelist_drain`).
    pub fn drain(&self, bytes: u64, now: Duration) -> Retired {
        let taken = self.lock().deferred.take(bytes);
        let retired = sum(&taken);
        for released in taken {
            self.keep(released, now);
        }
        retired
    }

    /// Gives memory back to the kernel, deferred frees first and unscrubbed (`ion_heap_freelist_shrink`), then the
    /// shelf: at least `bytes` bytes if there are that many, all for 0. Returns what of it the ledger is to retire,
    /// and all bytes given back.
    pub fn shrink(&self, bytes: u64) -> (Retired, u64) {
        let mut inner = self.lock();
        let unscrubbed = inner.deferred.take(bytes);
        let retired = sum(&unscrubbed);
        let rest = bytes.saturating_sub(retired.bytes);
        let shelved = if bytes == 0 || rest > 0 { inner.shelf.shrink(rest) } else { Vec::new() };
        drop(inner);
        let shelved_bytes: u64 = shelved.iter().map(|spare| spare.bytes().get()).sum();
        drop((unscrubbed, shelved));
        (retired, retired.bytes + shelved_bytes)
    }

    /// Keeps the shelf within `room` bytes.
    pub fn fit(&self, room: u64) {
        let mut inner = self.lock();
        let excess = inner.shelf.bytes().saturating_sub(room);
        let dropped = if excess > 0 { inner.shelf.shrink(excess) } else { Vec::new() };
        drop(inner);
        drop(dropped);
    }

    /// Gives back what has been on the shelf since before `deadline`. Returns whether anything is left there.
    pub fn expire(&self, deadline: Duration) -> bool {
        let mut inner = self.lock();
        let expired = inner.shelf.expire(deadline);
        let left = !inner.shelf.is_empty();
        drop(inner);
        drop(expired);
        left
    }

    /// The ranges of its source's arena that spares on the shelf take.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        let inner = self.lock();
        inner.shelf.memories().flat_map(|stored| stored.memory.ranges()).cloned().collect()
    }

    /// What it has and has done.
    pub fn counters(&self) -> StockCounters {
        let inner = self.lock();
        StockCounters { pooled_bytes: inner.shelf.bytes(), ..inner.counters }
    }
}

fn sum(released: &[Released]) -> Retired {
    Retired { buffers: released.len() as u64, bytes: released.iter().map(|spare| spare.bytes().get()).sum() }
}
