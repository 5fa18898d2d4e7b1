// SPDX-License-Identifier: Apache-2.0
//! `native_handle_t`: descriptors and numbers.

use crate::buffer::Buffer;
use crate::error::Error;
use anion_handle::{FDS, INTS};
use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The first fields of every `native_handle_t`. Its descriptors follow, and then its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct NativeHandle {
    /// Bytes of this structure.
    version: c_int,
    num_fds: c_int,
    num_ints: c_int,
}

/// A `native_handle_t` of Anion.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Native {
    head: NativeHandle,
    fds: [c_int; FDS],
    ints: [c_int; INTS],
}

#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "12, 2 and 46")]
const HEAD: NativeHandle = NativeHandle {
    version: size_of::<NativeHandle>() as c_int,
    num_fds: FDS as c_int,
    num_ints: INTS as c_int,
};
const _: () = assert!(size_of::<NativeHandle>() == 12);
const _: () = assert!(size_of::<Native>() == 12 + 4 * (FDS + INTS));

impl Native {
    /// Returns the handle of an imported buffer: its descriptors are the buffer's own.
    pub(crate) fn of(buffer: &Buffer) -> Self {
        let mut native = Self { head: HEAD, fds: [0; FDS], ints: [0; INTS] };
        for (place, fd) in native.fds.iter_mut().zip(&buffer.fds) {
            *place = fd.as_raw_fd();
        }
        for (place, number) in native.ints.iter_mut().zip(buffer.handle.to_ints()) {
            *place = number;
        }
        native
    }

    /// Returns its address for clients.
    pub(super) fn head(this: *const Self) -> *const NativeHandle {
        this.cast()
    }

    /// Imports a client's handle.
    ///
    /// # Safety
    /// `handle` is null, or refers to a `native_handle_t` with as many descriptors and numbers as
    /// its counts, which no thread changes during the call.
    pub(super) unsafe fn import(handle: *const NativeHandle) -> Result<Buffer, Error> {
        if handle.is_null() || !handle.is_aligned() {
            return Err(Error::BadBuffer);
        }
        // SAFETY: it is not null, so it refers to a live handle (contract), which begins with this
        // struct; it is aligned (checked).
        let head = unsafe { handle.read() };
        if head != HEAD {
            return Err(Error::BadBuffer);
        }
        // SAFETY: its counts of descriptors and of numbers are those of `Native` (checked), so that
        // as many bytes exist (contract); both types have the same alignment, and every bit pattern
        // is a `Native`.
        let native = unsafe { handle.cast::<Self>().read() };
        let [pixels, metadata] = native.fds;
        Buffer::import([borrow(pixels)?, borrow(metadata)?], &native.ints)
    }
}

/// Borrows a descriptor of a handle. The caller keeps it open during the call; otherwise operations
/// on it fail.
fn borrow<'a>(fd: c_int) -> Result<BorrowedFd<'a>, Error> {
    if fd < 0 {
        return Err(Error::BadBuffer);
    }
    // SAFETY: it is not -1. It is only copied by fcntl(2), which fails if it is not open.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}
