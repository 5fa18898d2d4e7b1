// SPDX-License-Identifier: Apache-2.0
//! Being told that memory is scarce: pressure stall information (Documentation/accounting/psi.rst).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// Where the kernel takes the trigger.
const FILE: &str = "/proc/pressure/memory";
/// Some task waited for memory for 150 ms within 2 s. Unprivileged processes may ask for multiples of 2 s alone.
const TRIGGER: &[u8] = b"some 150000 2000000\0";

/// Becomes ready (`POLLPRI`) while tasks of this machine wait for memory, at most once in two seconds.
#[derive(Debug)]
pub struct PressureTrigger(File);

impl PressureTrigger {
    /// # Errors
    /// `NotFound` if the kernel has no pressure stall information, `PermissionDenied` or `InvalidInput` if this
    /// process may not ask.
    pub fn new() -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).open(FILE)?;
        file.write_all(TRIGGER)?;
        Ok(Self(file))
    }
}

impl AsFd for PressureTrigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
