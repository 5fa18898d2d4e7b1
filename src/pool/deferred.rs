// SPDX-License-Identifier: Apache-2.0
//! The deferred-free list: dirty spares that wait to be scrubbed. ION's `free_list`.

use super::spare::{Dirty, Spare};

/// Last in, first out, as in ION: what was freed last is still in the caches.
#[derive(Debug)]
pub struct Deferred<M> {
    spares: Vec<Spare<M, Dirty>>,
    bytes: u64,
}

impl<M> Default for Deferred<M> {
    fn default() -> Self {
        Self { spares: Vec::new(), bytes: 0 }
    }
}

impl<M> Deferred<M> {
    /// Adds a spare (`ion_heap_freelist_add`).
    pub fn push(&mut self, spare: Spare<M, Dirty>) {
        self.bytes += spare.bytes().get();
        self.spares.push(spare);
    }

    /// Takes the spare that was added last.
    pub fn pop(&mut self) -> Option<Spare<M, Dirty>> {
        let spare = self.spares.pop()?;
        self.bytes -= spare.bytes().get();
        Some(spare)
    }

    /// Takes whole spares until they have at least `bytes` bytes, or all of them for 0
    /// (`ion_heap_freelist_drain` and `_shrink`: what becomes of them is the caller's choice).
    pub fn take(&mut self, bytes: u64) -> Vec<Spare<M, Dirty>> {
        let (mut taken, mut total) = (Vec::new(), 0);
        while bytes == 0 || total < bytes {
            let Some(spare) = self.pop() else { break };
            total += spare.bytes().get();
            taken.push(spare);
        }
        taken
    }

    /// All that wait, in no order.
    pub fn memories(&self) -> impl Iterator<Item = &M> {
        self.spares.iter().map(Spare::memory)
    }

    /// Bytes waiting (`ion_heap_freelist_size`).
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.spares.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.spares.is_empty()
    }
}
