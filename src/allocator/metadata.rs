// SPDX-License-Identifier: Apache-2.0
//! The metadata file of an image's buffer: shared memory that travels with the buffer, so that all
//! who have it read and write the same colour space and name.
//!
//! It is charged and watched together with its buffer: the buffer is released once both files are.
//! A client that keeps one of them keeps the charge of both, so all memory that the service made is
//! charged to an account. A metadata file is never pooled.

use super::Allocator;
use crate::source::Memory;
use crate::sys::inotify::Watch;
use crate::units::{Access, BackedBytes};
use nix::unistd::write;
use std::io;
use std::os::fd::OwnedFd;

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
    /// `None` where watches are used up.
    pub(super) watch: Option<Watch>,
}

impl MetadataFile {
    /// Returns whether only the service has it open, mapped or in flight. Never blocks.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(super) fn is_idle(&self) -> io::Result<bool> {
        self.memory.is_idle()
    }
}

impl Allocator {
    /// Makes one metadata file and opens it for the client. No seal can be added to it.
    ///
    /// # Errors
    /// If memory or descriptors run out.
    pub(super) fn make_metadata(&self, metadata: &Metadata) -> io::Result<(OwnedFd, MetadataFile)> {
        let file = self.machine.memfd.create_file(metadata.bytes, "anion:metadata")?;
        // To the service's own description: the client's begins at 0.
        if write(file.fd(), &metadata.initial)? != metadata.initial.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        file.close_seals()?;
        let (fd, watch) = (file.open(Access::ReadWrite)?, self.watch(file.as_ref())?);
        Ok((fd, MetadataFile { memory: file, watch }))
    }
}
