// SPDX-License-Identifier: Apache-2.0
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_CALLED: AtomicBool = AtomicBool::new(false);

/// Takes every descriptor above standard error that is open now into this module's keeping, marked
/// close-on-exec. [`take_fd_ownership`](crate::inherited_fd::take_fd_ownership) hands them out.
/// What is not taken stays open as long as the process lives: it is never closed.
///
/// # Errors
/// If `/proc/self/fd` cannot be read, a descriptor cannot be marked, or it was called before, with
/// success or without.
///
/// # Safety
/// Nothing in this process may own one of these descriptors: call it first in `main`, before
/// anything is opened and before any thread starts.
pub unsafe fn init_once() -> Result<(), io::Error> {
    // A second call would own everything a second time, and close it when it finds that it is not
    // the first.
    if IS_CALLED.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("inherited descriptors were taken over before"));
    }
    // SAFETY: asks of its caller what this function asks of its own.
    unsafe { command_fds::inherited::init_inherited_fds() }
}
