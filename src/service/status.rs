// SPDX-License-Identifier: Apache-2.0
//! Converts failures to status codes. No other module uses `ErrorCode`.

use super::dump::DumpError;
use super::listeners::Refusal;
use crate::allocator::{Explanation, Failure, NotAdopted, NotOurs, TrimError};
use crate::units::Invalid;
use anion_ipc::{Status, service_error};
use std::io;
use vendor_anion_allocator::aidl::vendor::anion::allocator::ErrorCode::ErrorCode;

fn status(code: ErrorCode, message: &impl ToString) -> Status {
    service_error(code.0, &message.to_string())
}

/// Returns the code of a failed request.
pub(super) fn code(failure: Failure) -> ErrorCode {
    match failure {
        Failure::UnknownHeap => ErrorCode::UNKNOWN_HEAP,
        Failure::NotPermitted => ErrorCode::NOT_PERMITTED,
        Failure::Unsupported => ErrorCode::UNSUPPORTED,
        Failure::NoMemory => ErrorCode::NO_MEMORY,
        Failure::QuotaExceeded => ErrorCode::QUOTA_EXCEEDED,
        Failure::Backend => ErrorCode::BACKEND,
    }
}

pub(super) fn unknown_caller() -> Status {
    status(ErrorCode::NOT_PERMITTED, &"the transport cannot identify the caller")
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
pub(super) fn bad_request(invalid: Invalid) -> Status {
    status(ErrorCode::BAD_REQUEST, &invalid)
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
pub(super) fn allocation_failed(explanation: Explanation) -> Status {
    let failure = explanation.failure().unwrap_or(Failure::Backend);
    if failure == Failure::Backend {
        log::error!("{explanation}");
    }
    status(code(failure), &explanation)
}

pub(super) fn not_ours(error: NotOurs) -> Status {
    status(ErrorCode::NOT_OURS, &error)
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
pub(super) fn not_adopted(error: NotAdopted) -> Status {
    let code = match error {
        NotAdopted::NotOurs(_) => ErrorCode::NOT_OURS,
        NotAdopted::OfAnother => ErrorCode::NOT_PERMITTED,
        NotAdopted::Full(_) | NotAdopted::Exhausted(_) => ErrorCode::NO_MEMORY,
        NotAdopted::Io(_) => ErrorCode::BACKEND,
    };
    status(code, &error)
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
pub(super) fn trim_failed(error: TrimError) -> Status {
    let code = match error {
        TrimError::Denied(_) => ErrorCode::NOT_PERMITTED,
        TrimError::UnknownHeap(_) => ErrorCode::UNKNOWN_HEAP,
    };
    status(code, &error)
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
pub(super) fn listener_refused(refusal: Refusal) -> Status {
    let code = match refusal {
        Refusal::Unreachable(_) => ErrorCode::UNSUPPORTED,
        Refusal::TooManyOfUid { .. } => ErrorCode::QUOTA_EXCEEDED,
        Refusal::TooMany | Refusal::NoThread(_) => ErrorCode::NO_MEMORY,
        Refusal::NotRegistered { .. } => ErrorCode::BAD_REQUEST,
    };
    status(code, &refusal)
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
pub(super) fn dump_failed(error: DumpError) -> Status {
    let code = match error {
        DumpError::UnknownHeap(_) => ErrorCode::UNKNOWN_HEAP,
        DumpError::Json(_) => ErrorCode::BACKEND,
    };
    status(code, &error)
}

#[expect(clippy::needless_pass_by_value, reason = "passed to map_err")]
pub(super) fn writing_failed(error: io::Error) -> Status {
    status(ErrorCode::BACKEND, &format!("cannot write the dump: {error}"))
}
