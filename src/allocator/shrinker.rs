// SPDX-License-Identifier: Apache-2.0
//! The shrinker: one thread that gives pooled memory back to the kernel when it lies idle, or when
//! the machine or the service's cgroup runs short. It sleeps while there is nothing to watch for.
//! Its priority is the ordinary one: a busy machine can run short of memory, too.

use super::Allocator;
use super::pressure::{Availability, PressureLevel, PressureSources};
use crate::heap::{Heap, IDLE};
use crate::sys::clock::since_boot;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Interval between two searches for idle memory, while there is pooled memory.
const LOOK: Duration = Duration::from_secs(10);
/// Time after memory was pooled at which the shrinker checks again even if callers have taken all
/// of it meanwhile: memory that they release is pooled again at once, and must not wake it each
/// time.
const EMPTY_LOOK: Duration = Duration::from_secs(1);

/// State of the shrinker between two steps.
struct State {
    availability: Availability,
    /// The level of the sources after the last step.
    told: PressureLevel,
    /// Whether the last look found no pooled memory.
    was_empty: bool,
}

impl Allocator {
    /// Gives all pooled memory back to the kernel.
    pub(super) fn shrink_all(&self) {
        self.spare_metadata.clear();
        for heap in &self.heaps {
            heap.pool().shrink(0);
        }
    }

    /// Returns the heaps whose pooled memory helps others when it is returned: not heaps whose
    /// memory is set aside.
    pub(super) fn giving(&self) -> impl Iterator<Item = &Heap> {
        self.heaps.iter().filter(|heap| heap.pool().is_kept() && !heap.is_set_aside())
    }

    /// Gives idle memory back. Returns whether memory is pooled that will go later.
    fn expire(&self) -> bool {
        let deadline = since_boot().saturating_sub(IDLE);
        let is_metadata_kept = self.spare_metadata.expire(deadline);
        self.giving().filter(|heap| heap.pool().expire(deadline)).count() > 0 || is_metadata_kept
    }

    /// Acts on the level that the sources told and does one look. Returns how long there is nothing
    /// to do unless memory becomes scarce; `None` until memory is pooled.
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
        // From here on it looks by itself.
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
