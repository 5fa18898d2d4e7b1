// SPDX-License-Identifier: Apache-2.0
//! Memory pressure: what tells of it, how bad it is, and who wants to know.
//!
//! # Who may hold the lock
//! `state` is a leaf: nothing else is locked, and no system call is made, while it is held.

use super::Allocator;
use crate::sys::cgroup::{self, MemoryEvents, Shortages};
use crate::sys::clock::since_boot;
use crate::sys::pressure::{self, PressureTrigger, Stall};
use nix::poll::{PollFd, PollFlags};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a level lasts without what raised it. The kernel repeats itself every two seconds at most.
const CALM: Duration = Duration::from_secs(10);

/// How scarce memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PressureLevel {
    /// Nothing is known to be scarce.
    #[default]
    None,
    /// Some task waited for memory, or the cgroup exceeded its `memory.high`.
    Moderate,
    /// All tasks waited for memory, or the cgroup met its `memory.max`.
    Critical,
}

/// Which cgroup's memory is watched beside the machine's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WatchedCgroup {
    /// The process's own, if it has one with a memory controller.
    #[default]
    Own,
    /// None.
    None,
    /// The one of this directory.
    Directory(PathBuf),
}

/// What tells of pressure.
#[derive(Default)]
pub(super) struct PressureSources(Vec<Source>);

enum Source {
    Stall(PressureTrigger, PressureLevel),
    Cgroup(MemoryEvents),
}

impl PressureSources {
    /// All that this machine has. What it has not is logged.
    ///
    /// # Errors
    /// If a cgroup was named and cannot be watched.
    pub(super) fn open(watched: &WatchedCgroup) -> io::Result<Self> {
        let mut sources = Self::default();
        if let Err(error) = sources.add_stalls(Path::new(pressure::MACHINE)) {
            log::info!("memory pressure of the machine is not reported here: {error}");
        }
        let directory = match watched {
            WatchedCgroup::None => return Ok(sources),
            WatchedCgroup::Directory(directory) => directory.clone(),
            WatchedCgroup::Own => match cgroup::own_directory()? {
                Some(directory) => directory,
                None => {
                    log::info!(
                        "memory pressure of a cgroup is not watched: this process has none of version 2"
                    );
                    return Ok(sources);
                }
            },
        };
        match (sources.add_cgroup(&directory), watched) {
            (Ok(()), _) => log::info!("memory pressure of the cgroup {} is watched", directory.display()),
            (Err(error), WatchedCgroup::Directory(_)) => {
                let why = format!("cgroup is {}, but its memory.events: {error}", directory.display());
                return Err(io::Error::new(error.kind(), why));
            }
            (Err(error), _) => log::info!(
                "memory pressure of a cgroup is not watched: {}: memory.events: {error}",
                directory.display()
            ),
        }
        Ok(sources)
    }

    fn add_stalls(&mut self, file: &Path) -> io::Result<()> {
        for (stall, level) in [(Stall::Some, PressureLevel::Moderate), (Stall::Full, PressureLevel::Critical)]
        {
            self.0.push(Source::Stall(PressureTrigger::new(file, stall)?, level));
        }
        Ok(())
    }

    fn add_cgroup(&mut self, directory: &Path) -> io::Result<()> {
        self.0.push(Source::Cgroup(MemoryEvents::open(directory)?));
        // Only who may write to the cgroup may ask for its stalls; the limits say enough.
        if let Err(error) = self.add_stalls(&directory.join("memory.pressure")) {
            log::debug!("memory stalls of the cgroup {} are not reported: {error}", directory.display());
        }
        Ok(())
    }

    /// To be polled.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.0.iter().map(|source| {
            let fd = match source {
                Source::Stall(trigger, _) => trigger.as_fd(),
                Source::Cgroup(events) => events.as_fd(),
            };
            PollFd::new(fd, PollFlags::POLLPRI)
        })
    }

    /// What poll saw of each amounts to. Sources that are gone are dropped: they would be ready for ever.
    pub(super) fn read(&mut self, seen: &[PollFlags]) -> PressureLevel {
        let mut worst = PressureLevel::None;
        let mut seen = seen.iter();
        self.0.retain_mut(|source| {
            let flags = seen.next().copied().unwrap_or(PollFlags::empty());
            if flags.is_empty() {
                return true;
            }
            let level = match source {
                Source::Stall(_, level) if !flags.contains(PollFlags::POLLERR) => Ok(*level),
                Source::Stall(..) => Err(io::ErrorKind::NotFound.into()),
                Source::Cgroup(events) => events.take().map(level_of),
            };
            match level {
                Ok(level) => worst = worst.max(level),
                Err(ref error) => log::info!("a source of memory pressure is gone: {error}"),
            }
            level.is_ok()
        });
        worst
    }
}

fn level_of(new: Shortages) -> PressureLevel {
    if new.max > 0 || new.oom > 0 {
        PressureLevel::Critical
    } else if new.high > 0 {
        PressureLevel::Moderate
    } else {
        PressureLevel::None
    }
}

/// How scarce memory is, and was.
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
    /// Time of the last pressure of this level or a higher one.
    fn last(&self, level: PressureLevel) -> Option<Duration> {
        match level {
            PressureLevel::None => None,
            PressureLevel::Moderate => self.moderate.max(self.critical),
            PressureLevel::Critical => self.critical,
        }
    }

    /// Time until `level` has passed; `None` if it has.
    fn left(&self, level: PressureLevel, now: Duration) -> Option<Duration> {
        let left = (self.last(level)? + CALM).saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }
}

impl Pressure {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory is scarce now.
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

    /// Lets the level fall that has passed. Returns when to look again, from now; `None` while there is no pressure.
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

    /// The allocator is going: subscribers hear no more.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }
}

/// Tells of changes of the level, to one thread that waits for them.
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
    /// Waits until the level is another than `known` and returns it; levels in between may be missed. `None` when
    /// the subscription or the allocator is gone.
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
        // Under the lock, or a feed that is about to wait would miss it.
        let state = self.pressure.state();
        self.alive = None;
        drop(state);
        self.pressure.changed.notify_all();
    }
}

impl Allocator {
    /// How scarce memory is.
    pub fn pressure(&self) -> PressureLevel {
        self.pressure.level()
    }

    /// Has a thread told of the level. The feed outlives neither the subscription nor the allocator.
    pub fn subscribe_to_pressure(&self) -> (PressureSubscription, PressureFeed) {
        let alive = Arc::new(());
        let feed =
            PressureFeed { pressure: Arc::clone(&self.pressure), subscription: Arc::downgrade(&alive) };
        (PressureSubscription { pressure: Arc::clone(&self.pressure), alive: Some(alive) }, feed)
    }

    /// Gives memory back that no client holds: under moderate pressure all deferred frees and half of every shelf,
    /// under critical pressure everything.
    pub(super) fn relieve(&self, level: PressureLevel) {
        self.refill.hold_off(since_boot());
        // Memory that was set aside stays so, and helps nobody.
        for (index, heap) in self.stocked().filter(|(_, heap)| heap.fragmentation().is_none()) {
            let Some(stock) = heap.stock() else { continue };
            let deferred = self.books().ledger.heap(index).deferred_bytes;
            let pooled = stock.counters().pooled_bytes;
            let wanted = match level {
                PressureLevel::None => 0,
                PressureLevel::Moderate => deferred + pooled / 2,
                PressureLevel::Critical => deferred + pooled,
            };
            if wanted > 0 {
                let freed = self.shrink(index, wanted);
                log::info!("memory is scarce: heap {} gave {freed} bytes back", heap.name());
            }
        }
    }

    /// Memory is scarce: remembers it, tells subscribers, and gives memory back.
    pub(crate) fn press(&self, level: PressureLevel) {
        if level != PressureLevel::None {
            self.pressure.raise(level, since_boot());
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
    fn limits_of_a_cgroup_are_worse_than_its_high_mark() {
        let new = |high, max, oom| level_of(Shortages { high, max, oom });
        assert_eq!(new(0, 0, 0), PressureLevel::None);
        assert_eq!(new(3, 0, 0), PressureLevel::Moderate);
        assert_eq!((new(3, 1, 0), new(0, 0, 1)), (PressureLevel::Critical, PressureLevel::Critical));
    }

    #[test]
    fn a_named_cgroup_must_be_there_and_the_own_one_need_not() {
        let scratch = tempfile::tempdir().expect("scratch");
        let named = WatchedCgroup::Directory(scratch.path().to_owned());
        let error = PressureSources::open(&named).err().expect("no cgroup");
        assert!(error.to_string().contains(&scratch.path().display().to_string()), "{error}");
        PressureSources::open(&WatchedCgroup::Own).expect("logged at most");
    }

    /// Plain files stand in for those of a cgroup.
    #[test]
    fn sources_tell_the_worst_and_are_dropped_when_they_are_gone() {
        let scratch = tempfile::tempdir().expect("scratch");
        let write =
            |name: &str, text: &str| std::fs::write(scratch.path().join(name), text).expect("written");
        write("memory.events", "high 0\n");
        write("memory.pressure", "");
        let mut sources = PressureSources::default();
        sources.add_cgroup(scratch.path()).expect("there");
        write("memory.events", "high 1\n");
        let (silent, ready) = (PollFlags::empty(), PollFlags::POLLPRI);
        let gone = ready | PollFlags::POLLERR;
        assert_eq!(sources.poll_fds().count(), 3);
        assert_eq!(sources.read(&[silent; 3]), PressureLevel::None);
        assert_eq!(
            sources.read(&[gone, silent, silent]),
            PressureLevel::Moderate,
            "as the kernel says for a change"
        );
        assert_eq!(sources.read(&[silent, ready, ready]), PressureLevel::Critical);
        assert_eq!(sources.read(&[silent, ready, gone]), PressureLevel::Moderate);
        assert_eq!(sources.read(&[silent, gone]), PressureLevel::None);
        assert_eq!(sources.poll_fds().count(), 1);
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
