// SPDX-License-Identifier: Apache-2.0
//! A heap's memory between two clients: its deferred frees and its shelf, under one lock.
//!
//! # Who may hold the lock
//! It is a leaf, and short: nothing is scrubbed, dropped or asked of the kernel while it is held. What is taken out
//! under the lock is worked on or dropped after it.

use super::discard::{Discard, Discards};
use crate::pool::{Deferred, Demand, DemandLimits, Dirty, Shelf, ShelfLimits, Spare, TrustDomain, Zeroed};
use crate::source::{Memory, Unfit};
use crate::sys::inotify::Watch;
use crate::units::BackedBytes;
#[cfg(feature = "loom")]
use loom::sync::{Mutex, MutexGuard};
use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError};
#[cfg(not(feature = "loom"))]
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Smallest buffer that is kept: below, a fresh memfd is ready about as soon as a recycled one.
const MIN_BYTES: u64 = 32 << 10;
/// Spares that nobody asked for go back to the kernel after this long.
pub const IDLE: Duration = Duration::from_secs(30);
/// Most sizes of which fresh spares are made.
const WARM_SIZES: usize = 32;

/// A buffer's memory with its watch, which stays with the file.
#[derive(Clone)]
pub struct Stored {
    /// The memory.
    pub memory: Arc<dyn Memory>,
    /// `None` if the kernel's watches were used up.
    pub watch: Option<Watch>,
}

/// What a stock does with the memory in it, always without its lock.
pub trait Stockable {
    /// As [`Memory::worth_keeping`].
    ///
    /// # Errors
    /// Why not.
    fn worth_keeping(&self) -> Result<(), Unfit>;

    /// Whether nobody but the service has it; false if the kernel does not tell.
    fn is_idle(&self) -> bool;

    /// As [`Memory::scrub`].
    ///
    /// # Errors
    /// If what is in it is not known.
    fn scrub(&self) -> io::Result<()>;

    /// As [`Memory::has_block`].
    fn has_block(&self, bytes: u64) -> bool {
        let _ = bytes;
        false
    }
}

impl Stockable for Stored {
    fn worth_keeping(&self) -> Result<(), Unfit> {
        self.memory.worth_keeping()
    }

    fn is_idle(&self) -> bool {
        self.memory.is_idle().unwrap_or(false)
    }

    fn scrub(&self) -> io::Result<()> {
        self.memory.scrub()
    }

    fn has_block(&self, bytes: u64) -> bool {
        self.memory.has_block(bytes)
    }
}

/// A released buffer's memory.
pub type Released<M = Stored> = Spare<M, Dirty>;

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
    /// Buffers made ahead of demand.
    pub warmed: u64,
    /// Bytes scrubbed.
    pub scrubbed_bytes: u64,
    /// Buffers that were scrubbed or to be scrubbed, and were not kept.
    pub discarded: Discards,
}

/// What a request got from the shelf.
#[derive(Debug)]
pub struct Taken<M = Stored> {
    /// Zeroed memory, at most as many as asked for.
    pub spares: Vec<M>,
    /// Whether fresh spares of some size should be made: [`Stock::wanted`] tells which.
    pub refill: bool,
}

/// Deferred frees and shelf of one heap. Generic over the memory, so that a model checker can run it.
pub struct Stock<M = Stored>(Mutex<Inner<M>>);

struct Inner<M> {
    deferred: Deferred<M>,
    shelf: Shelf<M>,
    demand: Demand,
    counters: StockCounters,
}

impl<M> Inner<M> {
    /// The size of the fresh spare that is wanted most and has room.
    fn wanted(&self, now: Duration) -> Option<BackedBytes> {
        let targets = self.demand.targets(now).into_iter();
        let sizes = targets
            .filter(|target| self.shelf.fresh(target.bytes.get()) < target.spares)
            .map(|target| target.bytes);
        sizes.into_iter().find(|bytes| self.shelf.has_room(bytes.get()))
    }
}

impl Stock {
    /// Whether buffers of this size are kept at all.
    pub fn keeps(bytes: BackedBytes) -> bool {
        bytes.get() >= MIN_BYTES
    }
}

impl<M: Stockable> Stock<M> {
    /// An empty stock. Fresh spares take at most half of its shelf: the rest is for what clients let go of.
    pub fn new(limits: ShelfLimits) -> Self {
        let warm = DemandLimits { sizes: WARM_SIZES, bytes: limits.bytes / 2, spares: limits.spares / 2 };
        Self(Mutex::new(Inner {
            deferred: Deferred::default(),
            shelf: Shelf::new(limits),
            demand: Demand::new(warm),
            counters: StockCounters::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Zeroed memory of exactly this size that `domain` may have, for `count` buffers of one request at time `now`.
    pub fn take(&self, bytes: BackedBytes, count: usize, domain: &TrustDomain, now: Duration) -> Taken<M> {
        if !Stock::keeps(bytes) || count == 0 {
            return Taken { spares: Vec::new(), refill: false };
        }
        let mut inner = self.lock();
        let spares: Vec<_> =
            std::iter::from_fn(|| inner.shelf.take(bytes.get(), domain)).take(count).collect();
        let recycled = spares.iter().filter(|spare| spare.domain().is_some()).count();
        inner.counters.hits += spares.len() as u64;
        inner.counters.misses += (count - spares.len()) as u64;
        if recycled < count {
            inner.demand.missed(bytes, count - recycled, now);
        }
        let refill = recycled < count && inner.wanted(now).is_some();
        Taken { spares: spares.into_iter().map(Spare::into_memory).collect(), refill }
    }

    /// Zeroed memory of exactly this size that `domain` may have, for a buffer that nobody asked for yet: it counts
    /// neither as a hit nor as demand.
    pub fn take_ahead(&self, bytes: BackedBytes, domain: &TrustDomain) -> Option<M> {
        self.lock().shelf.take(bytes.get(), domain).map(Spare::into_memory)
    }

    /// A clean block of exactly this size that `domain` may have, for a buffer that is being joined.
    pub(super) fn take_block(&self, bytes: u64, domain: &TrustDomain) -> Option<Spare<M, Zeroed>> {
        self.lock().shelf.take(bytes, domain)
    }

    /// A clean buffer of `domain`'s that has a block of this size among others, to be taken apart: the smallest.
    pub(super) fn take_with_block(&self, bytes: u64, domain: &TrustDomain) -> Option<Spare<M, Zeroed>> {
        self.lock().shelf.take_where(domain, |size, memory| size > bytes && memory.has_block(bytes))
    }

    /// Puts clean parts of what was taken apart on the shelf at time `now`, as far as there is room.
    pub(super) fn put_back(&self, parts: impl IntoIterator<Item = Spare<M, Zeroed>>, now: Duration) {
        let parts: Vec<_> = parts.into_iter().collect();
        let mut inner = self.lock();
        let refused: Vec<_> = parts.into_iter().filter_map(|part| inner.shelf.put(part, now).err()).collect();
        drop(inner);
        drop(refused);
    }

    /// A buffer that no spare could serve as it was has been joined from the shelf's memory alone.
    pub(super) fn count_joined(&self) {
        let mut inner = self.lock();
        inner.counters.hits += 1;
        inner.counters.misses = inner.counters.misses.saturating_sub(1);
    }

    /// The size of a fresh spare that should be made at time `now`; `None` if enough lie ready.
    pub fn wanted(&self, now: Duration) -> Option<BackedBytes> {
        self.lock().wanted(now)
    }

    /// Puts memory that no client has held on the shelf at time `now`; drops it if there is no room any more.
    pub fn warm(&self, memory: M, bytes: BackedBytes, now: Duration) {
        let mut inner = self.lock();
        let refused = inner.shelf.put(Spare::fresh(memory, bytes), now).err();
        inner.counters.warmed += u64::from(refused.is_none());
        drop(inner);
        drop(refused);
    }

    /// Forgets which sizes were asked for: memory is short.
    pub fn forget_demand(&self) {
        self.lock().demand.forget();
    }

    /// Queues what a client let go of.
    ///
    /// # Errors
    /// The memory itself if as much waits as the shelf could take. What waits is in nobody's account: clients that let
    /// go faster than it is scrubbed could pile it up beyond every quota.
    pub fn defer(&self, released: Released<M>) -> Result<(), Released<M>> {
        let mut inner = self.lock();
        let limits = inner.shelf.limits();
        let room = limits.bytes.saturating_sub(inner.deferred.bytes());
        if inner.deferred.len() >= limits.spares || released.bytes().get() > room {
            inner.counters.discarded.count(Discard::Full);
            return Err(released);
        }
        inner.deferred.push(released);
        Ok(())
    }

    /// A released buffer goes back at once, since memory is scarce.
    pub fn count_discarded(&self) {
        self.lock().counters.discarded.count(Discard::Scarce);
    }

    /// Scrubs the buffer that was released last and puts it on the shelf at time `now`; `None` if none waits. The
    /// memory is scrubbed without the lock.
    pub fn scrub_one(&self, now: Duration) -> Option<Retired> {
        let released = self.lock().deferred.pop()?;
        let retired = Retired { buffers: 1, bytes: released.bytes().get() };
        self.keep(released, now);
        Some(retired)
    }

    fn keep(&self, released: Released<M>, now: Duration) {
        let bytes = released.bytes().get();
        let scrubbed = scrub(released);
        let mut inner = self.lock();
        let (mut stale, mut dropped) = (Vec::new(), Vec::new());
        match scrubbed {
            Ok(spare) => {
                inner.counters.scrubbed_bytes += bytes;
                if !inner.shelf.has_room(bytes) {
                    // What lies too long goes anyway, and must not cost a younger one its place.
                    stale = inner.shelf.expire(now.saturating_sub(IDLE));
                }
                dropped = inner.shelf.make_room(bytes);
                dropped.extend(inner.shelf.put(spare, now).err());
            }
            Err(cause) => inner.counters.discarded.count(cause),
        }
        dropped.iter().for_each(|_| inner.counters.discarded.count(Discard::Full));
        drop(inner);
        // Giving pages back takes the kernel time.
        drop((stale, dropped));
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
    /// and all bytes given back. What is given back is not made again at once: demand starts anew.
    pub fn shrink(&self, bytes: u64) -> (Retired, u64) {
        let mut inner = self.lock();
        inner.demand.forget();
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

    /// What it has and has done.
    pub fn counters(&self) -> StockCounters {
        let inner = self.lock();
        StockCounters { pooled_bytes: inner.shelf.bytes(), ..inner.counters }
    }
}

impl Stock<Stored> {
    /// The ranges of its source's arena that deferred frees and spares on the shelf take.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        let inner = self.lock();
        let idle = inner.deferred.memories().chain(inner.shelf.memories());
        idle.flat_map(|stored| stored.memory.ranges()).cloned().collect()
    }
}

/// A scrubbed spare, or why there is none; the memory is dropped then.
fn scrub<M: Stockable>(released: Released<M>) -> Result<Spare<M, Zeroed>, Discard> {
    let memory = released.memory();
    memory.worth_keeping()?;
    if !memory.is_idle() {
        return Err(Discard::Busy);
    }
    let spare = released.scrub(M::scrub).map_err(|_| Discard::ScrubFailed)?;
    // Asked again after the scrub: whoever opened the file meanwhile may have written to it.
    if spare.memory().is_idle() { Ok(spare) } else { Err(Discard::Busy) }
}

fn sum<M>(released: &[Released<M>]) -> Retired {
    Retired { buffers: released.len() as u64, bytes: released.iter().map(|spare| spare.bytes().get()).sum() }
}
