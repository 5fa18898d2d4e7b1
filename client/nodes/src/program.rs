// SPDX-License-Identifier: Apache-2.0
//! Access to the program that makes a request.

use nix::errno::Errno;
use std::ffi::c_int;
use std::os::fd::OwnedFd;

/// The memory and descriptors of the program that makes a request: this process itself, or a
/// process that a supervisor serves.
pub trait Program {
    /// Reads memory of the program.
    ///
    /// # Errors
    /// `EFAULT` if not all of it can be read.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno>;

    /// Writes memory of the program.
    ///
    /// # Errors
    /// `EFAULT` if not all of it can be written.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno>;

    /// Checks that memory that was just read can be written, before the program gets a descriptor
    /// whose number is written there. It may check nothing if that needs system calls: after a
    /// failed write, the descriptor then stays open in the program, as with the kernel's drivers.
    ///
    /// # Errors
    /// `EFAULT` if it cannot be written.
    fn check_writable(&self, address: u64, length: usize) -> Result<(), Errno>;

    /// Adds a descriptor to the program, and returns its number there. `fd` itself is
    /// close-on-exec.
    ///
    /// # Errors
    /// `EMFILE` if the program has no free number.
    fn install(&self, fd: OwnedFd, close_on_exec: bool) -> Result<c_int, Errno>;

    /// Returns a copy of a descriptor of the program.
    ///
    /// # Errors
    /// `EBADF` if the program has no descriptor of this number.
    fn copy(&self, number: c_int) -> Result<OwnedFd, Errno>;
}
