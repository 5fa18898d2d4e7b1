// SPDX-License-Identifier: Apache-2.0
//! All memory of one pool, released and clean, under one limit.

use super::free_list::FreeLists;
use super::pooled::{Clean, Dirty, Pooled};
use super::released::ReleasedList;
use std::collections::HashMap;

/// Limits of a pool. Only the shrinker limited ION's pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Most bytes.
    pub bytes: u64,
    /// Most buffers and blocks: each buffer uses one or two of the service's descriptors.
    pub entries: usize,
}

/// Released memory (`D`, dirty) and free lists (`M`, clean).
#[derive(Debug)]
pub struct Contents<M, D> {
    limits: PoolLimits,
    /// Memory that is not cleaned yet.
    pub released: ReleasedList<D>,
    /// Clean memory.
    pub free: FreeLists<M>,
}

/// The pooled memory of a trust domain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// Bytes of its entries.
    pub bytes: u64,
    /// The number of entries.
    pub entries: u64,
}

impl Holding {
    /// Adds `entries` entries of `bytes` bytes each.
    pub fn add(&mut self, bytes: u64, entries: u64) {
        self.bytes += bytes * entries;
        self.entries += entries;
    }
}

/// Memory that left a pool and must be dropped. Dropping it can take the kernel long.
#[derive(Debug)]
#[must_use = "it is to be dropped after the pool's lock"]
pub struct Evicted<M, D> {
    /// From the released list.
    pub released: Vec<Pooled<D, Dirty>>,
    /// From the free lists.
    pub free: Vec<Pooled<M, Clean>>,
}

impl<M, D> Default for Evicted<M, D> {
    fn default() -> Self {
        Self { released: Vec::new(), free: Vec::new() }
    }
}

impl<M, D> Evicted<M, D> {
    /// Returns the number of buffers and blocks.
    pub fn len(&self) -> usize {
        self.released.len() + self.free.len()
    }

    /// Returns their bytes.
    pub fn bytes(&self) -> u64 {
        let released: u64 = self.released.iter().map(|memory| memory.bytes().get()).sum();
        released + self.free.iter().map(|memory| memory.bytes().get()).sum::<u64>()
    }
}

impl<M, D> Contents<M, D> {
    /// Returns an empty pool.
    pub fn new(limits: PoolLimits) -> Self {
        Self { limits, released: ReleasedList::default(), free: FreeLists::default() }
    }

    /// Returns the bytes of all memory in it.
    pub fn bytes(&self) -> u64 {
        self.released.bytes() + self.free.bytes()
    }

    /// Returns whether `bytes` more bytes fit without an eviction.
    pub fn has_room(&self, bytes: u64) -> bool {
        !self.is_short_of_entries() && bytes <= self.limits.bytes.saturating_sub(self.bytes())
    }

    /// Evicts memory until `bytes` more bytes fit. Each time it evicts from the domain with the
    /// most bytes, or with the most entries if those are short. So a client evicts other clients'
    /// memory only while it has no more than they have. Returns `None`, and evicts nothing, if the
    /// limit is smaller than `bytes`.
    pub fn make_room(&mut self, bytes: u64) -> Option<Evicted<M, D>> {
        if bytes > self.limits.bytes || self.limits.entries == 0 {
            return None;
        }
        let mut evicted = Evicted::default();
        while !self.has_room(bytes) && self.evict_from_largest(&mut evicted) {}
        Some(evicted)
    }

    /// Evicts up to `count` entries, each from the domain with the most bytes.
    pub fn evict(&mut self, count: usize) -> Evicted<M, D> {
        let mut evicted = Evicted::default();
        while evicted.len() < count && self.evict_from_largest(&mut evicted) {}
        evicted
    }

    /// Returns the number of buffers and blocks in it.
    pub fn len(&self) -> usize {
        self.released.len() + self.free.len()
    }

    /// Returns whether there is no room for another entry, of any size.
    fn is_short_of_entries(&self) -> bool {
        self.len() >= self.limits.entries
    }

    /// Evicts one entry of the domain with the most bytes, or entries if those are short. Memory
    /// that the domain released last is the most useful, so its oldest clean memory is evicted
    /// first.
    fn evict_from_largest(&mut self, evicted: &mut Evicted<M, D>) -> bool {
        let mut holdings = HashMap::new();
        self.free.add_holdings(&mut holdings);
        self.released.add_holdings(&mut holdings);
        let is_short_of_entries = self.is_short_of_entries();
        let holdings = holdings.into_iter().map(|(domain, Holding { bytes, entries })| {
            (domain, if is_short_of_entries { entries } else { bytes })
        });
        let holdings: HashMap<_, u64> = holdings.collect();
        // Among equals it evicts from the domain with the oldest clean memory.
        let most = holdings.values().copied().max();
        let candidates = holdings.into_iter().filter(|(_, bytes)| Some(*bytes) == most);
        let oldest = candidates.map(|(domain, _)| domain.cloned());
        let Some(domain) = oldest.min_by_key(|domain| {
            let since = self.free.oldest_since(domain.as_ref());
            (since.is_none(), since)
        }) else {
            return false;
        };
        if let Some(memory) = self.free.take_oldest(domain.as_ref()) {
            evicted.free.push(memory);
        } else if let Some(memory) = domain.and_then(|domain| self.released.take_oldest(&domain)) {
            evicted.released.push(memory);
        } else {
            return false;
        }
        true
    }

    /// Removes memory to return to the kernel until it has at least `bytes` bytes, all for 0:
    /// released memory first (`ion_heap_freelist_shrink`), then clean memory, the largest first.
    pub fn shrink(&mut self, bytes: u64) -> Evicted<M, D> {
        let released = self.released.shrink(bytes);
        let taken: u64 = released.iter().map(|memory| memory.bytes().get()).sum();
        let rest = bytes.saturating_sub(taken);
        let free = if bytes == 0 || rest > 0 { self.free.shrink(rest) } else { Vec::new() };
        Evicted { released, free }
    }
}
