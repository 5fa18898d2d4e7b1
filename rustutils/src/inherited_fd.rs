// SPDX-License-Identifier: Apache-2.0
//! Takes ownership of descriptors that were open when the process began: a number from a command
//! line or an environment becomes a descriptor once, and only if the parent passed it.

use command_fds::inherited::{self, InheritedFdError};
use std::os::fd::{OwnedFd, RawFd};

pub use crate::sys::inherited_fd::init_once;

/// Reason why a descriptor cannot be taken.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// [`init_once`] was not called, or failed.
    #[error("inherited descriptors were not taken over when the process began")]
    NotInitialized,
    /// It was taken before. It may be closed now, and another file may have its number.
    #[error("descriptor {0} was taken before")]
    OwnershipTaken(RawFd),
    /// It is standard input, output or error, or was not open when [`init_once`] was called.
    #[error("descriptor {0} was not inherited")]
    FileDescriptorNotInherited(RawFd),
}

/// Returns the descriptor with this number, close-on-exec, once. Later calls fail.
///
/// # Errors
/// Each variant of [`Error`] describes its cause.
pub fn take_fd_ownership(raw_fd: RawFd) -> Result<OwnedFd, Error> {
    inherited::take_fd_ownership(raw_fd).map_err(|error| match error {
        InheritedFdError::NotInitialized => Error::NotInitialized,
        InheritedFdError::OwnershipTaken(number) => Error::OwnershipTaken(number),
        InheritedFdError::FileDescriptorNotInherited(number) => Error::FileDescriptorNotInherited(number),
    })
}
