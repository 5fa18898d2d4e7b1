// SPDX-License-Identifier: Apache-2.0
//! Asks whether another process has a file open, by taking a write lease and returning it.

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
/// The kernel grants a write lease only when no other open file description of the inode exists,
/// be it held by a descriptor, a mapping, a message in a socket queue or another process
/// (fs/locks.c, `check_conflicting_open`). The asking description must have been opened through a
/// path: the one that memfd_create(2) returns is not counted in the inode's writers, and the answer
/// would be wrong. A process that opens the file during the microsecond of the lease makes the
/// kernel send this one `SIGIO`.
///
/// # Errors
/// `EINVAL` if the file system has no leases, `EACCES` if the file belongs to another uid.
pub fn is_only_holder(fd: impl AsFd) -> io::Result<bool> {
    match set(&fd, libc::F_WRLCK) {
        Ok(()) => {
            // Fails only if a concurrent caller already gave the shared lease back.
            let _ = set(&fd, libc::F_UNLCK);
            Ok(true)
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}
