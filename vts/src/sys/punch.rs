// SPDX-License-Identifier: Apache-2.0
//! Punches holes in files with fallocate(2), which nix lacks for Android.

use nix::errno::Errno;
use nix::libc::{self, off_t};
use std::os::fd::{AsFd, AsRawFd};

/// Returns a range of a file to its file system; the file's size is unchanged.
///
/// # Errors
/// As fallocate(2).
pub(crate) fn punch_hole(fd: impl AsFd, offset: off_t, length: off_t) -> nix::Result<()> {
    let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: no pointer is passed; the descriptor is open while it is borrowed.
    Errno::result(unsafe { libc::fallocate(fd.as_fd().as_raw_fd(), how, offset, length) }).map(drop)
}
