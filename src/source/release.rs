// SPDX-License-Identifier: Apache-2.0
//! Release mechanisms of files, and a test that this kernel reports releases as the service needs,
//! with a buffer of the service. Sources of dma-bufs test their own mechanism with one page each
//! when they are opened (`dma_buf.rs`).

use super::{FileSource, is_exhaustion};
use crate::sys::inotify::CloseWatcher;
use crate::units::{Access, Backing, Invalid, RequestedBytes};
use std::io;

/// Name of a file that tests the kernel's behaviour.
pub(super) const PROOF: &str = "anion:proof";

/// How the service detects that a buffer has no holder. The first value is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReleaseMechanism {
    /// The kernel reports the last close, and a lease confirms it.
    CloseEvents,
    /// Leases are polled, because no watches are left.
    Leases,
    /// The kernel counts references, and the count is polled.
    ReferenceCounts,
    /// The kernel does not report it; the owner drops the buffer's token.
    Token,
}

impl ReleaseMechanism {
    /// Returns the mechanism of a kind of buffer while watches are left.
    pub fn of(backing: Backing) -> Self {
        match backing {
            Backing::Memfd | Backing::Hugetlb => Self::CloseEvents,
            Backing::Udmabuf | Backing::DmaHeap | Backing::Ion => Self::ReferenceCounts,
            Backing::Ashmem => Self::Token,
        }
    }

    /// Returns its description, for logs and dumps.
    pub fn describe(self) -> &'static str {
        match self {
            Self::CloseEvents => "inotify close events, confirmed by lease",
            Self::Leases => {
                "leases, polled: inotify's watches or queues are used up (fs.inotify.max_user_watches, max_user_instances)"
            }
            Self::ReferenceCounts => "reference counts in fdinfo, polled",
            Self::Token => "the owner's token",
        }
    }
}

/// Reason why the releases of a kind of file cannot be detected.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Files of this granularity have no valid smallest size.
    #[error(transparent)]
    Size(#[from] Invalid),
    /// The test could not run.
    #[error("{doing}")]
    Kernel {
        /// The failed test.
        doing: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// Such files have no close events.
    #[error("its files are not watched")]
    NotWatched,
    /// The lease is refused although there is no other holder.
    #[error("a buffer that no other process holds is reported as held")]
    HeldByNone,
    /// The lease is granted although there is another holder.
    #[error("a buffer that a client holds is reported as idle")]
    IdleThoughHeld,
    /// inotify reports no close event.
    #[error("the kernel does not report the last close of a buffer")]
    NoCloseEvent,
    /// The lease is refused after the last close.
    #[error("a buffer that was closed is reported as held")]
    HeldThoughClosed,
}

/// Makes a file, opens it again as a client would, closes that descriptor, and checks whether both
/// the event and the lease show it.
///
/// # Errors
/// If one does not. The service could not account for buffers then.
pub fn prove_release(
    files: &dyn FileSource,
    watcher: &CloseWatcher,
) -> Result<ReleaseMechanism, ReleaseError> {
    let doing = |doing| move |source| ReleaseError::Kernel { doing, source };
    let bytes = RequestedBytes(1).round_up(files.capabilities().granularity)?;
    let memory =
        files.create_file(bytes, PROOF).map_err(doing("creating a buffer to prove releases with"))?;
    let is_idle = || memory.is_idle().map_err(doing(ASKING));
    if !is_idle()? {
        return Err(ReleaseError::HeldByNone);
    }
    let watch = match memory.watch(watcher) {
        Ok(watch) => watch.ok_or(ReleaseError::NotWatched)?,
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
            return Ok(ReleaseMechanism::Leases);
        }
        Err(error) => return Err(doing("watching a buffer")(error)),
    };
    let client = memory.open(Access::ReadOnly).map_err(doing("opening a buffer again"))?;
    if is_idle()? {
        return Err(ReleaseError::IdleThoughHeld);
    }
    drop(client);
    let closes = watcher.closes().map_err(doing("reading close events"))?;
    if !closes.watches.contains(&watch) {
        return Err(ReleaseError::NoCloseEvent);
    }
    if !is_idle()? {
        return Err(ReleaseError::HeldThoughClosed);
    }
    Ok(ReleaseMechanism::CloseEvents)
}

const ASKING: &str = "asking for a lease (there is none if fs.leases-enable is 0, nor, from Linux 7, on files \
                      of huge pages)";

/// Does the same as [`prove_release`], for an optional source. A source without free memory cannot
/// be tested, and passes: its files are of the same kind as others.
///
/// # Errors
/// The reason if its releases cannot be detected.
pub fn prove_optional(files: &dyn FileSource, watcher: &CloseWatcher) -> Result<(), ReleaseError> {
    match prove_release(files, watcher) {
        Err(ReleaseError::Kernel { source, .. }) if is_exhaustion(&source) => Ok(()),
        proved => proved.map(drop),
    }
}
