// SPDX-License-Identifier: Apache-2.0
//! Detects whether another process has a file open, by taking a write lease and releasing it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Linux's number; some C libraries do not define it.
const F_SETLEASE: libc::c_int = 1024;

fn set(fd: impl AsFd, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETLEASE takes an integer and touches no memory of this process; the descriptor is
    // open for the duration of the borrow.
    let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), F_SETLEASE, kind) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns whether `fd`'s description is the only one of its file. Takes under a microsecond and
/// never blocks.
///
/// The kernel grants a write lease only when no other open file description of the inode exists:
/// not in a descriptor, a mapping, a message in a socket queue or another process (fs/locks.c,
/// `check_conflicting_open`). The asking description must have been opened through a path: the
/// kernel does not count the one that memfd_create(2) returns among the inode's writers, and the
/// result would be wrong. If a process opens the file during the microsecond of the lease, the
/// kernel sends `SIGIO` to this one.
///
/// # Errors
/// `EINVAL` if the file system has no leases, `EACCES` if the file belongs to another uid.
pub fn is_only_holder(fd: impl AsFd) -> io::Result<bool> {
    match set(&fd, libc::F_WRLCK) {
        Ok(()) => {
            // Fails only if a concurrent caller has already released the shared lease.
            let _ = set(&fd, libc::F_UNLCK);
            Ok(true)
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}
