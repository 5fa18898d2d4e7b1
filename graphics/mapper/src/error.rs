// SPDX-License-Identifier: Apache-2.0
//! Error codes of calls.

use anion_handle::{BadFile, Malformed};
use nix::errno::Errno;
use std::io;

/// A code of `AIMapper_Error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Error {
    /// The handle is not Anion's, was not imported, or is not locked.
    BadBuffer = 2,
    /// An argument is out of its range.
    BadValue = 3,
    /// No memory, address space or descriptors are left.
    NoResources = 5,
    /// The metadata type does not exist, or it cannot be set.
    Unsupported = 7,
}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Self {
        Self::BadBuffer
    }
}

impl From<BadFile> for Error {
    fn from(_: BadFile) -> Self {
        Self::BadBuffer
    }
}

impl From<Errno> for Error {
    /// Returns the code: `NoResources` if this process or machine lacks a resource, else an error
    /// of the handle.
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN => Self::NoResources,
            _ => Self::BadBuffer,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Errno::from_raw(error.raw_os_error().unwrap_or_default()).into()
    }
}
