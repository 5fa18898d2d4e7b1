// SPDX-License-Identifier: Apache-2.0
//! The reasons for not pooling released memory.

use crate::source::Unfit;

/// The reason for not pooling a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// A full pool evicted it for a newer buffer, or the pool had as many bytes to scrub as it can
    /// hold.
    Full,
    /// Memory was scarce.
    Scarce,
    /// Another process had opened the file again, or a device still used it.
    Busy,
    /// A client had added a seal.
    Sealed,
    /// A client had touched little of it.
    Untouched,
    /// It could not be scrubbed.
    ScrubFailed,
}

impl From<Unfit> for Discard {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Sealed => Self::Sealed,
            Unfit::FencesPending => Self::Busy,
            Unfit::Untouched | Unfit::Kernels => Self::Untouched,
        }
    }
}

/// Number of buffers for each [`Discard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Discards([u64; 6]);

impl Discards {
    pub(super) fn count(&mut self, cause: Discard) {
        self.0[cause as usize] += 1;
    }

    /// Returns the number for one cause.
    pub fn of(&self, cause: Discard) -> u64 {
        self.0[cause as usize]
    }

    /// Returns the number for all causes.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
