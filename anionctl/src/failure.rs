// SPDX-License-Identifier: Apache-2.0
//! The failures of commands, and their exit codes.

use crate::words;
use anion_client::NoDescriptors;
use anion_ipc::{OutOfDescriptors, ServiceError, Status};
use std::io;
use vendor_anion_allocator::aidl::vendor::anion::allocator::ErrorCode::ErrorCode;

/// Exit code: the service refused.
const REFUSED: u8 = 1;
/// Exit code: the command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// Exit code: the service cannot be reached, or stopped answering.
const UNREACHABLE: u8 = 3;
/// Exit code: a buffer failed a check.
const CHECK: u8 = 4;
/// Exit code: an operation of this process failed.
const LOCAL: u8 = 5;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The service answered with an error of its interface.
    Refused(ServiceError),
    /// The service refused, and the output already reports it.
    RefusedAsShown,
    /// The arguments are not valid for this command.
    Usage(String),
    /// The service cannot be reached, or the transport broke during a call.
    Unreachable(String),
    /// A buffer is not zero, lost data that was written to it, or differs from its description.
    Check(String),
    /// An operation of this process failed: mapping memory, writing output.
    Local(String),
    /// The command of --exec could not be started; the number is the exit code that shells use.
    Exec(String, u8),
    /// The program ended with this code, and printed its own message.
    #[cfg_attr(
        any(soong, not(any(target_arch = "x86_64", target_arch = "aarch64"))),
        expect(dead_code, reason = "a supervisor of system calls is for 64-bit Linux alone")
    )]
    Ended(u8),
    /// The reader of the output closed it, and needs no message.
    BrokenPipe,
}

impl Failure {
    /// Returns the failure to find the service or connect to it.
    pub(crate) fn unreachable(error: impl std::fmt::Display) -> Self {
        match NoDescriptors::now() {
            Some(none) => Self::Local(none.to_string()),
            None => Self::Unreachable(format!("cannot reach the service: {error}")),
        }
    }

    /// Returns the failure of an operation of this process; `what` names the operation.
    pub(crate) fn local(what: &str, error: &io::Error) -> Self {
        Self::Local(format!("{what}: {error}"))
    }

    /// Returns the failure to write to standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::local("cannot write to standard output", error),
        }
    }

    /// Returns the process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::RefusedAsShown => REFUSED,
            Self::Usage(_) => USAGE,
            Self::Unreachable(_) => UNREACHABLE,
            Self::Check(_) => CHECK,
            Self::Local(_) => LOCAL,
            Self::Exec(_, code) | Self::Ended(code) => *code,
            Self::BrokenPipe => 0,
        }
    }

    /// Returns the message for the user; `None` if there is nothing to add.
    pub(crate) fn message(&self) -> Option<String> {
        match self {
            Self::Refused(error) => Some(refusal(error)),
            Self::Usage(text)
            | Self::Unreachable(text)
            | Self::Check(text)
            | Self::Local(text)
            | Self::Exec(text, _) => Some(text.clone()),
            Self::RefusedAsShown | Self::Ended(_) | Self::BrokenPipe => None,
        }
    }
}

/// Returns the code's name and the service's explanation.
pub(crate) fn refusal(error: &ServiceError) -> String {
    format!("{}: {}", words::error_code(error.code), error.message)
}

/// A failed call is a refusal if the service reports an error, else a failure of the transport.
impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(error) = ServiceError::of(&status) {
            return Self::Refused(error);
        }
        match OutOfDescriptors::of(&status) {
            Some(OutOfDescriptors::Caller) => Self::Local(NoDescriptors::here().to_string()),
            Some(lack @ OutOfDescriptors::Service) => {
                Self::Refused(ServiceError { code: ErrorCode::NO_MEMORY.0, message: lack.to_string() })
            }
            None => match NoDescriptors::now() {
                Some(none) => Self::Local(none.to_string()),
                None => Self::Unreachable(format!("the service did not answer: {status}")),
            },
        }
    }
}
