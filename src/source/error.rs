// SPDX-License-Identifier: Apache-2.0
//! Reasons why a source made no memory.

use crate::pool::FreeBytes;
use std::io;

/// Reason why a source made no memory.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Memory that was set aside has enough free bytes for the buffer, but no free range is long
    /// enough.
    #[error(
        "{asked} bytes asked in one piece, but the longest free range has {longest} of {free} free bytes"
    )]
    Fragmented {
        /// Bytes of the buffer.
        asked: u64,
        /// All free bytes.
        free: u64,
        /// Bytes of the longest free range.
        longest: u64,
    },
    /// Free memory is in more ranges than one buffer can have.
    #[error("the buffer would need {needed} ranges, but one can have at most {limit}")]
    TooScattered {
        /// Ranges that it would need.
        needed: u64,
        /// Most ranges that the device accepts.
        limit: u64,
    },
    /// A system call failed; `Unsupported` if such memory cannot be made.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl SourceError {
    /// Returns the reason why an arena with these free bytes cannot allocate `asked` bytes. If
    /// fewer bytes are free in total, it is out of memory.
    pub fn full(asked: u64, free: FreeBytes) -> Self {
        if free.total < asked {
            return io::Error::from_raw_os_error(libc::ENOMEM).into();
        }
        Self::Fragmented { asked, free: free.total, longest: free.largest }
    }

    /// Returns whether there is enough memory, but in ranges that are too short or too many.
    pub fn is_fragmentation(&self) -> bool {
        matches!(self, Self::Fragmented { .. } | Self::TooScattered { .. })
    }

    /// Returns whether memory is used up, not descriptors.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::System(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOSPC)))
    }

    /// Returns whether a limit of the process was reached, independently of a heap's room:
    /// descriptors, or the size of a file.
    pub fn is_beyond_process(&self) -> bool {
        matches!(self, Self::System(error) if error.kind() == io::ErrorKind::FileTooLarge
            || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)))
    }

    /// Returns whether memory, descriptors or kernel objects are used up, and nothing is broken:
    /// such a request may succeed later, or from another heap.
    pub fn is_exhaustion(&self) -> bool {
        match self {
            Self::System(error) => is_exhaustion(error),
            Self::Fragmented { .. } | Self::TooScattered { .. } => true,
        }
    }
}

/// Returns whether a system call failed because memory, descriptors or kernel objects are used up,
/// or because a file would exceed the process's limit of file sizes.
pub fn is_exhaustion(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
        || matches!(
            error.raw_os_error(),
            Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::EDQUOT)
        )
}
