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

/// Most attempts to release a lease. The kernel refuses it at most once; a tracer of system calls
/// may make it fail more often.
const ATTEMPTS: usize = 16;

/// Calls `release` until the lease is released. A lease that stayed would delay every process that
/// opens the file, by /proc/sys/fs/lease-break-time.
///
/// # Errors
/// The last error, if every attempt fails.
fn release_with(mut release: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..ATTEMPTS {
        last = match release() {
            // A concurrent caller has already released the shared lease.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(()),
            Err(error) => Err(error),
            Ok(()) => return Ok(()),
        };
    }
    last
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
/// `EINVAL` if the file system has no leases, `EACCES` if the file belongs to another uid. If the
/// lease cannot be released, why not; it ends with the description.
pub fn is_only_holder(fd: impl AsFd) -> io::Result<bool> {
    match set(&fd, libc::F_WRLCK) {
        Ok(()) => {
            release_with(|| set(&fd, libc::F_UNLCK))?;
            Ok(true)
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts_with(answers: &[libc::c_int]) -> (Option<libc::c_int>, usize) {
        let mut count = 0;
        let released = release_with(|| {
            count += 1;
            match answers.get(count - 1) {
                Some(error) => Err(io::Error::from_raw_os_error(*error)),
                None => Ok(()),
            }
        });
        (released.err().and_then(|error| error.raw_os_error()), count)
    }

    #[test]
    fn a_lease_is_released_although_some_attempts_fail() {
        assert_eq!(attempts_with(&[libc::EINTR, libc::ENOMEM]), (None, 3));
        assert_eq!(attempts_with(&[libc::EAGAIN]), (None, 1), "another thread has released it");
        assert_eq!(attempts_with(&[libc::ENOLCK; 99]), (Some(libc::ENOLCK), ATTEMPTS));
    }
}
