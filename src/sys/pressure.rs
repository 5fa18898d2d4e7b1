// SPDX-License-Identifier: Apache-2.0
//! Reports that memory is scarce, by pressure stall information (Documentation/accounting/psi.rst).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// File that accepts triggers for the whole machine.
pub const MACHINE: &str = "/proc/pressure/memory";

/// Tasks that wait for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// Some task, for 150 ms within 2 s.
    Some,
    /// Every task that could run, for 300 ms within 2 s.
    Full,
}

impl Stall {
    /// Returns the kernel's word for the stall, and the time for which tasks must have waited.
    fn threshold(self) -> (&'static str, Duration) {
        match self {
            Self::Some => ("some", Duration::from_millis(150)),
            Self::Full => ("full", Duration::from_millis(300)),
        }
    }

    /// Returns the trigger in the kernel's format. Unprivileged processes may use only multiples of
    /// 2 s.
    fn trigger(self) -> String {
        let (who, waited) = self.threshold();
        format!("{who} {} 2000000\0", waited.as_micros())
    }

    /// Returns the total time for which tasks have waited, from the text of the kernel's file.
    fn total(self, told: &str) -> Option<Duration> {
        let line = told.lines().find(|line| line.starts_with(self.threshold().0))?;
        let total = line.split_whitespace().find_map(|word| word.strip_prefix("total="))?;
        total.parse().ok().map(Duration::from_micros)
    }
}

/// Becomes ready (`POLLPRI`) while tasks wait for memory, at most once in two seconds. `POLLERR`
/// means that the watched cgroup no longer exists.
#[derive(Debug)]
pub struct PressureTrigger {
    file: File,
    stall: Stall,
    /// Total time for which tasks had waited when it was made, or was last ready; `None` if the
    /// kernel did not report it.
    waited: Option<Duration>,
}

impl PressureTrigger {
    /// Watches for `stall` in [`MACHINE`] or in a cgroup's `memory.pressure`.
    ///
    /// # Errors
    /// `NotFound` if the kernel has no pressure stall information; `PermissionDenied` or
    /// `InvalidInput` if this process may not make triggers.
    pub fn new(file: &Path, stall: Stall) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).open(file)?;
        file.write_all(stall.trigger().as_bytes())?;
        let waited = waited(&file, stall);
        Ok(Self { file, stall, waited })
    }

    /// Returns whether a ready trigger's tasks have waited as long as it requires. On Linux 6.18 a
    /// new trigger is ready at the first wait, however short. Returns true if the kernel does not
    /// report the time.
    pub fn is_met(&mut self) -> bool {
        let now = waited(&self.file, self.stall);
        let is_short =
            |(now, before): (Duration, Duration)| now.saturating_sub(before) < self.stall.threshold().1;
        if now.zip(self.waited).is_some_and(is_short) {
            return false;
        }
        self.waited = now;
        true
    }
}

fn waited(file: &File, stall: Stall) -> Option<Duration> {
    // Two lines of less than a hundred bytes.
    let mut told = [0; 256];
    let len = file.read_at(&mut told, 0).ok()?;
    stall.total(std::str::from_utf8(&told[..len]).ok()?)
}

impl AsFd for PressureTrigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_is_met_only_by_as_long_a_wait_as_it_asks_for() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let tell = |some: u32, full: u32| {
            let line = |who, total| format!("{who} avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n");
            std::fs::write(file.path(), line("some", some) + &line("full", full)).expect("written");
        };
        let [mut some, mut full] = [Stall::Some, Stall::Full].map(|stall| {
            let mut trigger = PressureTrigger::new(file.path(), stall).expect("a file like the kernel's");
            tell(5_000_000, 1_000_000);
            trigger.waited = waited(&trigger.file, stall);
            trigger
        });
        tell(5_149_999, 1_299_999);
        assert!(!some.is_met() && !full.is_met());
        // A wait that was too short counts towards the next result.
        tell(5_150_000, 1_300_000);
        assert!(some.is_met() && full.is_met());
        assert!(!some.is_met() && !full.is_met(), "it was told");
        std::fs::write(file.path(), "what no kernel says").expect("written");
        assert!(some.is_met() && full.is_met(), "not known to be short");
    }
}
