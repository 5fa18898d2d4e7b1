// SPDX-License-Identifier: Apache-2.0
//! Causes for which released memory is not pooled.

use crate::source::Unfit;

/// A cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// It made room for a newer one in a full pool, or as much waited to be scrubbed as the pool
    /// could take.
    Full,
    /// Memory was scarce.
    Scarce,
    /// Another process had opened the file again, or a device still used it.
    Busy,
    /// A client had added a seal.
    Sealed,
    /// Most of it was never touched.
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

/// Buffers by [`Discard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Discards([u64; 6]);

impl Discards {
    pub(super) fn count(&mut self, cause: Discard) {
        self.0[cause as usize] += 1;
    }

    /// Returns those of one cause.
    pub fn of(&self, cause: Discard) -> u64 {
        self.0[cause as usize]
    }

    /// Returns all of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
