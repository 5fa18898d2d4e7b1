// SPDX-License-Identifier: Apache-2.0
//! The metadata file of an image's buffer: shared memory that travels with the buffer, so that all
//! who have it read and write the same colour space and name.
//!
//! It is charged with its buffer, and the buffer is released once both files are. A client that
//! keeps one of them keeps the charge of both, so all memory that the service made is charged to an
//! account. A metadata file is never pooled.
//!
//! Clients nearly always close both files together. So the service watches closes of the metadata
//! file from the beginning only if it cannot watch those of the buffer; otherwise it begins when the
//! buffer has no holder left but the metadata file has.

use super::Allocator;
use crate::ledger::Claim;
use crate::source::Memory;
use crate::sys::inotify::Watch;
use crate::units::{Access, BackedBytes, BufferId};
use nix::unistd::write;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::Instant;

/// The content of a request's metadata files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Graphic {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Value of Android's `PixelFormat`, as asked.
    pub format: i32,
    /// Bits of Android's `BufferUsage`, as asked.
    pub usage: u64,
}

/// Metadata that a request wants with each of its buffers.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// For dumps.
    pub graphic: Graphic,
    /// Size of the file: whole pages.
    pub bytes: BackedBytes,
    /// The first bytes of the file; the rest is zero.
    pub initial: Vec<u8>,
}

/// The metadata file of a live buffer.
pub(super) struct MetadataFile {
    memory: Box<dyn Memory>,
    /// Empty unless its closes are watched.
    watch: OnceLock<Watch>,
}

impl MetadataFile {
    /// Returns whether only the service has it open, mapped or in flight. Never blocks.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(super) fn is_idle(&self) -> io::Result<bool> {
        self.memory.is_idle()
    }

    /// Returns the watch for its closes, if there is one.
    pub(super) fn watch(&self) -> Option<Watch> {
        self.watch.get().copied()
    }
}

impl Allocator {
    /// Makes one metadata file and opens it for the client. No seal can be added to it. Its closes
    /// are watched if `is_watched`.
    ///
    /// # Errors
    /// If memory or descriptors run out.
    pub(super) fn make_metadata(
        &self,
        metadata: &Metadata,
        is_watched: bool,
    ) -> io::Result<(OwnedFd, MetadataFile)> {
        let file = self.machine.memfd.create_file(metadata.bytes, "anion:metadata")?;
        // To the service's own description: the client's begins at 0.
        if write(file.fd(), &metadata.initial)? != metadata.initial.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        file.close_seals()?;
        let fd = file.open(Access::ReadWrite)?;
        let watch = if is_watched { self.watch(file.as_ref())? } else { None };
        Ok((fd, MetadataFile { memory: file, watch: watch.map_or_else(OnceLock::new, OnceLock::from) }))
    }

    /// Returns whether nobody else holds the metadata file of a buffer that is released itself. If
    /// somebody does, its closes are watched from now on.
    ///
    /// # Errors
    /// If the kernel does not tell, or memory runs out.
    pub(super) fn is_metadata_released(
        &self,
        id: BufferId,
        claim: &Claim,
        metadata: &MetadataFile,
    ) -> io::Result<bool> {
        if metadata.is_idle()? {
            return Ok(true);
        }
        if metadata.watch().is_some() {
            return Ok(false);
        }
        match self.watch(metadata.memory.as_ref())? {
            Some(watch) => self.registry().watch_metadata(id, *metadata.watch.get_or_init(|| watch)),
            None => self.liveness.unwatched(claim.uid, &[id], claim.bytes.get(), Instant::now()),
        }
        // It may have been closed before it was watched.
        metadata.is_idle()
    }
}
