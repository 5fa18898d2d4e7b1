// SPDX-License-Identifier: Apache-2.0
//! The program that a request is of.

use nix::errno::Errno;
use std::ffi::c_int;
use std::os::fd::OwnedFd;

/// What a request reads and writes of the program that makes it. One is the process itself, the
/// other a process that a supervisor serves.
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

    /// Checks that memory can be written, which the program has just been read from, before it gets
    /// a descriptor whose number is written there. Where that takes system calls, nothing needs to
    /// be checked: the descriptor stays open in the program then, as the kernel's drivers leave it.
    ///
    /// # Errors
    /// `EFAULT` if it cannot be written.
    fn check_writable(&self, address: u64, length: usize) -> Result<(), Errno>;

    /// Puts a descriptor into the program, and returns its number there. `fd` itself is
    /// close-on-exec.
    ///
    /// # Errors
    /// `EMFILE` if the program has no number free.
    fn install(&self, fd: OwnedFd, close_on_exec: bool) -> Result<c_int, Errno>;

    /// Returns a copy of a descriptor of the program.
    ///
    /// # Errors
    /// `EBADF` if it has none of this number.
    fn copy(&self, number: c_int) -> Result<OwnedFd, Errno>;
}
