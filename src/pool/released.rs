// SPDX-License-Identifier: Apache-2.0
//! The released list: memory that is not cleaned yet. ION's deferred-free `free_list`.

use super::contents::Holding;
use super::pooled::{Dirty, Pooled, TrustDomain};
use std::collections::{BTreeMap, HashMap};

/// Identifies an entry of a [`ReleasedList`]; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleasedId(u64);

/// Released memory by age. Every entry stays in the list, where a caller can take it, until it is
/// clean.
#[derive(Debug)]
pub struct ReleasedList<M> {
    entries: BTreeMap<ReleasedId, Pooled<M, Dirty>>,
    next: u64,
    bytes: u64,
}

impl<M> Default for ReleasedList<M> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), next: 0, bytes: 0 }
    }
}

impl<M> ReleasedList<M> {
    /// Adds memory (`ion_heap_freelist_add`).
    pub fn push(&mut self, memory: Pooled<M, Dirty>) {
        self.bytes += memory.bytes().get();
        self.entries.insert(ReleasedId(self.next), memory);
        self.next += 1;
    }

    /// Returns the newest entry that `is_wanted`: memory that was released last is still in CPU
    /// caches.
    pub fn newest(&self, is_wanted: impl Fn(&Pooled<M, Dirty>) -> bool) -> Option<(ReleasedId, &M)> {
        let mut newest_first = self.entries.iter().rev();
        newest_first.find(|(_, entry)| is_wanted(entry)).map(|(id, entry)| (*id, entry.memory()))
    }

    /// Removes and returns an entry; `None` if it was removed before.
    pub fn remove(&mut self, id: ReleasedId) -> Option<Pooled<M, Dirty>> {
        let entry = self.entries.remove(&id)?;
        self.bytes -= entry.bytes().get();
        Some(entry)
    }

    /// Takes the newest entry of exactly `bytes` bytes that `domain` released.
    pub fn take(&mut self, bytes: u64, domain: &TrustDomain) -> Option<Pooled<M, Dirty>> {
        let fits = |entry: &Pooled<M, Dirty>| entry.bytes().get() == bytes && entry.domain() == Some(domain);
        let (id, _) = self.newest(fits)?;
        self.remove(id)
    }

    /// Takes the oldest entry that `domain` released.
    pub fn take_oldest(&mut self, domain: &TrustDomain) -> Option<Pooled<M, Dirty>> {
        let mut oldest_first = self.entries.iter();
        let (id, _) = oldest_first.find(|(_, entry)| entry.domain() == Some(domain))?;
        let id = *id;
        self.remove(id)
    }

    /// Takes whole entries, the newest first, until they have at least `bytes` bytes; all for 0
    /// (`ion_heap_freelist_drain`).
    pub fn shrink(&mut self, bytes: u64) -> Vec<Pooled<M, Dirty>> {
        let (mut taken, mut total) = (Vec::new(), 0);
        while bytes == 0 || total < bytes {
            let Some((_, entry)) = self.entries.pop_last() else { break };
            total += entry.bytes().get();
            taken.push(entry);
        }
        self.bytes -= total;
        taken
    }

    /// Adds each domain's entries to `holdings`.
    pub fn add_holdings<'a>(&'a self, holdings: &mut HashMap<Option<&'a TrustDomain>, Holding>) {
        for entry in self.entries.values() {
            holdings.entry(entry.domain()).or_default().add(entry.bytes().get(), 1);
        }
    }

    /// Returns all memory in the list, in no order.
    pub fn memories(&self) -> impl Iterator<Item = &M> {
        self.entries.values().map(Pooled::memory)
    }

    /// Returns the bytes in the list (`ion_heap_freelist_size`).
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
