// SPDX-License-Identifier: Apache-2.0
//! Errors of calls.

use super::descriptors::NoDescriptors;
use anion_ipc::{OutOfDescriptors, ServiceError, Status};
use std::{fmt, io};
use vendor_anion_allocator::aidl::vendor::anion::allocator::ErrorCode::ErrorCode;

/// Cause of a failed call to the service. The text is complete; there is no further source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service refused the call.
    #[error("{refusal}: {message}")]
    Refused {
        /// The cause.
        refusal: Refusal,
        /// The service's explanation: field, value and limit, and for an allocation the answer of
        /// every heap.
        message: String,
    },
    /// No service answers, or it did not restart within the client's patience.
    #[error("cannot reach the service: {0}")]
    Unreachable(io::Error),
    /// The service runs, but did not answer the call: it took too long, or the reply was damaged.
    /// The service may have executed the call; then it releases what it allocated.
    #[error("the service did not answer: {0}")]
    NoAnswer(String),
    /// The answer violates the interface.
    #[error("the service broke its contract: {0}")]
    Contract(String),
    /// The object belongs to the process that made it, and this process is its child by fork(2).
    #[error("the {0} belongs to the process that made it; a child of fork must make its own")]
    Inherited(&'static str),
    /// This process has no free descriptor. The service works, and has released what it allocated
    /// for the call.
    #[error(transparent)]
    NoDescriptors(NoDescriptors),
    /// This process failed; the service may work.
    #[error("{what}: {cause}")]
    Local {
        /// The operation that failed.
        what: &'static str,
        /// The reason.
        cause: io::Error,
    },
}

impl Error {
    /// Returns the error of a system call of this process; `what` names the operation.
    pub(super) fn local(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |cause| match NoDescriptors::is_reason_for(&cause) {
            true => Self::NoDescriptors(NoDescriptors::here()),
            false => Self::Local { what, cause },
        }
    }

    /// Returns the error of connecting to the service.
    pub(super) fn connecting(cause: io::Error) -> Self {
        NoDescriptors::now().map_or(Self::Unreachable(cause), Self::NoDescriptors)
    }

    /// Returns the service's reason; `None` for an error that the service did not report.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }

    /// Returns an errno for callers that know only these: that of ION and the dma-heaps if they
    /// have one for the cause.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Refused { refusal, .. } => match refusal {
                Refusal::BadRequest => libc::EINVAL,
                Refusal::UnknownHeap => libc::ENODEV,
                Refusal::NotPermitted => libc::EPERM,
                Refusal::Unsupported => libc::EOPNOTSUPP,
                Refusal::NoMemory => libc::ENOMEM,
                Refusal::QuotaExceeded => libc::EDQUOT,
                Refusal::NotOurs => libc::ENOENT,
                Refusal::Backend | Refusal::Other(_) => libc::EIO,
            },
            Self::Unreachable(_) => libc::ENOTCONN,
            Self::NoAnswer(_) => libc::ETIMEDOUT,
            Self::Contract(_) => libc::EPROTO,
            Self::Inherited(_) => libc::ECHILD,
            Self::NoDescriptors(_) => libc::EMFILE,
            Self::Local { cause, .. } => errno_of(cause),
        }
    }
}

/// Returns the errno of an error that the standard library or this library made.
pub fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or_else(|| match error.kind() {
        io::ErrorKind::InvalidInput => libc::EINVAL,
        io::ErrorKind::PermissionDenied => libc::EACCES,
        io::ErrorKind::OutOfMemory => libc::ENOMEM,
        _ => libc::EIO,
    })
}

/// Cause of a refusal, one for each code of the interface (`ErrorCode.aidl`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The request is malformed; it fails every time.
    BadRequest,
    /// No heap has this name, or is in this mask.
    UnknownHeap,
    /// The uid has no permission.
    NotPermitted,
    /// The heaps exist, but cannot serve this kind of buffer on this machine.
    Unsupported,
    /// Memory, room or descriptors are exhausted. A later call may succeed.
    NoMemory,
    /// The request would exceed the uid's quota. Releasing buffers helps.
    QuotaExceeded,
    /// The descriptor is no live buffer of this service.
    NotOurs,
    /// The kernel refused an operation of the service that should work.
    Backend,
    /// A code that is newer than this library.
    Other(i32),
}

impl From<i32> for Refusal {
    fn from(code: i32) -> Self {
        match ErrorCode(code) {
            ErrorCode::BAD_REQUEST => Self::BadRequest,
            ErrorCode::UNKNOWN_HEAP => Self::UnknownHeap,
            ErrorCode::NOT_PERMITTED => Self::NotPermitted,
            ErrorCode::UNSUPPORTED => Self::Unsupported,
            ErrorCode::NO_MEMORY => Self::NoMemory,
            ErrorCode::QUOTA_EXCEEDED => Self::QuotaExceeded,
            ErrorCode::NOT_OURS => Self::NotOurs,
            ErrorCode::BACKEND => Self::Backend,
            ErrorCode(other) => Self::Other(other),
        }
    }
}

/// Returns the interface's name of the code.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "BAD_REQUEST",
            Self::UnknownHeap => "UNKNOWN_HEAP",
            Self::NotPermitted => "NOT_PERMITTED",
            Self::Unsupported => "UNSUPPORTED",
            Self::NoMemory => "NO_MEMORY",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::NotOurs => "NOT_OURS",
            Self::Backend => "BACKEND",
            Self::Other(code) => return write!(f, "unknown({code})"),
        })
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        match ServiceError::of(&status) {
            Some(ServiceError { code, message }) => Self::Refused { refusal: Refusal::from(code), message },
            None if anion_ipc::is_lost(&status) => {
                Self::Unreachable(io::Error::new(io::ErrorKind::ConnectionReset, "it has ended again"))
            }
            None => Self::unanswered(&status),
        }
    }
}

impl Error {
    /// Returns the error for a failure of the transport that left the connection intact.
    fn unanswered(status: &Status) -> Self {
        match OutOfDescriptors::of(status) {
            Some(OutOfDescriptors::Caller) => Self::NoDescriptors(NoDescriptors::here()),
            Some(lack @ OutOfDescriptors::Service) => {
                Self::Refused { refusal: Refusal::NoMemory, message: lack.to_string() }
            }
            None => {
                NoDescriptors::now().map_or_else(|| Self::NoAnswer(status.to_string()), Self::NoDescriptors)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_interface_has_a_refusal() {
        for code in ErrorCode::enum_values() {
            let refusal = Refusal::from(code.0);
            assert!(!matches!(refusal, Refusal::Other(_)), "{}", code.0);
        }
        assert_eq!(Refusal::from(99).to_string(), "unknown(99)");
    }

    #[test]
    fn a_refusal_says_what_the_service_said() {
        let status = anion_ipc::service_error(ErrorCode::QUOTA_EXCEEDED.0, "2 bytes asked, 1 of 1 free");
        let error = Error::from(status);
        assert_eq!(error.refusal(), Some(Refusal::QuotaExceeded));
        assert_eq!(error.to_string(), "QUOTA_EXCEEDED: 2 bytes asked, 1 of 1 free");
    }
}
