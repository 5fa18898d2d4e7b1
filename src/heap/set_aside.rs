// SPDX-License-Identifier: Apache-2.0
//! Memory that was set aside for a heap: its free ranges, and whether requests fit.

use super::Heap;
use crate::pool::Arena;
use crate::source::SourceError;
use crate::source::arena::ArenaFile;
use crate::units::BackedBytes;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Ranges of memory that was set aside, by address.
pub struct SetAside {
    /// Free ranges.
    pub free: Vec<Range<u64>>,
    /// Pooled ranges.
    pub pooled: Vec<Range<u64>>,
}

/// Fragmentation of memory that is set aside for a heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragmentation {
    /// Bytes that are in neither a buffer nor the pool.
    pub free_bytes: u64,
    /// The most of these bytes that one buffer can have.
    pub largest_free_bytes: u64,
    /// Requests that failed although they needed no more than all free bytes together.
    pub failures: u64,
}

impl Heap {
    /// Returns the memory that was set aside for it; `None` if none was.
    fn set_aside(&self) -> Option<&ArenaFile> {
        self.opened()?.arena.as_deref()
    }

    /// Returns the free bytes and failures of the memory that was set aside for it; `None` if none
    /// was.
    pub fn fragmentation(&self) -> Option<Fragmentation> {
        let free = self.set_aside()?.free_bytes();
        Some(Fragmentation {
            free_bytes: free.total,
            largest_free_bytes: free.largest,
            failures: self.fragmented.load(Ordering::Relaxed),
        })
    }

    /// Returns the free and the pooled ranges of the memory that was set aside for it, by address;
    /// `None` if none was. The time it takes is proportional to their number.
    pub fn set_aside_ranges(&self) -> Option<SetAside> {
        let free = self.set_aside()?.picture().free_ranges().collect();
        let mut pooled: Vec<_> = self.pool.ranges();
        pooled.sort_by_key(|range| range.start);
        Some(SetAside { free, pooled })
    }

    /// Returns whether its memory was set aside at the start.
    pub fn is_set_aside(&self) -> bool {
        self.set_aside().is_some()
    }

    /// Returns whether some of the memory that was set aside is neither free nor pooled nor booked,
    /// apart from `own` bytes that are booked and not made yet: a thread is about to return it.
    pub fn has_memory_in_transit(&self, own: u64) -> bool {
        let free = self.set_aside().map(ArenaFile::free_bytes);
        let Some((free, capacity)) = free.zip(self.capacity()) else { return false };
        capacity - free.total.min(capacity) > self.pool.accounted().saturating_sub(own)
    }

    /// Counts a request that failed although it needed no more than all free bytes together.
    pub fn count_fragmented(&self) {
        self.fragmented.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns a copy of the arena as if its pool were empty: a request is refused only after that.
    fn arena(&self) -> Option<Arena> {
        // Copies the arena first: memory that is dropped later is still in use in the copy.
        let mut arena = self.set_aside()?.picture();
        for range in self.pool.ranges() {
            arena.free(range);
        }
        Some(arena)
    }

    /// Checks whether memory that is set aside could hold `count` buffers of `bytes` bytes now,
    /// after emptying the pool if necessary. It does not check the room.
    ///
    /// # Errors
    /// As [`Heap::create`] would fail.
    pub fn find_place(&self, bytes: BackedBytes, count: usize) -> Result<(), SourceError> {
        let Some(mut arena) = self.arena() else { return Ok(()) };
        for _ in 0..count {
            if arena.allocate(bytes.get()).is_none() {
                return Err(SourceError::full(bytes.get(), arena.free_bytes()));
            }
        }
        Ok(())
    }

    /// Returns the size in bytes of the largest buffer of which memory that was set aside could
    /// hold `count` now, after emptying the pool if necessary; `None` if none was set aside.
    pub fn largest_place(&self, count: u64) -> Option<u64> {
        Some(self.arena()?.largest_fit(count, self.granularity()))
    }
}
