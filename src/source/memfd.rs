// SPDX-License-Identifier: Apache-2.0
//! Sealed memfds: shared memory on any Linux, without privilege.

use super::{Memory, Source};
use crate::sys::fd::{DescriptorDirectory, Inode, inode};
use crate::sys::lease::is_only_holder;
use crate::sys::memfd::MemfdFactory;
use crate::units::{Access, BackedBytes, Backing, PageSize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Name that maps of processes show for every buffer: `/memfd:anion`.
const FILE_NAME: &str = "anion";

/// Makes one memfd for each buffer.
#[derive(Debug)]
pub struct MemfdSource {
    factory: MemfdFactory,
    descriptors: Arc<DescriptorDirectory>,
    page: PageSize,
}

impl MemfdSource {
    /// # Errors
    /// If the kernel has no memfds, or /proc is not mounted.
    pub fn new(page: PageSize) -> io::Result<Self> {
        let descriptors = Arc::new(DescriptorDirectory::open()?);
        Ok(Self { factory: MemfdFactory::probe()?, descriptors, page })
    }
}

impl Source for MemfdSource {
    fn backing(&self) -> Backing {
        Backing::Memfd
    }

    fn max_alignment(&self) -> u64 {
        self.page.bytes()
    }

    fn create(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>> {
        let first = self.factory.create(FILE_NAME, bytes.get())?;
        // Leases count only descriptions that were opened through a path, so the first one is replaced.
        let fd = self.descriptors.reopen(&first, Access::ReadWrite)?;
        let inode = inode(&fd)?;
        Ok(Box::new(Memfd { fd, inode, descriptors: Arc::clone(&self.descriptors) }))
    }
}

struct Memfd {
    fd: OwnedFd,
    inode: Inode,
    descriptors: Arc<DescriptorDirectory>,
}

impl Memory for Memfd {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        self.descriptors.reopen(&self.fd, access)
    }

    fn inode(&self) -> Inode {
        self.inode
    }

    fn is_idle(&self) -> io::Result<bool> {
        is_only_holder(&self.fd)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
