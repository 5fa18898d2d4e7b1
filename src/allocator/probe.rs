// SPDX-License-Identifier: Apache-2.0
//! Proof, with a buffer of our own, that this kernel reports releases of files as the service relies on. Sources of dma-bufs
//! prove their own, one page each, when they are connected (`source/dma_buf.rs`).

use crate::source::{FileSource, ReleaseMechanism, Source, is_exhaustion};
use crate::sys::inotify::CloseWatcher;
use crate::units::{Access, RequestedBytes};
use anyhow::{Context, bail, ensure};
use std::io;
use std::sync::Arc;

/// Allocates, hands out to ourselves, lets go, and looks whether both signs appear.
///
/// # Errors
/// If one does not. The service could not keep its books then.
pub(super) fn prove_release(source: &dyn Source, watcher: &CloseWatcher) -> anyhow::Result<ReleaseMechanism> {
    let bytes = RequestedBytes(1).round_up(source.granule())?;
    let memory = source.create(bytes).context("creating a buffer to prove releases with")?;
    let asking = "asking for a lease (is fs.leases-enable 0?)";
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

/// A source that a heap may do without: kept if releases of its buffers are reported, too. One that has nothing left at
/// the moment cannot be asked and is kept; its files are of the same kind as those that could.
pub(super) fn proven(
    source: Result<Arc<dyn FileSource>, String>,
    watcher: &CloseWatcher,
) -> Result<Arc<dyn FileSource>, String> {
    let source = source?;
    match prove_release(source.as_ref(), watcher) {
        Ok(_) => Ok(source),
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_exhaustion) => Ok(source),
        Err(error) => Err(format!("its releases cannot be relied on: {error:#}")),
    }
}
