// SPDX-License-Identifier: Apache-2.0
//! Queries that change no buffers (dry runs, heaps, usage, live buffers), and trimming.

use super::Record;
use super::latency::Latency;
use super::{
    Action, Allocator, Caller, Denied, Explanation, LatencyCounts, Outcome, Request, Selection, Verdict,
};
use crate::heap::{Heap, PoolCounters};
use crate::ledger::{HeapCounters, HeapIndex, Usage};
use crate::sys;
use crate::units::{BackedBytes, Backing, BufferId, HeapMask, Uid};
use std::os::fd::AsFd;
use std::time::Duration;

/// A heap and its counters.
#[derive(Clone, Copy)]
pub struct HeapView<'a> {
    /// The heap.
    pub heap: &'a Heap,
    /// Counters of one instant, the same as those of the pool.
    pub counters: HeapCounters,
    /// Counters of its pool.
    pub pool: PoolCounters,
    /// Durations of its allocations.
    pub latency: LatencyCounts,
}

/// A live buffer, for display and tools.
pub struct BufferView<'a> {
    /// Its entry in the registry.
    pub record: Record,
    /// The heap that made it.
    pub heap: &'a Heap,
    /// Kind of its memory.
    pub backing: Backing,
    /// Time since its allocation.
    pub age: Duration,
}

/// The file is not a live buffer of this service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the descriptor is not a live buffer of this service")]
pub struct NotOurs;

/// No heap has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("heap is {0:?}, but no heap has this name or alias")]
pub struct UnknownHeap(pub String);

/// A selected heap, or the name that selects none.
pub(super) type Candidate<'a> = Result<HeapIndex, &'a str>;

impl Allocator {
    /// Returns the selected heaps in the order in which they are tried, each once.
    pub(super) fn candidates<'a>(&self, selection: &'a Selection) -> Vec<Candidate<'a>> {
        let in_mask = |mask: HeapMask| {
            let heaps = self.heaps.iter().enumerate();
            heaps.filter(|(_, heap)| mask.contains(heap.id())).map(|(index, _)| Ok(index)).collect()
        };
        match selection {
            Selection::Mask(mask) => in_mask(*mask),
            Selection::Names(names) => {
                let mut candidates = Vec::with_capacity(names.len());
                for name in names {
                    let candidate = self.find_heap(name).ok_or(name.as_str());
                    if !candidates.contains(&candidate) {
                        candidates.push(candidate);
                    }
                }
                candidates
            }
        }
    }

    pub(super) fn find_heap(&self, name: &str) -> Option<HeapIndex> {
        self.heaps.iter().position(|heap| heap.answers_to(name))
    }

    /// Returns the result that [`Allocator::allocate`] would have now. It allocates and counts
    /// nothing. As the real call, it books the releases that it detects.
    pub fn explain(&self, caller: &Caller, request: &Request) -> Explanation {
        let _turn = self.turns.take(caller.uid);
        self.reclaim_from(caller);
        let verdicts = self.candidates(&request.selection).into_iter().map(|candidate| {
            let outcome = match candidate {
                Ok(index) => self.would_serve(caller, request, index).err().unwrap_or(Outcome::WouldServe),
                Err(_) => Outcome::UnknownHeap,
            };
            self.verdict(caller, request, candidate, outcome)
        });
        Explanation { bytes: request.needs.bytes, count: request.count, verdicts: verdicts.collect() }
    }

    fn would_serve(
        &self,
        caller: &Caller,
        request: &Request,
        index: HeapIndex,
    ) -> Result<BackedBytes, Outcome> {
        let heap = &self.heaps[index];
        self.authorize(caller, Action::UseHeap(heap)).map_err(Outcome::Denied)?;
        let bytes = request.accepted_by(heap).map_err(Outcome::Rejected)?;
        let claim = request.claim(caller, index, bytes);
        let made = {
            let (registry, domain) = (self.registry(), caller.domain(heap));
            registry.check(heap, claim, &domain).map_err(Outcome::Refused)?;
            registry.reservations().made(&claim, &domain)
        };
        heap.find_place(bytes, claim.count - made).map_err(Outcome::Failed)?;
        Ok(bytes)
    }

    /// Returns the answer of each selected heap if it were named alone and nothing were in use: an
    /// answer that no release and no later call can change.
    pub fn supports(&self, caller: &Caller, request: &Request) -> Explanation {
        let verdicts = self.candidates(&request.selection).into_iter().map(|candidate| {
            let outcome = match candidate {
                Ok(index) => self.could_serve(caller, request, index).err().unwrap_or(Outcome::WouldServe),
                Err(_) => Outcome::UnknownHeap,
            };
            self.verdict(caller, request, candidate, outcome)
        });
        Explanation { bytes: request.needs.bytes, count: request.count, verdicts: verdicts.collect() }
    }

    fn could_serve(&self, caller: &Caller, request: &Request, index: HeapIndex) -> Result<(), Outcome> {
        let heap = &self.heaps[index];
        self.authorize(caller, Action::UseHeap(heap)).map_err(Outcome::Denied)?;
        let bytes = request.accepted_by(heap).map_err(Outcome::Rejected)?;
        let claim = request.claim(caller, index, bytes);
        heap.pool().account().check_empty(claim.uid, claim.total()).map_err(Outcome::Refused)?;
        self.registry().ledger.check_empty(&claim).map_err(Outcome::Refused)
    }

    pub(super) fn verdict(
        &self,
        caller: &Caller,
        request: &Request,
        candidate: Candidate<'_>,
        outcome: Outcome,
    ) -> Verdict {
        match candidate {
            Ok(index) => {
                let heap = &self.heaps[index];
                // A heap that is not permitted, unavailable or of another kind fits nothing.
                let fits_bytes = match &outcome {
                    Outcome::Denied(_) | Outcome::UnknownHeap => 0,
                    Outcome::Failed(error) if error.is_beyond_process() => 0,
                    Outcome::Rejected(rejection)
                        if !matches!(rejection, crate::heap::Rejection::TooLarge { .. }) =>
                    {
                        0
                    }
                    _ => self.fits(caller, index, request.count.get() as u64),
                };
                Verdict { heap_id: Some(heap.id()), heap_name: heap.name().to_string(), outcome, fits_bytes }
            }
            Err(name) => {
                let heap_name = name.chars().take(2 * crate::units::MAX_NAME_BYTES).collect();
                Verdict { heap_id: None, heap_name, outcome, fits_bytes: 0 }
            }
        }
    }

    /// Returns the size in bytes of the largest buffer of which `count` fit into a heap and the
    /// caller's quota now. Reservations of the caller count as used.
    fn fits(&self, caller: &Caller, index: HeapIndex, count: u64) -> u64 {
        let heap = &self.heaps[index];
        let (quota_bytes, has_room) = self.registry().ledger.left(caller.uid, count);
        let free = heap.pool().account().free(caller.uid);
        if !has_room {
            return 0;
        }
        let each = [free, quota_bytes].into_iter().flatten().map(|bytes| bytes / count).min();
        let place = heap.largest_place(count);
        let bytes = [each, place].into_iter().flatten().fold(heap.max_buffer_bytes(), u64::min);
        bytes - bytes % heap.granularity()
    }

    /// Returns every heap with its counters, by descending id. Files that were released before the
    /// call do not count as held, unless another thread is just detecting the release. The reaper
    /// detects releases of dma-bufs later.
    pub fn stats(&self) -> Vec<HeapView<'_>> {
        self.work_off_events();
        let view = |(heap, latency): (_, &Latency)| {
            let (counters, pool) = Heap::pool(heap).counters();
            HeapView { heap, counters, pool, latency: latency.counts() }
        };
        self.heaps.iter().zip(&self.latencies).map(view).collect()
    }

    /// Returns the usage of uids, most bytes first: of all uids for a privileged caller, else of
    /// the caller's uid.
    pub fn usage(&self, caller: &Caller) -> Vec<Usage> {
        let _turn = self.turns.take(caller.uid);
        self.work_off_events();
        if self.authorize(caller, Action::SeeOthers).is_err() {
            return vec![self.registry().ledger.usage(caller.uid)];
        }
        let mut usages: Vec<_> = self.registry().ledger.usages().collect();
        usages.sort_by_key(|usage| (std::cmp::Reverse(usage.bytes), usage.uid));
        usages
    }

    /// Returns the live buffers, the oldest first: of all uids for a privileged caller, else of the
    /// caller's uid. Buffers that are allocated or released meanwhile may be in the list or not.
    pub fn buffers(&self, caller: &Caller) -> Vec<BufferView<'_>> {
        let _turn = self.turns.take(caller.uid);
        self.work_off_events();
        let everyone = self.authorize(caller, Action::SeeOthers).is_ok();
        let mut records = Vec::new();
        for ids in self.live((!everyone).then_some(caller.uid)) {
            let registry = self.registry();
            let live = ids.iter().filter_map(|id| registry.live(*id));
            records.extend(live.map(|live| (live.record.clone(), live.stored.memory.backing())));
        }
        records.into_iter().map(|(record, backing)| self.view(record, backing)).collect()
    }

    /// Returns the live buffers of `uid`, or of all clients, the oldest first and a few at a time.
    /// Each step locks the registry separately.
    pub(super) fn live(&self, uid: Option<Uid>) -> impl Iterator<Item = Vec<BufferId>> {
        let mut last = None;
        std::iter::from_fn(move || {
            let next = self.registry().next_live(uid, last);
            last = next.last().copied();
            last.map(|_| next)
        })
    }

    fn view(&self, record: Record, backing: Backing) -> BufferView<'_> {
        let age = sys::clock::since_boot().saturating_sub(record.created);
        BufferView { heap: &self.heaps[record.heap], backing, age, record }
    }

    /// Finds a buffer by its file. The inode number selects it. The kernel returns the same watch
    /// for both descriptors, which proves the identity, since inode numbers of memfds can repeat.
    ///
    /// # Errors
    /// If the file is not a live buffer of this service.
    pub fn describe(&self, fd: impl AsFd) -> Result<BufferView<'_>, NotOurs> {
        // Checks the kind first: only the kernel answers this, while a hostile file system could
        // block a stat.
        let inode = if sys::memfd::is_sealed(&fd) || sys::dma_buf::is_dma_buf(&fd) {
            sys::fd::inode(&fd).map_err(|_| NotOurs)?
        } else {
            self.heaps.iter().find_map(|heap| heap.identify(fd.as_fd())).ok_or(NotOurs)?
        };
        let (record, backing, expected) = {
            let registry = self.registry();
            let id = registry.with_inode(inode).ok_or(NotOurs)?;
            let live = registry.live(id).ok_or(NotOurs)?;
            (live.record.clone(), live.stored.memory.backing(), live.stored.watch)
        };
        if let Some(expected) = expected {
            let watcher = &self.liveness.watcher;
            let actual = watcher.watch(&fd).map_err(|_| NotOurs)?;
            if actual != expected {
                watcher.forget(actual);
                return Err(NotOurs);
            }
        }
        Ok(self.view(record, backing))
    }

    /// Returns pooled memory to the kernel, released memory first: at least `bytes` bytes if the
    /// pools have them, all for 0. The result is the number of returned bytes.
    ///
    /// # Errors
    /// If the caller is not permitted, or no heap has the name.
    pub fn trim(&self, caller: &Caller, heap: Option<&str>, bytes: u64) -> Result<u64, TrimError> {
        self.authorize(caller, Action::Trim)?;
        let _turn = self.turns.take(caller.uid);
        let heaps = match heap {
            Some(name) => {
                let index = self.find_heap(name).ok_or_else(|| UnknownHeap(name.to_owned()))?;
                index..index + 1
            }
            None => 0..self.heaps.len(),
        };
        self.work_off_events();
        if heap.is_none() {
            self.spare_metadata.clear();
        }
        let mut freed = 0;
        for index in heaps {
            if bytes > 0 && freed >= bytes {
                break;
            }
            freed += self.heaps[index].pool().shrink(bytes.saturating_sub(freed));
        }
        Ok(freed)
    }
}

/// Reason why nothing was trimmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrimError {
    /// The caller is not permitted.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// There is no such heap.
    #[error(transparent)]
    UnknownHeap(#[from] UnknownHeap),
}
