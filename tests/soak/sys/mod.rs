// SPDX-License-Identifier: Apache-2.0
//! The only operation of a client that needs unsafe code: fork.

use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use nix::unistd::{ForkResult, Pid, fork};
use std::time::Duration;

/// Starts a copy of this process that inherits every descriptor and every mapping, and ends after
/// `pause`.
///
/// # Errors
/// `EAGAIN` or `ENOMEM` if no process can be created.
pub(crate) fn fork_holder(pause: Duration) -> nix::Result<Pid> {
    // SAFETY: this process may have other threads, so that the child must neither allocate nor take
    // a lock. It makes two system calls, through functions that do nothing else, and never returns.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            // If a signal interrupts the sleep, it ends earlier, which is no fault.
            let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::empty(), &pause.into());
            // SAFETY: ends the process at once; nothing is unwound, flushed or dropped.
            unsafe { libc::_exit(0) }
        }
    }
}
