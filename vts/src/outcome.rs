// SPDX-License-Identifier: Apache-2.0
//! Definition of a test, its expectations, and its results.

use crate::harness::Fixture;
pub(crate) use crate::mapper::check_eq;
use crate::request::aidl::ErrorCode;
use anion_ipc::ServiceError;
use anyhow::{Result, anyhow, bail, ensure};
use std::fmt;

/// Reason why a test does not apply. It is an error, so that `?` returns it from a test.
#[derive(Debug)]
pub(crate) struct Inapplicable(pub(crate) String);

impl fmt::Display for Inapplicable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Inapplicable {}

/// Ends a test as ignored, with the reason.
///
/// # Errors
/// Always [`Inapplicable`].
pub(crate) fn inapplicable<T>(reason: impl Into<String>) -> Result<T> {
    Err(Inapplicable(reason.into()).into())
}

/// How a test shares the uid with the other tests of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Runs beside others: the uid's usage includes theirs.
    Shared,
    /// Runs alone, after the uid's usage has become zero.
    Quiet,
}

/// One entry in a test file's list.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) lock: Lock,
    pub(crate) run: fn(&Fixture) -> Result<()>,
}

/// Lists a file's tests, each with its [`Lock`]: `tests![Shared zero_is_refused, Quiet
/// kill_releases];`
macro_rules! tests {
    ($($lock:ident $name:ident),+ $(,)?) => {
        pub(crate) const TESTS: &[$crate::outcome::Test] = &[$(
            $crate::outcome::Test {
                name: stringify!($name),
                lock: $crate::outcome::Lock::$lock,
                run: $name,
            },
        )+];
    };
}
pub(crate) use tests;

/// Expects a call to fail with one of `codes` and a message.
///
/// # Errors
/// If it succeeds, fails in the transport or with another code, or has no message.
pub(crate) fn expect_error<T: fmt::Debug>(
    result: anion_ipc::Result<T>,
    codes: &[ErrorCode],
) -> Result<ServiceError> {
    let wanted = codes.iter().map(|code| code_name(code.0)).collect::<Vec<_>>().join(" or ");
    let status = match result {
        Ok(reply) => bail!("expected {wanted}, but the call succeeded: {reply:?}"),
        Err(status) => status,
    };
    let error = ServiceError::of(&status)
        .ok_or_else(|| anyhow!("expected {wanted}, but the transport failed: {status}"))?;
    ensure!(
        codes.iter().any(|code| code.0 == error.code),
        "expected {wanted}, found {}: {error}",
        code_name(error.code)
    );
    ensure!(!error.message.is_empty(), "{} came without a message", code_name(error.code));
    Ok(error)
}

/// Returns the name of an error code.
pub(crate) fn code_name(code: i32) -> String {
    let name = match ErrorCode(code) {
        ErrorCode::BAD_REQUEST => "BAD_REQUEST",
        ErrorCode::UNKNOWN_HEAP => "UNKNOWN_HEAP",
        ErrorCode::NOT_PERMITTED => "NOT_PERMITTED",
        ErrorCode::UNSUPPORTED => "UNSUPPORTED",
        ErrorCode::NO_MEMORY => "NO_MEMORY",
        ErrorCode::QUOTA_EXCEEDED => "QUOTA_EXCEEDED",
        ErrorCode::NOT_OURS => "NOT_OURS",
        ErrorCode::BACKEND => "BACKEND",
        _ => return format!("code {code}, which ErrorCode does not define"),
    };
    name.to_owned()
}
