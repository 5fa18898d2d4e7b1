// SPDX-License-Identifier: Apache-2.0
//! Descriptors known only by number, and system calls that the standard library lacks.

#![allow(unsafe_code, reason = "the one folder of this program that may; every block argues for itself")]

#[cfg(not(soong))]
use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
#[cfg(not(soong))]
use std::os::unix::ffi::OsStrExt;
#[cfg(not(soong))]
use std::path::Path;

/// Duplicates a descriptor that is known only by number, such as an inherited one. The copy is
/// close-on-exec and at least 3; the original is unchanged.
///
/// # Errors
/// `EBADF` if no descriptor has this number; `EMFILE` if none is free.
pub(crate) fn duplicate(raw: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes two integers and touches no memory of this process; a number
    // that is not an open descriptor is answered with EBADF.
    let copy = unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `copy` was just created by the kernel for this call, is not negative, and nothing
    // else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Returns whether a program file has capabilities, which it gets when it is executed. Returns
/// false if they cannot be read.
#[cfg(not(soong))]
pub(crate) fn has_capabilities(program: &Path) -> bool {
    let Ok(path) = CString::new(program.as_os_str().as_bytes()) else { return false };
    // SAFETY: both names are NUL-terminated and live during the call; with a size of 0 the kernel
    // writes nothing and returns the length of the value.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) };
    length > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicating_a_number_that_is_not_open_is_an_error() {
        assert_eq!(duplicate(1_000_000).expect_err("not open").raw_os_error(), Some(libc::EBADF));
        assert!(duplicate(0).is_ok());
    }
}
