// SPDX-License-Identifier: Apache-2.0
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_CALLED: AtomicBool = AtomicBool::new(false);

/// Takes ownership of every descriptor above standard error that is open now, and marks it
/// close-on-exec. [`take_fd_ownership`](crate::inherited_fd::take_fd_ownership) returns each once.
/// Descriptors that are not taken stay open until the process ends.
///
/// # Errors
/// If `/proc/self/fd` cannot be read, a descriptor cannot be marked, or it was called before, with
/// or without success.
///
/// # Safety
/// No code in this process may own one of these descriptors: call it first in `main`, before any
/// file is opened and any thread starts.
pub unsafe fn init_once() -> Result<(), io::Error> {
    // A second call would take ownership of everything again, and close it when it detects that it
    // is not the first.
    if IS_CALLED.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("inherited descriptors were taken over before"));
    }
    // SAFETY: the caller of this function guarantees the same contract.
    unsafe { command_fds::inherited::init_inherited_fds() }
}
