// SPDX-License-Identifier: Apache-2.0
//! A heap's pool: the only owner of its room, and of its memory between two clients.
//!
//! The heap's account, the released list, the free lists and the preallocated buffers are here,
//! under one lock, and only methods of [`Pool`] add or remove memory. A caller can take any memory
//! in a pool at any moment, also memory that the worker is cleaning
//! ([`Wipe`](crate::sys::wipe::Wipe)): no caller waits for, or is refused because of, a thread of
//! lower priority.
//!
//! # Lock rules
//! The lock is held only for short updates of lists and accounts: no thread cleans, drops or calls
//! the kernel meanwhile. Memory that is removed under the lock is dropped after it ([`Leftover`]).
//! The lock may be taken while the registry of live buffers is locked, never the reverse.

mod account;
mod exchange;
mod inner;
mod memory;

use account::AccountGuard;
use exchange::Work;
pub use exchange::{PoolCounters, Served, Taken, Wanted};
use inner::Inner;
pub use memory::{Leftover, Released, Stored, discard};
pub(super) use memory::{Poolable, Unclean};

use super::discard::{Discard, Discards};
use crate::ledger::{HeapAccount, HeapCounters};
use crate::pool::{Clean, PoolLimits, Pooled, TrustDomain};
#[cfg(not(feature = "loom"))]
use crate::sys::lock::{Mutex, MutexGuard};
use crate::units::{BackedBytes, Uid};
#[cfg(feature = "loom")]
use loom::sync::{Mutex, MutexGuard};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Smallest size in bytes at which it matters whether clients touch buffers: cleaning a smaller one
/// takes no longer than making a new one.
const MIN_UNTOUCHED: u64 = 1 << 20;
/// Time after which unused pooled memory is returned to the kernel.
pub const IDLE: Duration = Duration::from_secs(30);

/// The account and the memory between two clients of one heap.
pub struct Pool<M: Poolable = Stored> {
    /// Whether released memory is pooled at all.
    keeps: AtomicBool,
    inner: Mutex<Inner<M>>,
}

impl<M: Poolable> Pool<M> {
    /// Returns an empty pool for `account`; without `limits` it pools nothing. Preallocated buffers
    /// take at most half of it: the rest is for memory that clients release.
    pub fn new(account: HeapAccount, limits: Option<PoolLimits>) -> Self {
        Self { keeps: AtomicBool::new(limits.is_some()), inner: Mutex::new(Inner::new(account, limits)) }
    }

    /// Empties the pool and sets other limits: another source serves its heap from now on. Returns
    /// the memory that was in it.
    pub(super) fn begin_again(&self, limits: Option<PoolLimits>) -> Leftover<M> {
        let mut inner = self.lock();
        self.keeps.store(limits.is_some(), Ordering::Relaxed);
        inner.begin_again(limits)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<M>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether released buffers are pooled at all.
    pub fn is_kept(&self) -> bool {
        self.keeps.load(Ordering::Relaxed)
    }

    /// Returns the heap's account, locked. Hold it only for short updates.
    pub fn account(&self) -> AccountGuard<'_, M> {
        AccountGuard(self.lock())
    }

    /// Returns the bytes that are booked or in the pool.
    pub fn accounted(&self) -> u64 {
        let inner = self.lock();
        inner.account.booked() + inner.contents.bytes()
    }

    /// Prepares a buffer that its last holder released. The caller holds no lock, since this asks
    /// the kernel.
    ///
    /// # Errors
    /// The cause if it is not pooled. The caller must then drop it, after [`Pool::forget`].
    pub fn prepare(
        &self,
        memory: M,
        bytes: BackedBytes,
        domain: TrustDomain,
    ) -> Result<Released<M>, (M, Option<Discard>)> {
        if !self.is_kept() {
            return Err((memory, None));
        }
        let mut fit = memory.worth_keeping();
        if bytes.get() >= MIN_UNTOUCHED {
            let is_new = memory.is_new();
            fit = self.lock().judge((&domain, bytes), is_new, fit);
        }
        let wipe = match fit {
            Ok(()) => memory.wipe().map_err(|_| Discard::ScrubFailed),
            Err(unfit) => Err(unfit.into()),
        };
        match wipe {
            Ok(wipe) => Ok(Pooled::released(Unclean { memory: Some(memory), wipe }, bytes, domain)),
            Err(cause) => Err((memory, Some(cause))),
        }
    }

    /// Moves a buffer from its owner `uid`'s account to the released list. Returns the memory that
    /// it displaces.
    pub fn release(&self, uid: Uid, released: Released<M>) -> Leftover<M> {
        let bytes = released.bytes().get();
        let mut inner = self.lock();
        inner.account.released(uid, bytes);
        let evicted = match inner.contents.make_room(bytes) {
            Some(evicted) if inner.contents.has_room(bytes) => {
                inner.contents.released.push(released);
                evicted
            }
            // It is larger than the pool.
            evicted => {
                let mut evicted = evicted.unwrap_or_default();
                evicted.released.push(released);
                evicted
            }
        };
        inner.retire(&evicted.released);
        (0..evicted.len()).for_each(|_| inner.counters.discarded.count(Discard::Full));
        evicted
    }

    /// Removes a buffer that is not pooled from its owner's account.
    pub fn forget(&self, uid: Uid, bytes: BackedBytes, cause: Option<Discard>) {
        let mut inner = self.lock();
        inner.account.released(uid, bytes.get());
        inner.account.retired(1, bytes.get());
        if let Some(cause) = cause {
            inner.counters.discarded.count(cause);
        }
    }

    /// Takes memory of exactly this size for a request: clean memory first, then released memory of
    /// the same domain, which the caller cleans. For a request that does not need zeroed memory, it
    /// takes released memory first, uncleaned.
    pub fn take(&self, wanted: &Wanted<'_>) -> Taken<M> {
        let Wanted { bytes, count, domain, unzeroed } = *wanted;
        let (clean, released, as_is) = (Vec::new(), Vec::new(), Vec::new());
        let mut taken = Taken { clean, released, as_is, is_untouched: false };
        if !self.is_kept() || count == 0 {
            return taken;
        }
        let mut inner = self.lock();
        taken.is_untouched = inner.untouched.contains(domain, bytes.get());
        // Memory that domains share may have data of another client.
        let takes_as_is = unzeroed && *domain != TrustDomain::Shared;
        while takes_as_is
            && taken.len() < count
            && let Some(memory) = inner.contents.released.take(bytes.get(), domain)
        {
            taken.as_is.push(memory);
        }
        while taken.len() < count
            && let Some(memory) = inner.contents.free.take(bytes.get(), domain)
        {
            taken.clean.push(memory);
        }
        while taken.len() < count
            && let Some(memory) = inner.contents.released.take(bytes.get(), domain)
        {
            taken.released.push(memory);
        }
        inner.retire(&taken.released);
        inner.retire(&taken.as_is);
        taken
    }

    /// Cleans released memory on the calling thread. No lock is held.
    ///
    /// # Errors
    /// If its contents are not known; the memory is dropped.
    pub fn clean(&self, released: Released<M>) -> io::Result<Pooled<M, Clean>> {
        let bytes = released.bytes().get();
        let cleaned = released.clean(Unclean::finish);
        let counters = &mut self.lock().counters;
        match &cleaned {
            Ok(_) => {
                counters.scrubbed_bytes += bytes;
                counters.scrubbed_in_call_bytes += bytes;
            }
            Err(_) => counters.discarded.count(Discard::ScrubFailed),
        }
        cleaned
    }

    /// Returns released memory uncleaned, with data of a client of its own trust domain; `None` if
    /// another thread took it.
    pub fn reuse(&self, released: Released<M>) -> Option<M> {
        let memory = released.into_dirty_memory().take_as_is()?;
        self.lock().counters.unzeroed += 1;
        Some(memory)
    }

    /// Counts memory that was taken and cannot serve a request.
    pub fn count_discarded(&self, cause: Discard) {
        self.lock().counters.discarded.count(cause);
    }

    /// Counts how a request of `domain` was served at time `now`. Returns whether the worker has
    /// work: released memory to clean, or a size to preallocate.
    pub fn served(&self, bytes: BackedBytes, served: Served, domain: &TrustDomain, now: Duration) -> bool {
        let Served { hits, misses, fresh } = served;
        if !self.is_kept() || hits + misses == 0 {
            return false;
        }
        let mut inner = self.lock();
        inner.counters.hits += hits as u64;
        inner.counters.misses += misses as u64;
        let has_released = inner.contents.released.len() > 0;
        if misses + fresh == 0 || inner.untouched.contains(domain, bytes.get()) {
            return has_released;
        }
        inner.demand.missed(bytes, misses + fresh, now);
        has_released || inner.wanted(now).is_some()
    }

    /// Evicts the memory for which the booked bytes leave no room.
    pub fn fit(&self) -> Leftover<M> {
        self.lock().fit()
    }

    /// Returns the number of buffers and blocks in it.
    pub fn entries(&self) -> usize {
        self.lock().contents.len()
    }

    /// Evicts up to `count` buffers or blocks.
    pub fn evict(&self, count: usize) -> Leftover<M> {
        let mut inner = self.lock();
        let evicted = inner.contents.evict(count);
        inner.retire(&evicted.released);
        evicted
    }

    /// Takes clean memory of exactly this size for a buffer that no client has requested yet. It
    /// counts neither as a hit nor as demand.
    pub fn take_ahead(&self, bytes: BackedBytes, domain: &TrustDomain) -> Option<Pooled<M, Clean>> {
        self.lock().contents.free.take(bytes.get(), domain)
    }

    /// Takes released memory of exactly this size of a domain, for a buffer that no client has
    /// requested yet.
    pub fn take_ahead_released(&self, bytes: BackedBytes, domain: &TrustDomain) -> Option<Released<M>> {
        let mut inner = self.lock();
        let taken = inner.contents.released.take(bytes.get(), domain)?;
        inner.account.retired(1, bytes.get());
        Some(taken)
    }

    /// Takes a clean block of exactly this size that `domain` may have, for a buffer that is being
    /// joined.
    pub(super) fn take_block(&self, bytes: u64, domain: &TrustDomain) -> Option<Pooled<M, Clean>> {
        self.lock().contents.free.take(bytes, domain)
    }

    /// Takes the smallest clean buffer of `domain` that contains a block of this size, to be split.
    pub(super) fn take_with_block(&self, bytes: u64, domain: &TrustDomain) -> Option<Pooled<M, Clean>> {
        let has_block = |size: u64, memory: &M| size > bytes && memory.has_block(bytes);
        self.lock().contents.free.take_where(domain, has_block)
    }

    /// Adds clean parts of a split buffer to the free lists at time `now`, as far as there is room.
    pub(super) fn put_back(&self, parts: impl IntoIterator<Item = Pooled<M, Clean>>, now: Duration) {
        let parts: Vec<_> = parts.into_iter().collect();
        let mut inner = self.lock();
        let mut refused = Vec::new();
        for part in parts {
            if inner.contents.has_room(part.bytes().get()) {
                inner.contents.free.put(part, now);
            } else {
                refused.push(part);
            }
        }
        drop(inner);
        drop(refused);
    }

    /// Returns the released buffer to clean next: the newest. It stays on the list, where callers
    /// can take it.
    pub fn next_work(&self) -> Option<Work<M>> {
        let inner = self.lock();
        let (id, unclean) = inner.contents.released.newest(|_| true)?;
        Some(Work { id, wipe: Arc::clone(&unclean.wipe) })
    }

    /// Moves a buffer that the worker has cleaned to the free lists at time `now`; drops it if
    /// cleaning failed. Does nothing if a caller took it meanwhile, or still cleans a part of it.
    pub fn worked(&self, work: &Work<M>, result: &io::Result<bool>, now: Duration) {
        if matches!(result, Ok(false)) {
            return;
        }
        let mut inner = self.lock();
        let Some(released) = inner.contents.released.remove(work.id) else { return };
        let bytes = released.bytes().get();
        inner.account.retired(1, bytes);
        if result.is_err() {
            inner.counters.discarded.count(Discard::ScrubFailed);
            drop(inner);
            drop(released);
            return;
        }
        // It is completely zero: this writes nothing and does not wait.
        if let Ok(clean) = released.clean(Unclean::finish) {
            inner.counters.scrubbed_bytes += bytes;
            inner.contents.free.put(clean, now);
        }
    }

    /// Returns the size of the buffer to preallocate at time `now`; `None` if enough buffers are
    /// pooled.
    pub fn wanted(&self, now: Duration) -> Option<BackedBytes> {
        self.lock().wanted(now)
    }

    /// Adds memory that no client has held to the free lists at time `now`; drops it if there is no
    /// room any more.
    pub fn preallocated(&self, memory: M, bytes: BackedBytes, now: Duration) {
        let mut inner = self.lock();
        let fresh = Pooled::fresh(memory, bytes);
        let refused = if inner.contents.has_room(bytes.get()) {
            inner.contents.free.put(fresh, now);
            inner.counters.preallocated += 1;
            None
        } else {
            Some(fresh)
        };
        let excess = inner.fit();
        drop(inner);
        drop((refused, excess));
    }

    /// Clears the demand, because memory is short.
    pub fn forget_demand(&self) {
        self.lock().demand.forget();
    }

    /// Returns memory to the kernel, released memory first and uncleaned
    /// (`ion_heap_freelist_shrink`): at least `bytes` bytes if the pool has them, all for 0. The
    /// result is the number of returned bytes. They are not preallocated again at once: demand
    /// starts from zero.
    pub fn shrink(&self, bytes: u64) -> u64 {
        let mut inner = self.lock();
        inner.demand.forget();
        let evicted = inner.contents.shrink(bytes);
        inner.retire(&evicted.released);
        drop(inner);
        let freed = evicted.bytes();
        discard(evicted);
        freed
    }

    /// Returns memory to the kernel that has been on the free lists since before `deadline` (since
    /// boot). Returns whether anything is left in the pool.
    pub fn expire(&self, deadline: Duration) -> bool {
        let mut inner = self.lock();
        let free = inner.contents.free.expire(deadline);
        let is_left = inner.contents.bytes() > 0;
        drop(inner);
        discard(Leftover { released: Vec::new(), free });
        is_left
    }

    /// Returns the counters of the heap and of the pool, all of the same instant.
    pub fn counters(&self) -> (HeapCounters, PoolCounters) {
        let inner = self.lock();
        let pooled_bytes = inner.contents.free.bytes();
        (inner.account.counters(), PoolCounters { pooled_bytes, ..inner.counters })
    }
}
