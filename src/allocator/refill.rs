// SPDX-License-Identifier: Apache-2.0
//! Making memory before it is asked for: what clients reserved, on a thread of ordinary priority,
//! since they wait for it; and, on the worker, buffers of the sizes that are asked for again and
//! again.

use super::wake::Wake;
use super::{Allocator, Stored};
use crate::heap::Heap;
use crate::source::SourceError;
use crate::sys::clock::since_boot;
use crate::units::{Access, BackedBytes};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long nothing is preallocated after memory was short: longer than any demand is remembered.
const HOLD_OFF: Duration = Duration::from_secs(30);

/// Whether memory may be preallocated.
#[derive(Debug, Default)]
pub(super) struct Refill {
    /// Milliseconds since boot before which it may not.
    resume: AtomicU64,
}

impl Refill {
    /// Notes that memory is short at time `now` (since boot).
    pub(super) fn hold_off(&self, now: Duration) {
        let resume = u64::try_from((now + HOLD_OFF).as_millis()).unwrap_or(u64::MAX);
        self.resume.fetch_max(resume, Ordering::Relaxed);
    }

    fn resume(&self) -> Duration {
        Duration::from_millis(self.resume.load(Ordering::Relaxed))
    }
}

impl Allocator {
    /// Makes the next missing buffer of a reservation, from pooled memory of its domain or new;
    /// false if none is missing or memory is short.
    pub(super) fn make_reserved(&self) -> bool {
        let now = since_boot();
        if self.refill.resume() > now {
            return false;
        }
        // A statement of its own, so that the lock is gone while memory is made.
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
            // Pooled memory may lie in between; then there is room for the next try.
            Err(error) if error.is_fragmentation() && pool.shrink(0) > 0 => true,
            Err(error) => {
                log::warn!("heap {}: a reserved buffer cannot be made: {error}", heap.name());
                self.registry().reservations_mut().failed(missing.id, now);
                false
            }
        }
    }

    /// Returns how long to wait before the next try; `None` if no client waits for a buffer.
    pub(super) fn refill_pause(&self) -> Option<Duration> {
        let now = since_boot();
        let next = self.registry().reservations().next_try(now)?;
        Some(next.max(self.refill.resume()).saturating_sub(now))
    }

    /// Starts the thread that makes what clients reserved. It ends when the allocator is dropped.
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

    /// Preallocates one buffer of a size that is asked for again and again, if memory is not short;
    /// false if none was.
    pub(super) fn preallocate_one(&self) -> bool {
        let now = since_boot();
        self.refill.resume() <= now && self.heaps.iter().any(|heap| self.preallocate(heap, now))
    }

    fn preallocate(&self, heap: &Heap, now: Duration) -> bool {
        // What is set aside has its pages, and must not be away from callers in the hands of the
        // worker.
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
                // A piece that is too short, or huge pages that have run out, say nothing about the
                // machine's memory.
                if !error.is_fragmentation() && heap.is_machine_memory() {
                    self.refill.hold_off(now);
                }
                heap.pool().forget_demand();
                false
            }
        }
    }

    fn create_populated(&self, heap: &Heap, bytes: BackedBytes) -> Result<Stored, SourceError> {
        let stored = self.create(heap, bytes, Access::ReadWrite)?;
        stored.memory.populate()?;
        Ok(stored)
    }
}
