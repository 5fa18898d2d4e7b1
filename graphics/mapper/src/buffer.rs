// SPDX-License-Identifier: Apache-2.0
//! Imports buffers.

use crate::error::Error;
use crate::file::examine;
use crate::page::Page;
use anion_handle::Handle;
use anion_memory::dma_buf::CpuAccess;
use anion_memory::map::SharedMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, OnceLock};

/// An imported buffer. Each import of a buffer creates another one.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) handle: Handle,
    /// The file of the pixels, then that of the metadata.
    pub(crate) fds: [OwnedFd; 2],
    pub(crate) page: Page,
    /// The pixels, from the first lock on.
    pub(crate) pixels: OnceLock<SharedMap>,
    /// The access of each lock that is still held.
    pub(crate) locks: Mutex<Vec<CpuAccess>>,
}

impl Buffer {
    /// Imports a handle: copies its descriptors, and maps its metadata.
    ///
    /// # Errors
    /// `BadBuffer` if the handle is not Anion's, is not consistent or does not fit its files;
    /// `NoResources` if no descriptors or address space are left. No resource stays allocated after
    /// a failure.
    pub(crate) fn import(fds: [BorrowedFd<'_>; 2], ints: &[i32]) -> Result<Self, Error> {
        let handle = Handle::parse(ints)?;
        let fds = [fds[0].try_clone_to_owned()?, fds[1].try_clone_to_owned()?];
        handle.check(&examine(&fds[0])?, &examine(&fds[1])?)?;
        let page = Page::map(&fds[1], handle.request().reserved_size)?;
        Ok(Self { handle, fds, page, pixels: OnceLock::new(), locks: Mutex::default() })
    }

    /// Returns the descriptor of the pixels.
    pub(crate) fn pixels_fd(&self) -> BorrowedFd<'_> {
        self.fds[0].as_fd()
    }
}
