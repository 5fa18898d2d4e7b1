// SPDX-License-Identifier: Apache-2.0
//! Converts between service-specific errors and the library's statuses.

use crate::error::message_in;
use crate::{OutOfDescriptors, ServiceError};
use binder::{ExceptionCode, Status, StatusCode};

impl ServiceError {
    /// Returns the service-specific error in `status`; `None` if the transport failed instead.
    pub fn of(status: &Status) -> Option<Self> {
        (status.exception_code() == ExceptionCode::SERVICE_SPECIFIC).then(|| {
            let code = status.service_specific_error();
            Self { code, message: message_in(&status.get_description(), code).to_owned() }
        })
    }
}

impl OutOfDescriptors {
    /// Returns `None`: no failure of kernel binder reports a lack of descriptors.
    pub fn of(_status: &Status) -> Option<Self> {
        None
    }
}

/// Returns whether the call failed because the service's process has ended. The call got no answer,
/// but may have been executed.
pub fn is_lost(status: &Status) -> bool {
    status.exception_code() == ExceptionCode::TRANSACTION_FAILED
        && status.transaction_error() == StatusCode::DEAD_OBJECT
}

/// Returns a status with `code` and `message` for the client. `code` must not be 0, which careless
/// clients read as success.
pub fn service_error(code: i32, message: &str) -> Status {
    debug_assert_ne!(code, 0, "a service-specific error is never 0");
    Status::new_service_specific_error_str(code, Some(message))
}
