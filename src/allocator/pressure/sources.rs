// SPDX-License-Identifier: Apache-2.0
//! Sources of memory pressure: the kernel's stall triggers, and a cgroup's limits.

use super::{PressureLevel, WatchedCgroup};
use crate::sys::cgroup::{MemoryEvents, Shortages, own_directory};
use crate::sys::pressure::{MACHINE, PressureTrigger, Stall};
use nix::poll::{PollFd, PollFlags};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// A source of memory pressure.
#[derive(Default)]
pub(in crate::allocator) struct PressureSources(Vec<Source>);

enum Source {
    Stall(PressureTrigger, PressureLevel),
    Cgroup(MemoryEvents),
}

impl PressureSources {
    /// Returns all sources of this machine, and logs the missing ones.
    ///
    /// # Errors
    /// If a cgroup was named and cannot be watched.
    pub(in crate::allocator) fn open(watched: &WatchedCgroup) -> io::Result<Self> {
        let mut sources = Self::default();
        if let Err(error) = sources.add_stalls(Path::new(MACHINE)) {
            log::info!("the machine reports no memory pressure: {MACHINE}: {error}");
        }
        let directory = match watched {
            WatchedCgroup::None => return Ok(sources),
            WatchedCgroup::Directory(directory) => directory.clone(),
            WatchedCgroup::Own => match own_directory()? {
                Some(directory) => directory,
                None => {
                    log::info!(
                        "memory pressure of a cgroup is not watched: this process is in no cgroup of version 2"
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
        // Only a process that may write to the cgroup may register for its stalls. Without stalls,
        // the limits suffice.
        if let Err(error) = self.add_stalls(&directory.join("memory.pressure")) {
            log::debug!("memory stalls of the cgroup {} are not reported: {error}", directory.display());
        }
        Ok(())
    }

    /// Returns the descriptors to poll.
    pub(in crate::allocator) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.0.iter().map(|source| {
            let fd = match source {
                Source::Stall(trigger, _) => trigger.as_fd(),
                Source::Cgroup(events) => events.as_fd(),
            };
            PollFd::new(fd, PollFlags::POLLPRI)
        })
    }

    /// Returns the level of the sources, from the result of poll for each. It drops sources that
    /// have ended, since they would be ready permanently.
    pub(in crate::allocator) fn read(&mut self, seen: &[PollFlags]) -> PressureLevel {
        let mut worst = PressureLevel::None;
        let mut seen = seen.iter();
        self.0.retain_mut(|source| {
            let flags = seen.next().copied().unwrap_or(PollFlags::empty());
            if flags.is_empty() {
                return true;
            }
            let level = match source {
                Source::Stall(..) if flags.contains(PollFlags::POLLERR) => {
                    Err(io::ErrorKind::NotFound.into())
                }
                Source::Stall(trigger, level) => {
                    Ok(if trigger.is_met() { *level } else { PressureLevel::None })
                }
                Source::Cgroup(events) => events.take().map(level_of),
            };
            match level {
                Ok(level) => worst = worst.max(level),
                Err(ref error) => log::info!("a source of memory pressure does not exist any more: {error}"),
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

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Uses plain files instead of a cgroup's.
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
}
