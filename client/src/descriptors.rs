// SPDX-License-Identifier: Apache-2.0
//! Detects that this process has no free file descriptors.

use nix::sys::resource::{Resource, getrlimit};
use std::fs::File;
use std::io;

/// This process has no free file descriptor: its limit is `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process has no file descriptors left; it may have {limit} (RLIMIT_NOFILE; ulimit -n)")]
pub struct NoDescriptors {
    /// The soft limit of open files.
    pub limit: u64,
}

impl NoDescriptors {
    /// Returns the limit of this process.
    #[cfg_attr(
        target_pointer_width = "64",
        expect(clippy::useless_conversion, reason = "a limit is a machine word, of 32 bits elsewhere")
    )]
    pub fn here() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _hard)| soft);
        Self { limit: limit.into() }
    }

    /// Returns the limit if this process cannot open a file now: then the previous call has
    /// probably failed for that reason, in this process or in the service.
    pub fn now() -> Option<Self> {
        File::open("/").err().filter(Self::is_reason_for).map(|_| Self::here())
    }

    /// Returns whether a call failed with this error for lack of a free descriptor.
    pub fn is_reason_for(error: &io::Error) -> bool {
        error.raw_os_error() == Some(libc::EMFILE)
    }
}
