// SPDX-License-Identifier: Apache-2.0
//! The boundary to Python's C interface. Only this folder of the crate has `unsafe` blocks.

#![expect(unsafe_code, reason = "this is where it belongs")]

mod views;

use crate::error::Failure;
use nix::errno::Errno;
use pyo3::prelude::*;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// Copies the descriptor of a Python object: an int, or an object with `fileno()`.
///
/// # Errors
/// `TypeError` if it is neither; `anion.Error` with `EBADF` if it is not open, with `EMFILE` if no
/// descriptor is free.
pub(crate) fn duplicate(object: &Bound<'_, PyAny>) -> PyResult<OwnedFd> {
    let fd: RawFd = match object.extract() {
        Ok(fd) => fd,
        Err(_) => object.call_method0("fileno")?.extract()?,
    };
    let copy = if fd < 0 { Err(Errno::EBADF.into()) } else { copy(fd) };
    Ok(copy.map_err(Failure::system("cannot copy the descriptor"))?)
}

fn copy(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number is not -1, and it is only passed to fcntl(2), which fails if it is not
    // open; the borrow ends with that call. Its owner does not matter: a copy changes nothing.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned()
}
