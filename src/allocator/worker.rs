// SPDX-License-Identifier: Apache-2.0
//! The worker: one thread of lowest priority that cleans pooled memory and preallocates
//! (`refill.rs`). It sleeps while it has no work. No call waits for it: memory that it is cleaning
//! stays in the pool, where callers can take it (`heap/pool.rs`).

use super::Allocator;
use super::wake::Wake;
use crate::ledger::HeapIndex;
use crate::sys::clock::since_boot;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Allocator {
    /// Cleans one released buffer of the next heap that has any, so that heaps take turns. Returns
    /// false if there is none.
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
            // Each step does both: clients that release permanently do not stop preallocation for
            // other clients.
            let has_cleaned = allocator.clean_one();
            (allocator.preallocate_one() || has_cleaned).then_some(Duration::ZERO)
        })
    }
}
