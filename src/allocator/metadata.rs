// SPDX-License-Identifier: Apache-2.0
//! The metadata file of an image's buffer: shared memory beside the buffer, so that all holders
//! read and write the same colour space and name.
//!
//! It is charged with its buffer, and the buffer is released once both files are. A client that
//! keeps one of them stays charged for both, so all memory that the service made is charged to an
//! account. A file without a reserved region is kept for the next image of the same trust domain
//! ([`super::spare`]), and is overwritten completely before that.
//!
//! Clients nearly always close both files together. So the service watches the metadata file for
//! closes from the beginning only if it cannot watch the buffer. Otherwise it begins when the
//! buffer has no holder left but the metadata file has one.

use super::{Allocator, PressureLevel};
use crate::ledger::Claim;
use crate::pool::TrustDomain;
use crate::source::File;
use crate::sys::clock::since_boot;
use crate::sys::inotify::Watch;
use crate::units::{Access, BackedBytes, BufferId};
use nix::unistd::{Whence, lseek, write};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Instant;

/// Bytes of the largest file that is kept for another buffer. Files with a reserved region are
/// larger.
const LARGEST_KEPT: u64 = 64 << 10;

/// The content of a request's metadata files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Graphic {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Value of Android's `PixelFormat`, as requested.
    pub format: i32,
    /// Bits of Android's `BufferUsage`, as requested.
    pub usage: u64,
}

/// Metadata that a request needs with each of its buffers.
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
    memory: Box<dyn File>,
    /// Its size.
    pub(super) bytes: u64,
    /// Empty unless its closes are watched.
    watch: OnceLock<Watch>,
}

impl MetadataFile {
    /// Wraps a file, and the watch for its closes if it has one.
    pub(super) fn new(memory: Box<dyn File>, bytes: BackedBytes, watch: Option<Watch>) -> Self {
        Self { memory, bytes: bytes.get(), watch: watch.map_or_else(OnceLock::new, OnceLock::from) }
    }

    /// Opens it for a client or another service.
    ///
    /// # Errors
    /// If descriptors run out.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        self.memory.open(Access::ReadWrite)
    }

    /// Returns whether only the service has it open, mapped or in flight. Never blocks.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub(super) fn is_idle(&self) -> io::Result<bool> {
        self.memory.is_idle()
    }

    /// Returns the watch for its closes, if it has one.
    pub(super) fn watch(&self) -> Option<Watch> {
        self.watch.get().copied()
    }
}

impl Allocator {
    /// Returns one metadata file, kept for the trust domain or new, and opens it for the client. No
    /// seal can be added to it. Its closes are watched if `is_watched`.
    ///
    /// # Errors
    /// If memory or descriptors run out.
    pub(super) fn metadata_file(
        &self,
        metadata: &Metadata,
        domain: &TrustDomain,
        is_watched: bool,
    ) -> io::Result<(OwnedFd, MetadataFile)> {
        let spare = self.spare_metadata.take(domain, metadata.bytes.get());
        // A client may have opened it again since its release, and may write to it.
        let file = match spare.filter(|spare| spare.is_idle().unwrap_or(false)) {
            Some(spare) => {
                lseek(spare.memory.fd(), 0, Whence::SeekSet)?;
                let mut whole = metadata.initial.clone();
                whole.resize(usize::try_from(spare.bytes).map_err(io::Error::other)?, 0);
                begin_with(spare.memory.fd(), &whole)?;
                spare
            }
            None => self.make_metadata(metadata)?,
        };
        let fd = file.open()?;
        if is_watched
            && file.watch().is_none()
            && let Some(watch) = self.watch(file.memory.as_ref())?
        {
            file.watch.get_or_init(|| watch);
        }
        Ok((fd, file))
    }

    /// Makes one metadata file.
    fn make_metadata(&self, metadata: &Metadata) -> io::Result<MetadataFile> {
        let memory = self.machine.memfd.create_file(metadata.bytes, "anion:metadata")?;
        begin_with(memory.fd(), &metadata.initial)?;
        memory.close_seals()?;
        Ok(MetadataFile::new(memory, metadata.bytes, None))
    }

    /// Keeps a metadata file, which a client of `domain` has released, for the next image of this
    /// domain.
    pub(super) fn keep_metadata(&self, domain: TrustDomain, file: MetadataFile) {
        if file.bytes <= LARGEST_KEPT && self.pressure() == PressureLevel::None {
            self.spare_metadata.put(domain, file, since_boot());
            self.shrinker.wake();
        }
    }

    /// Returns whether only the service holds the metadata file of a released buffer. If another
    /// process holds it, the service watches it for closes from now on.
    ///
    /// # Errors
    /// If the kernel does not answer, or memory runs out.
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
        // It may have been closed before the watch.
        metadata.is_idle()
    }
}

/// Writes all of `bytes` through the service's own description: the client's offset stays 0.
fn begin_with(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    if write(fd, bytes)? == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}
