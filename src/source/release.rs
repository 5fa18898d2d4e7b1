// SPDX-License-Identifier: Apache-2.0
//! How releases are noticed, and proof, with a buffer of the service's own, that this kernel
//! reports those of files as the service relies on. Sources of dma-bufs prove their own, one page
//! each, when they are connected (`dma_buf.rs`).

use super::{FileSource, is_exhaustion};
use crate::sys::inotify::CloseWatcher;
use crate::units::{Access, Backing, RequestedBytes};
use anyhow::{Context, bail, ensure};
use std::io;

/// How the service learns that a buffer has no holder any more. From the best to the least.
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
    /// Returns that of a kind of buffer, where the kernel's watches are not used up.
    pub fn of(backing: Backing) -> Self {
        match backing {
            Backing::Memfd | Backing::Hugetlb => Self::CloseEvents,
            Backing::Udmabuf | Backing::DmaHeap | Backing::Ion => Self::ReferenceCounts,
            Backing::Ashmem => Self::Token,
        }
    }

    /// Returns it in words, for logs and dumps.
    pub fn describe(self) -> &'static str {
        match self {
            Self::CloseEvents => "inotify close events, confirmed by lease",
            Self::Leases => "leases, polled: inotify watches are used up (fs.inotify.max_user_watches)",
            Self::ReferenceCounts => "reference counts in fdinfo, polled",
            Self::Token => "the owner's token",
        }
    }
}

/// Makes a file, opens it again as a client would, closes that, and checks whether both signs
/// appear.
///
/// # Errors
/// If one does not. The service could not keep its books then.
pub fn prove_release(files: &dyn FileSource, watcher: &CloseWatcher) -> anyhow::Result<ReleaseMechanism> {
    let bytes = RequestedBytes(1).round_up(files.capabilities().granularity)?;
    let memory = files.create_file(bytes).context("creating a buffer to prove releases with")?;
    let asking = "asking for a lease (there is none if fs.leases-enable is 0, nor, from Linux 7, on files of huge pages)";
    ensure!(memory.is_idle().context(asking)?, "a buffer that nobody else holds is reported as held");
    let watch = match memory.watch(watcher) {
        Ok(Some(watch)) => watch,
        Ok(None) => bail!("its files are not watched"),
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
            return Ok(ReleaseMechanism::Leases);
        }
        Err(error) => return Err(error).context("watching a buffer"),
    };
    let client = memory.open(Access::ReadOnly).context("opening a buffer again")?;
    ensure!(!memory.is_idle().context(asking)?, "a buffer that a client holds is reported as idle");
    drop(client);
    let closes = watcher.closes().context("reading close events")?;
    ensure!(closes.watches.contains(&watch), "the kernel does not report the last close of a buffer");
    ensure!(memory.is_idle().context(asking)?, "a buffer that was closed is reported as held");
    Ok(ReleaseMechanism::CloseEvents)
}

/// Does the same as [`prove_release`], for a source that heaps may do without. One that has nothing
/// left at the moment cannot be asked, and passes: its files are of the same kind as others.
///
/// # Errors
/// Why its releases cannot be relied on.
pub fn prove_optional(files: &dyn FileSource, watcher: &CloseWatcher) -> Result<(), String> {
    match prove_release(files, watcher) {
        Err(error) if !error.downcast_ref::<io::Error>().is_some_and(is_exhaustion) => {
            Err(format!("its releases cannot be relied on: {error:#}"))
        }
        _ => Ok(()),
    }
}
