// SPDX-License-Identifier: Apache-2.0
//! How releases are noticed.

use crate::units::Backing;

/// How the service learns that nobody holds a buffer any more. From the best to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReleaseMechanism {
    /// The kernel reports the last close, and a lease confirms it.
    CloseEvents,
    /// Leases are asked now and then: there are no watches left.
    Leases,
    /// The kernel counts references, and is asked now and then.
    ReferenceCounts,
    /// The kernel does not tell; the owner gives up the token that stands for the buffer.
    Token,
}

impl ReleaseMechanism {
    /// That of a kind of buffer, where the kernel's watches are not used up.
    pub fn of(backing: Backing) -> Self {
        match backing {
            Backing::Memfd | Backing::Hugetlb => Self::CloseEvents,
            Backing::Udmabuf | Backing::DmaHeap | Backing::Ion => Self::ReferenceCounts,
            Backing::Ashmem => Self::Token,
        }
    }

    /// In words, for logs and dumps.
    pub fn describe(self) -> &'static str {
        match self {
            Self::CloseEvents => "inotify close events, confirmed by lease",
            Self::Leases => "leases, polled: inotify watches are used up (fs.inotify.max_user_watches)",
            Self::ReferenceCounts => "reference counts in fdinfo, polled",
            Self::Token => "the owner's token",
        }
    }
}
