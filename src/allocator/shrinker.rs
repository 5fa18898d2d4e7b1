// SPDX-License-Identifier: Apache-2.0
//! The shrinker: one thread that returns pooled memory to the kernel when it is unused for long, or
//! when the machine or the service's cgroup runs short. It sleeps while it has nothing to check.
//! Its priority is the ordinary one: a busy machine can run short of memory, too.

use super::Allocator;
use super::pressure::{Availability, PressureLevel, PressureSources};
use crate::heap::{Heap, IDLE, discard};
use crate::sys::clock::since_boot;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Interval between two searches for memory that is unused for long, while memory is pooled.
const LOOK: Duration = Duration::from_secs(10);
/// Time after memory was pooled at which the shrinker checks again, even if callers have taken all
/// of it meanwhile. Memory that they release is pooled again at once, and must not wake the
/// shrinker each time.
const EMPTY_LOOK: Duration = Duration::from_secs(1);

/// State of the shrinker between two steps.
struct State {
    availability: Availability,
    /// The level of the sources after the last step.
    told: PressureLevel,
    /// Whether the last check found no pooled memory.
    was_empty: bool,
}

impl Allocator {
    /// Returns all pooled memory to the kernel.
    pub(super) fn shrink_all(&self) {
        self.spare_metadata.clear();
        for heap in &self.heaps {
            heap.pool().shrink(0);
        }
    }

    /// Returns how many more buffers pools may have. Pooled and live buffers together use no more
    /// descriptors than live ones alone may, so that replies and connections have theirs.
    pub(super) fn entries_left(&self) -> u64 {
        self.registry().ledger.files_left().saturating_sub(self.pooled_entries())
    }

    /// Evicts the pooled buffers whose descriptors booked buffers need.
    pub(super) fn fit_entries(&self) {
        let left = self.registry().ledger.files_left();
        let mut excess = usize::try_from(self.pooled_entries().saturating_sub(left)).unwrap_or(usize::MAX);
        for heap in &self.heaps {
            if excess == 0 {
                return;
            }
            let evicted = heap.pool().evict(excess);
            excess -= evicted.len();
            discard(evicted);
        }
    }

    fn pooled_entries(&self) -> u64 {
        self.heaps.iter().map(|heap| heap.pool().entries() as u64).sum()
    }

    /// Returns the heaps whose pooled memory other processes can use once it is returned: all
    /// except heaps whose memory is set aside.
    pub(super) fn giving(&self) -> impl Iterator<Item = &Heap> {
        self.heaps.iter().filter(|heap| heap.pool().is_kept() && !heap.is_set_aside())
    }

    /// Returns memory that is unused for long to the kernel. The result is whether memory is pooled
    /// that will be returned later.
    fn expire(&self) -> bool {
        let deadline = since_boot().saturating_sub(IDLE);
        let is_metadata_kept = self.spare_metadata.expire(deadline);
        self.giving().filter(|heap| heap.pool().expire(deadline)).count() > 0 || is_metadata_kept
    }

    /// Acts on the level of the sources and makes one check. Returns the time until the next step
    /// unless memory becomes scarce; `None` until memory is pooled.
    fn shrink_step(&self, state: &mut State) -> Option<Duration> {
        self.press(state.told);
        let calm = self.pressure.settle(since_boot());
        self.note_pressure();
        if !self.expire() {
            if std::mem::replace(&mut state.was_empty, true) {
                return calm;
            }
            self.shrinker.needs_no_wake();
            return Some(calm.map_or(EMPTY_LOOK, |calm| calm.min(EMPTY_LOOK)));
        }
        state.was_empty = false;
        // From here on the shrinker checks by itself.
        self.shrinker.needs_no_wake();
        let (level, look) = state.availability.look(since_boot());
        self.press(level);
        [Some(LOOK), Some(look), calm].into_iter().flatten().min()
    }

    /// Starts the shrinker thread. It ends when the allocator is dropped.
    pub(super) fn start_shrinker(
        self: &Arc<Self>,
        mut sources: PressureSources,
        availability: Availability,
    ) -> io::Result<()> {
        let (wake, allocator) = (Arc::clone(&self.shrinker), Arc::downgrade(self));
        std::thread::Builder::new().name("anion-shrinker".to_owned()).spawn(move || {
            let mut state = State { availability, told: PressureLevel::None, was_empty: false };
            while let Some(pause) = wake.step(&allocator, |allocator| allocator.shrink_step(&mut state)) {
                state.told = sources.read(&wake.wait(sources.poll_fds(), pause));
            }
        })?;
        Ok(())
    }
}
