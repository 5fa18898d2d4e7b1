// SPDX-License-Identifier: Apache-2.0
//! Converts between service-specific errors and the library's statuses.

use super::transport::{NO_DESCRIPTORS_HERE, NO_DESCRIPTORS_THERE};
use crate::{OutOfDescriptors, ServiceError};
use rsbinder::{ExceptionCode, Status, StatusCode};

impl ServiceError {
    /// Returns the service-specific error in `status`; `None` if the transport failed instead.
    pub fn of(status: &Status) -> Option<Self> {
        (status.exception_code() == ExceptionCode::ServiceSpecific).then(|| Self {
            code: status.service_specific_error(),
            message: status.message().unwrap_or_default().to_owned(),
        })
    }
}

/// Returns whether the call failed because the service's process has ended, or the connection is
/// lost. The call got no answer, but may have been executed.
pub fn is_lost(status: &Status) -> bool {
    status.exception_code() == ExceptionCode::TransactionFailed
        && status.transaction_error() == StatusCode::DeadObject
}

impl OutOfDescriptors {
    /// Returns the side whose lack of descriptors made the call fail; `None` if it failed for
    /// another reason.
    pub fn of(status: &Status) -> Option<Self> {
        if status.exception_code() != ExceptionCode::TransactionFailed {
            return None;
        }
        match status.transaction_error() {
            StatusCode::Errno(NO_DESCRIPTORS_HERE) => Some(Self::Caller),
            StatusCode::Errno(NO_DESCRIPTORS_THERE) => Some(Self::Service),
            _ => None,
        }
    }
}

/// Returns a status with `code` and `message` for the client. `code` must not be 0, which careless
/// clients read as success.
pub fn service_error(code: i32, message: &str) -> Status {
    debug_assert_ne!(code, 0, "a service-specific error is never 0");
    Status::new_service_specific_error(code, Some(message.to_owned()))
}
