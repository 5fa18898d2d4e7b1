// SPDX-License-Identifier: Apache-2.0
//! Descriptors that were open when the process began, as owned ones: a number from a command line
//! or an environment becomes a descriptor once, and only if the parent passed it.

use command_fds::inherited::{self, InheritedFdError};
use std::os::fd::{OwnedFd, RawFd};

pub use crate::sys::inherited_fd::init_once;

/// Why a descriptor cannot be had.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// [`init_once`] was not called, or failed.
    #[error("inherited descriptors were not taken over when the process began")]
    NotInitialized,
    /// It was taken before; it may be closed by now, and its number another file's.
    #[error("descriptor {0} was taken before")]
    OwnershipTaken(RawFd),
    /// It is standard input, output or error, or was not open when [`init_once`] was called.
    #[error("descriptor {0} was not inherited")]
    FileDescriptorNotInherited(RawFd),
}

/// Returns the descriptor with this number, close-on-exec. Further calls do not get it.
///
/// # Errors
/// As each of [`Error`] says.
pub fn take_fd_ownership(raw_fd: RawFd) -> Result<OwnedFd, Error> {
    inherited::take_fd_ownership(raw_fd).map_err(|error| match error {
        InheritedFdError::NotInitialized => Error::NotInitialized,
        InheritedFdError::OwnershipTaken(number) => Error::OwnershipTaken(number),
        InheritedFdError::FileDescriptorNotInherited(number) => Error::FileDescriptorNotInherited(number),
    })
}
