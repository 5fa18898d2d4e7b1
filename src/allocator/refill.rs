// SPDX-License-Identifier: Apache-2.0
//! Makes memory before clients request it. A thread of ordinary priority makes reserved buffers,
//! since clients wait for them. The worker makes buffers of sizes that are requested repeatedly.

use super::wake::Wake;
use super::{Allocator, Stored};
use crate::heap::Heap;
use crate::source::SourceError;
use crate::source::arena::{KernelPages, Pages};
use crate::sys::clock::since_boot;
use crate::sys::lock::Mutex;
use crate::units::{Access, BackedBytes};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Time after a shortage of memory during which nothing is preallocated: longer than the pool
/// remembers any demand.
const HOLD_OFF: Duration = Duration::from_secs(30);

/// Bytes that are made after a reading of the available memory, until the next reading.
const LOOK_BYTES: u64 = 4 << 20;
/// Validity of a reading of the available memory.
const LOOK_AGE: Duration = Duration::from_millis(100);
/// Part of the available memory that is left for other processes: a sixteenth.
const LEFT_TO_OTHERS: u64 = 16;

/// Decides whether memory may be preallocated.
#[derive(Debug, Default)]
pub(super) struct Refill {
    /// Milliseconds since boot before which it may not be.
    resume: AtomicU64,
    /// Bytes that the last reading permits. A leaf lock; no system call is made while it is held.
    room: Mutex<Room>,
}

/// Memory that may be made before the next reading.
#[derive(Debug, Default)]
struct Room {
    bytes: u64,
    until: Duration,
}

impl Refill {
    /// Records that memory is short at time `now` (since boot).
    pub(super) fn hold_off(&self, now: Duration) {
        let resume = u64::try_from((now + HOLD_OFF).as_millis()).unwrap_or(u64::MAX);
        self.resume.fetch_max(resume, Ordering::Relaxed);
    }

    /// Takes `bytes` bytes from the memory that may be made at time `now` (since boot). `available`
    /// returns the bytes that the machine and the service's cgroup have left: memory that the
    /// service makes present is charged to its cgroup, and the kernel ends the service beyond the
    /// cgroup's limit.
    ///
    /// # Errors
    /// `OutOfMemory` if too little is left.
    fn take_room(
        &self,
        bytes: u64,
        now: Duration,
        available: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<()> {
        {
            let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
            if now < room.until && bytes <= room.bytes {
                room.bytes -= bytes;
                return Ok(());
            }
        }
        // Without a reading, only the kernel's own limits apply.
        let available = available().unwrap_or(u64::MAX);
        let most = available - available / LEFT_TO_OTHERS;
        if bytes > most {
            let why = format!(
                "{bytes} bytes would leave too little of the {available} bytes that are available to the machine or \
                 to the service's cgroup (MemoryMax=, MemoryHigh=)"
            );
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, why));
        }
        let left = Room { bytes: LOOK_BYTES.min(most - bytes), until: now + LOOK_AGE };
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = left;
        Ok(())
    }

    fn resume(&self) -> Duration {
        Duration::from_millis(self.resume.load(Ordering::Relaxed))
    }
}

impl Allocator {
    /// Makes the next missing buffer of a reservation, from pooled memory of its domain or new.
    /// Returns false if none is missing or memory is short.
    pub(super) fn make_reserved(&self) -> bool {
        let now = since_boot();
        if self.refill.resume() > now {
            return false;
        }
        // A separate statement, so that no lock is held while memory is made.
        let missing = self.registry().missing(&self.heaps, now);
        let Some(missing) = missing else { return false };
        let heap = &self.heaps[missing.heap];
        let pool = heap.pool();
        let clean = || {
            let released = pool.take_ahead_released(missing.bytes, &missing.domain)?;
            self.handed_over(heap, pool.clean(released).ok()?)
        };
        let pooled = pool.take_ahead(missing.bytes, &missing.domain);
        let pooled = pooled.and_then(|clean| self.handed_over(heap, clean)).or_else(clean);
        match pooled.map_or_else(|| self.create_populated(heap, missing.bytes), Ok) {
            Ok(stored) => {
                let needless = self.registry().reservations_mut().add_ready(missing.id, stored);
                drop(needless);
                true
            }
            // Pooled memory may have split the free range; without it the next try has room.
            Err(error) if error.is_fragmentation() && pool.shrink(0) > 0 => true,
            Err(error) => {
                log::warn!("heap {}: a reserved buffer cannot be made: {error}", heap.name());
                self.registry().reservations_mut().failed(missing.id, now);
                false
            }
        }
    }

    /// Returns the time to wait before the next try; `None` if no client waits for a buffer.
    pub(super) fn refill_pause(&self) -> Option<Duration> {
        let now = since_boot();
        let next = self.registry().reservations().next_try(now)?;
        Some(next.max(self.refill.resume()).saturating_sub(now))
    }

    /// Starts the thread that makes reserved buffers. It ends when the allocator is dropped.
    pub(super) fn start_maker(self: &Arc<Self>) -> io::Result<()> {
        Wake::start(
            "anion-maker",
            &self.maker,
            self,
            || {},
            |allocator| {
                if allocator.make_reserved() { Some(Duration::ZERO) } else { allocator.refill_pause() }
            },
        )
    }

    /// Preallocates one buffer of a size that is requested repeatedly, if memory is not short.
    /// Returns false if it made none.
    pub(super) fn preallocate_one(&self) -> bool {
        let now = since_boot();
        self.refill.resume() <= now
            && self.entries_left() > 0
            && self.heaps.iter().any(|heap| self.preallocate(heap, now))
    }

    fn preallocate(&self, heap: &Heap, now: Duration) -> bool {
        // Memory that is set aside has its pages already. Callers must always be able to take it,
        // so the worker does not hold it.
        if heap.is_set_aside() {
            return false;
        }
        let Some(bytes) = heap.pool().wanted(now) else { return false };
        match self.create_populated(heap, bytes) {
            Ok(stored) => {
                heap.pool().preallocated(stored, bytes, now);
                self.shrinker.wake();
                true
            }
            Err(error) => {
                log::debug!("heap {}: no buffer was preallocated: {error}", heap.name());
                // A free range that is too short, or a lack of huge pages, does not mean that the
                // machine is short of memory.
                if !error.is_fragmentation() && heap.is_machine_memory() {
                    self.refill.hold_off(now);
                }
                heap.pool().forget_demand();
                false
            }
        }
    }

    fn create_populated(&self, heap: &Heap, bytes: BackedBytes) -> Result<Stored, SourceError> {
        if heap.is_machine_memory() && !heap.is_set_aside() {
            self.refill.take_room(bytes.get(), since_boot(), || KernelPages.available())?;
        }
        let stored = self.create(heap, bytes, Access::ReadWrite, None)?;
        stored.memory.populate()?;
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn memory_that_a_cgroup_cannot_take_is_not_made_and_checks_are_rare() {
        let (refill, now) = (Refill::default(), Duration::from_secs(5));
        let take = |bytes, now, available| refill.take_room(bytes, now, || Ok(available));
        let refused = take(16 * MIB, now, 16 * MIB).expect_err("nothing would be left");
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        assert!(refused.to_string().contains("16777216 bytes would leave too little"), "{refused}");
        take(15 * MIB, now, 16 * MIB).expect("a sixteenth is left");
        take(MIB, now, 64 * MIB).expect("looked");
        let unseen = |bytes, now| refill.take_room(bytes, now, || panic!("no look is due"));
        unseen(3 * MIB, now).expect("of the last look");
        unseen(MIB, now + LOOK_AGE / 2).expect("of the last look");
        take(MIB, now + LOOK_AGE / 2, 0).expect_err("it was used up");
        take(MIB, now, 64 * MIB).expect("looked");
        take(MIB, now + LOOK_AGE, 0).expect_err("it is old");
    }
}
