// SPDX-License-Identifier: Apache-2.0
//! Service-specific errors in the library's form.

use super::transport::{NO_DESCRIPTORS_HERE, NO_DESCRIPTORS_THERE};
use crate::{OutOfDescriptors, ServiceError};
use rsbinder::{ExceptionCode, Status, StatusCode};

impl ServiceError {
    /// Returns what `status` says if it is a service-specific error; `None` if the transport failed
    /// instead.
    pub fn of(status: &Status) -> Option<Self> {
        (status.exception_code() == ExceptionCode::ServiceSpecific).then(|| Self {
            code: status.service_specific_error(),
            message: status.message().unwrap_or_default().to_owned(),
        })
    }
}

/// Returns whether the call failed because the service's process, or the connection to it, was
/// gone. It was then not answered, though it may have been carried out.
pub fn is_lost(status: &Status) -> bool {
    status.exception_code() == ExceptionCode::TransactionFailed
        && status.transaction_error() == StatusCode::DeadObject
}

impl OutOfDescriptors {
    /// Returns whose lack of descriptors made the call fail; `None` if it failed for another
    /// reason.
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

/// Returns a status that carries `code` and `message` to the client. `code` must not be 0: careless
/// clients read that as success.
pub fn service_error(code: i32, message: &str) -> Status {
    debug_assert_ne!(code, 0, "a service-specific error is never 0");
    Status::new_service_specific_error(code, Some(message.to_owned()))
}
