// SPDX-License-Identifier: Apache-2.0
//! Making memory before it is asked for, when the keeper has nothing else to do: first what clients reserved, then
//! fresh spares of the sizes that are asked for again and again.

use super::{Allocator, Stored};
use crate::heap::Heap;
use crate::ledger::HeapIndex;
use crate::source::is_fragmentation;
use crate::sys::clock::since_boot;
use crate::units::{Access, BackedBytes};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long nothing is made ahead after memory was short: longer than any demand is remembered.
const HOLD_OFF: Duration = Duration::from_secs(30);

/// Whether memory may be made ahead.
#[derive(Debug, Default)]
pub(super) struct Refill {
    /// Milliseconds since boot before which it may not.
    resume: AtomicU64,
}

impl Refill {
    /// Memory is short at time `now`.
    pub(super) fn hold_off(&self, now: Duration) {
        let resume = u64::try_from((now + HOLD_OFF).as_millis()).unwrap_or(u64::MAX);
        self.resume.fetch_max(resume, Ordering::Relaxed);
    }

    fn resume(&self) -> Duration {
        Duration::from_millis(self.resume.load(Ordering::Relaxed))
    }
}

impl Allocator {
    /// Makes one buffer ahead, if memory is not short and one is wanted; false if none was made.
    pub(super) fn refill_one(&self) -> bool {
        let now = since_boot();
        self.refill.resume() <= now && (self.ready_one(now) || self.warm_one(now))
    }

    /// How long to wait before the next try; `None` if no client waits for one.
    pub(super) fn refill_pause(&self) -> Option<Duration> {
        let now = since_boot();
        let next = self.books().reservations.next_try(now)?;
        Some(next.max(self.refill.resume()).saturating_sub(now))
    }

    /// Makes the next missing buffer of a reservation: from its domain's own spares, else anew.
    fn ready_one(&self, now: Duration) -> bool {
        let missing = {
            let mut books = self.books();
            let books = &mut *books;
            books.reservations.missing(&mut books.ledger, now)
        };
        let Some(missing) = missing else { return false };
        let heap = &self.heaps[missing.heap];
        let recycled = heap.stock().and_then(|stock| stock.take_ahead(missing.bytes, &missing.domain));
        match recycled.map_or_else(|| self.create_populated(heap, missing.bytes), Ok) {
            Ok(stored) => {
                let needless = self.books().reservations.add_ready(missing.id, stored);
                drop(needless);
                true
            }
            // The heap's own spares may lie in between; then there is room for the next try.
            Err(error) if is_fragmentation(&error) && self.shrink(missing.heap, 0) > 0 => true,
            Err(error) => {
                log::warn!("heap {}: a reserved buffer cannot be made: {error}", heap.name());
                self.books().reservations.failed(missing.id, now);
                false
            }
        }
    }

    /// Makes one fresh spare of a size that is asked for again and again.
    fn warm_one(&self, now: Duration) -> bool {
        self.stocked().any(|(index, heap)| self.warm_heap(index, heap, now))
    }

    fn warm_heap(&self, index: HeapIndex, heap: &Heap, now: Duration) -> bool {
        let Some(stock) = heap.stock() else { return false };
        let Some(bytes) = stock.wanted(now) else { return false };
        if !self.has_unbooked(index, heap, stock.counters().pooled_bytes + bytes.get()) {
            return false;
        }
        match self.create_populated(heap, bytes) {
            Ok(stored) => {
                stock.warm(stored, bytes, now);
                self.fit_shelf(index);
                true
            }
            Err(error) => {
                log::debug!("heap {}: no spare was made ahead: {error}", heap.name());
                // A piece that is too short, or huge pages that have run out, say nothing about the machine's memory.
                if !is_fragmentation(&error) && heap.is_machine_memory() {
                    self.refill.hold_off(now);
                }
                stock.forget_demand();
                false
            }
        }
    }

    /// Whether a heap's budget leaves this much to what nobody holds.
    fn has_unbooked(&self, index: HeapIndex, heap: &Heap, bytes: u64) -> bool {
        heap.capacity().is_none()
            || self.books().ledger.unbooked(index).is_none_or(|unbooked| bytes <= unbooked)
    }

    fn create_populated(&self, heap: &Heap, bytes: BackedBytes) -> io::Result<Stored> {
        let stored = self.create(heap, bytes, Access::ReadWrite)?;
        stored.memory.populate()?;
        Ok(stored)
    }
}
