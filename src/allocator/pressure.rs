// SPDX-License-Identifier: Apache-2.0
//! Memory pressure: its level, its effects, and its subscribers.
//!
//! # Lock rules
//! `state` is a leaf: a thread that holds it takes no other lock and makes no system call.

mod available;
mod sources;

pub(super) use available::Availability;
pub(super) use sources::PressureSources;

use super::Allocator;
use crate::sys::clock::since_boot;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Duration of a level after its last sign. The kernel repeats a sign at most every two seconds.
const CALM: Duration = Duration::from_secs(10);

/// Level of memory pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PressureLevel {
    /// No sign of scarce memory.
    #[default]
    None,
    /// Some task waited for memory, less than a 32nd of the memory is available, or the cgroup
    /// exceeded its `memory.high`.
    Moderate,
    /// All tasks waited for memory, less than a 64th of the memory is available, or the cgroup
    /// reached its `memory.max`.
    Critical,
}

/// The cgroup whose memory is watched beside the machine's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WatchedCgroup {
    /// The process's own cgroup, if it has one with a memory controller.
    #[default]
    Own,
    /// None.
    None,
    /// The cgroup of this directory.
    Directory(PathBuf),
}

/// The present level and earlier ones.
#[derive(Default)]
pub(super) struct Pressure {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    level: PressureLevel,
    moderate: Option<Duration>,
    critical: Option<Duration>,
    ended: bool,
}

impl State {
    /// Returns the time of the last pressure of this level or a higher one.
    fn last(&self, level: PressureLevel) -> Option<Duration> {
        match level {
            PressureLevel::None => None,
            PressureLevel::Moderate => self.moderate.max(self.critical),
            PressureLevel::Critical => self.critical,
        }
    }

    /// Returns the remaining time of `level`; `None` if it has passed.
    fn left(&self, level: PressureLevel, now: Duration) -> Option<Duration> {
        let left = (self.last(level)? + CALM).saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }
}

impl Pressure {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that memory is scarce now.
    pub(super) fn raise(&self, level: PressureLevel, now: Duration) {
        let mut state = self.state();
        match level {
            PressureLevel::None => {}
            PressureLevel::Moderate => state.moderate = Some(now),
            PressureLevel::Critical => state.critical = Some(now),
        }
        drop(state);
        self.settle(now);
    }

    /// Lowers the level if it has passed. Returns the time from now until the next check; `None`
    /// while there is no pressure.
    pub(super) fn settle(&self, now: Duration) -> Option<Duration> {
        let mut state = self.state();
        let left = |level| state.left(level, now).map(|left| (level, left));
        let holds = left(PressureLevel::Critical).or_else(|| left(PressureLevel::Moderate));
        let level = holds.map_or(PressureLevel::None, |(level, _)| level);
        if level != state.level {
            state.level = level;
            self.changed.notify_all();
        }
        holds.map(|(_, left)| left)
    }

    fn level(&self) -> PressureLevel {
        self.state().level
    }

    /// Clears all pressure so far.
    #[cfg(test)]
    pub(super) fn calm(&self) {
        *self.state() = State::default();
    }

    /// Ends all subscriptions, because the allocator is dropped.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }
}

/// Reports changes of the level to one thread that waits for them.
pub struct PressureFeed {
    pressure: Arc<Pressure>,
    subscription: std::sync::Weak<()>,
}

/// Ends its [`PressureFeed`] when dropped.
pub struct PressureSubscription {
    pressure: Arc<Pressure>,
    alive: Option<Arc<()>>,
}

impl PressureFeed {
    /// Waits until the level differs from `known` and returns it; it may skip levels in between.
    /// `None` if the subscription or the allocator has ended.
    pub fn next(&self, known: Option<PressureLevel>) -> Option<PressureLevel> {
        let ended = |state: &State| state.ended || self.subscription.strong_count() == 0;
        let state = self
            .pressure
            .changed
            .wait_while(self.pressure.state(), |state| Some(state.level) == known && !ended(state))
            .unwrap_or_else(PoisonError::into_inner);
        (!ended(&state)).then_some(state.level)
    }
}

impl Drop for PressureSubscription {
    fn drop(&mut self) {
        // Under the lock: otherwise a feed that is about to wait would miss it.
        let state = self.pressure.state();
        self.alive = None;
        drop(state);
        self.pressure.changed.notify_all();
    }
}

impl Allocator {
    /// Returns the level of memory pressure.
    pub fn pressure(&self) -> PressureLevel {
        self.pressure.level()
    }

    /// Returns a subscription, and a feed that reports the level to one thread. The feed ends with
    /// the subscription or the allocator.
    pub fn subscribe_to_pressure(&self) -> (PressureSubscription, PressureFeed) {
        let alive = Arc::new(());
        let feed =
            PressureFeed { pressure: Arc::clone(&self.pressure), subscription: Arc::downgrade(&alive) };
        (PressureSubscription { pressure: Arc::clone(&self.pressure), alive: Some(alive) }, feed)
    }

    /// Returns pooled memory to the kernel: under moderate pressure all released memory and half of
    /// the clean memory, under critical pressure all of it.
    pub(super) fn relieve(&self, level: PressureLevel) {
        self.refill.hold_off(since_boot());
        self.spare_metadata.clear();
        for heap in self.giving() {
            let (counters, pool) = heap.pool().counters();
            let (released, clean) = (counters.deferred_bytes, pool.pooled_bytes);
            let wanted = match level {
                PressureLevel::None => 0,
                PressureLevel::Moderate => released + clean / 2,
                PressureLevel::Critical => released + clean,
            };
            if wanted > 0 {
                let freed = heap.pool().shrink(wanted);
                log::info!("memory is scarce: heap {} returned {freed} bytes", heap.name());
            }
        }
    }

    /// Records that memory is scarce, informs subscribers, and returns memory to the kernel.
    pub(crate) fn press(&self, level: PressureLevel) {
        if level != PressureLevel::None {
            self.pressure.raise(level, since_boot());
            self.note_pressure();
            // Also helps: releases that are not detected yet.
            self.liveness.look_now(Instant::now());
            self.relieve(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_level_lasts_until_its_calm_has_passed() {
        let pressure = Pressure::default();
        assert_eq!(pressure.settle(at(99)), None);
        pressure.raise(PressureLevel::Critical, at(100));
        pressure.raise(PressureLevel::Moderate, at(104));
        assert_eq!((pressure.level(), pressure.settle(at(104))), (PressureLevel::Critical, Some(at(6))));
        assert_eq!((pressure.settle(at(110)), pressure.level()), (Some(at(4)), PressureLevel::Moderate));
        assert_eq!((pressure.settle(at(114)), pressure.level()), (None, PressureLevel::None));
    }

    #[test]
    fn critical_pressure_is_moderate_pressure_too() {
        let pressure = Pressure::default();
        pressure.raise(PressureLevel::Moderate, at(100));
        pressure.raise(PressureLevel::Critical, at(108));
        assert_eq!((pressure.settle(at(111)), pressure.level()), (Some(at(7)), PressureLevel::Critical));
        assert_eq!((pressure.settle(at(118)), pressure.level()), (None, PressureLevel::None));
    }

    #[test]
    fn a_feed_tells_the_latest_level_and_ends_with_its_subscription() {
        let pressure = Arc::new(Pressure::default());
        let alive = Arc::new(());
        let feed = PressureFeed { pressure: Arc::clone(&pressure), subscription: Arc::downgrade(&alive) };
        let subscription = PressureSubscription { pressure: Arc::clone(&pressure), alive: Some(alive) };
        assert_eq!(feed.next(None), Some(PressureLevel::None));
        pressure.raise(PressureLevel::Moderate, at(1));
        pressure.raise(PressureLevel::Critical, at(1));
        assert_eq!(feed.next(Some(PressureLevel::None)), Some(PressureLevel::Critical));
        let waiting = std::thread::spawn(move || feed.next(Some(PressureLevel::Critical)));
        drop(subscription);
        assert_eq!(waiting.join().expect("no panic"), None);
    }
}
