// SPDX-License-Identifier: Apache-2.0
//! Service-specific errors in the library's form.

use crate::error::message_in;
use crate::{OutOfDescriptors, ServiceError};
use binder::{ExceptionCode, Status, StatusCode};

impl ServiceError {
    /// Returns what `status` says if it is a service-specific error; `None` if the transport failed
    /// instead.
    pub fn of(status: &Status) -> Option<Self> {
        (status.exception_code() == ExceptionCode::SERVICE_SPECIFIC).then(|| {
            let code = status.service_specific_error();
            Self { code, message: message_in(&status.get_description(), code).to_owned() }
        })
    }
}

impl OutOfDescriptors {
    /// Returns `None`: of kernel binder's failures none says that descriptors were the reason.
    pub fn of(_status: &Status) -> Option<Self> {
        None
    }
}

/// Returns whether the call failed because the service's process was gone. It was then not
/// answered, though it may have been carried out.
pub fn is_lost(status: &Status) -> bool {
    status.exception_code() == ExceptionCode::TRANSACTION_FAILED
        && status.transaction_error() == StatusCode::DEAD_OBJECT
}

/// Returns a status that carries `code` and `message` to the client. `code` must not be 0: careless
/// clients read that as success.
pub fn service_error(code: i32, message: &str) -> Status {
    debug_assert_ne!(code, 0, "a service-specific error is never 0");
    Status::new_service_specific_error_str(code, Some(message))
}
