// SPDX-License-Identifier: Apache-2.0
//! The worker: one thread of lowest priority that cleans pooled memory and preallocates
//! (`refill.rs`). It sleeps while there is nothing to do. No call waits for it: what it is cleaning
//! stays in the pool, where callers take it (`heap/pool.rs`).

use super::Allocator;
use super::wake::Wake;
use crate::ledger::HeapIndex;
use crate::sys::clock::since_boot;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Allocator {
    /// Cleans one released buffer, of another heap than the last if others wait; false if none
    /// waits.
    pub(super) fn clean_one(&self) -> bool {
        let heaps = self.heaps.len();
        let first: HeapIndex = self.turn.load(Ordering::Relaxed);
        for index in (first..first + heaps).map(|index| index % heaps) {
            let pool = self.heaps[index].pool();
            let Some(work) = pool.next_work() else { continue };
            self.turn.store(index + 1, Ordering::Relaxed);
            pool.worked(&work, &work.wipe.work(), since_boot());
            return true;
        }
        false
    }

    /// Starts the worker thread. It ends when the allocator is dropped.
    pub(super) fn start_worker(self: &Arc<Self>) -> io::Result<()> {
        let begin = || {
            if let Err(error) = crate::sys::thread::lower_priority() {
                log::warn!("cannot lower the priority of the worker thread: {error}");
            }
        };
        Wake::start("anion-worker", &self.worker, self, begin, |allocator| {
            // Both have their turn: clients that release all the time keep preallocation from no
            // other client.
            let has_cleaned = allocator.clean_one();
            (allocator.preallocate_one() || has_cleaned).then_some(Duration::ZERO)
        })
    }
}
