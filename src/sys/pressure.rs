// SPDX-License-Identifier: Apache-2.0
//! Being told that memory is scarce: pressure stall information (Documentation/accounting/psi.rst).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Where the kernel takes triggers for the whole machine.
pub const MACHINE: &str = "/proc/pressure/memory";

/// Who waits for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// Some task, for 150 ms within 2 s.
    Some,
    /// Every task that could run, for 300 ms within 2 s.
    Full,
}

impl Stall {
    /// Returns it as the kernel wants it written. Unprivileged processes may ask for multiples of 2
    /// s alone.
    fn trigger(self) -> &'static [u8] {
        match self {
            Self::Some => b"some 150000 2000000\0",
            Self::Full => b"full 300000 2000000\0",
        }
    }
}

/// Becomes ready (`POLLPRI`) while tasks wait for memory, at most once in two seconds. `POLLERR` says that what it
/// watches is gone.
#[derive(Debug)]
pub struct PressureTrigger(File);

impl PressureTrigger {
    /// Watches for `stall` in [`MACHINE`] or in a cgroup's `memory.pressure`.
    ///
    /// # Errors
    /// `NotFound` if the kernel has no pressure stall information, `PermissionDenied` or `InvalidInput` if this
    /// process may not ask.
    pub fn new(file: &Path, stall: Stall) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).open(file)?;
        file.write_all(stall.trigger())?;
        Ok(Self(file))
    }
}

impl AsFd for PressureTrigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
