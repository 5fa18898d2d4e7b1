// SPDX-License-Identifier: Apache-2.0
//! Arguments of the functions of libdmabufheap and libion that point to the caller's memory.

use crate::error::Failure;
use anion_nodes::HEAP;
use std::ffi::{c_char, c_int, c_uint};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Memory of the caller of `AnionDmabufHeapNames`, with as many bytes as the length argument; NULL
/// if that is 0.
#[repr(transparent)]
pub struct Names<'a>(*mut c_char, PhantomData<&'a mut c_char>);

impl Names<'_> {
    /// Stores the bytes, which must fit into the caller's memory.
    pub(crate) fn store(self, bytes: &[u8]) {
        if !self.0.is_null() {
            // SAFETY: values come from C alone (the field is private), and point to as many bytes
            // as the length to which `bytes` is cut. The memory does not belong to this library, so
            // that the two do not overlap.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.cast(), bytes.len()) };
        }
    }
}

/// Memory of the caller of `ion_query_get_heaps`, for as many heaps as the count argument, or NULL.
#[repr(transparent)]
pub struct HeapArray<'a>(*mut [u8; HEAP], PhantomData<&'a mut [u8; HEAP]>);

impl HeapArray<'_> {
    /// Stores the heaps, which must fit into the caller's memory.
    ///
    /// # Errors
    /// If it is NULL.
    pub(crate) fn store(self, heaps: &[[u8; HEAP]]) -> Result<(), Failure> {
        if self.0.is_null() {
            return Err(Failure::Argument("buffers is NULL".to_owned()));
        }
        for (index, heap) in heaps.iter().enumerate() {
            // SAFETY: values come from C alone (the field is private), and point to memory for as
            // many heaps as the count to which `heaps` is cut.
            unsafe { self.0.wrapping_add(index).write(*heap) };
        }
        Ok(())
    }
}

/// Borrows the caller's descriptor for a call, during which the caller keeps it open.
///
/// # Errors
/// `EBADF` if it is no valid number of a descriptor.
pub(crate) fn borrow(fd: c_uint) -> Result<BorrowedFd<'static>, Failure> {
    let fd =
        c_int::try_from(fd).map_err(|_| Failure::system("fd")(io::Error::from_raw_os_error(libc::EBADF)))?;
    // SAFETY: it is not -1. The headers require callers to keep the descriptor open during the
    // call. It is used for one ioctl only, which fails if it is not open.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Closes the descriptor of a client, which the caller owns.
pub(crate) fn close(fd: c_int) {
    // SAFETY: `ion_close` has checked that it is a client's file, so it is open and `ion_open`
    // returned it to the caller, who transfers its ownership with this call (header).
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// Maps a buffer as mmap(2) does, at an address of the kernel's choice.
///
/// # Errors
/// As mmap(2); `EINVAL` for flags that would replace other mappings.
pub(crate) fn map(
    fd: &OwnedFd,
    length: usize,
    prot: c_int,
    flags: c_int,
    offset: libc::off_t,
) -> io::Result<*mut u8> {
    if flags & (libc::MAP_FIXED | libc::MAP_ANONYMOUS) != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: without MAP_FIXED no existing mapping is replaced, and the new one is the caller's.
    let address = unsafe { libc::mmap(ptr::null_mut(), length, prot, flags, fd.as_raw_fd(), offset) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address.cast()) }
}
