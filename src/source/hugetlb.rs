// SPDX-License-Identifier: Apache-2.0
//! Sealed memfds of huge pages, which the administrator set aside. Each page is one physical piece, aligned to its
//! size, and takes one entry of a page table.
//!
//! A buffer's pages are allocated with it, so that a client that touches one never finds that there is none; they are
//! zeroed then and there. Clients map such a file as any other; the length of a mapping is in whole huge pages, and
//! write(2) does not work on it.

use super::memfd::MemfdSource;
use super::{File, FileSource, Memory, Source, Unfit};
use crate::sys::fd::{Inode, resident_bytes};
use crate::sys::inotify::{CloseWatcher, Watch};
use crate::sys::memfd::{MemfdFactory, allocate_pages};
use crate::sys::memory::{HugePages, huge_pages};
use crate::sys::wipe::Wipe;
use crate::units::{Access, BackedBytes, Backing, PageSize};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Makes one memfd of huge pages for each buffer.
#[derive(Debug)]
pub struct HugetlbSource {
    files: MemfdSource,
    page: PageSize,
}

/// Why the machine gives no huge pages.
#[derive(Debug, thiserror::Error)]
pub enum NoHugePages {
    /// The kernel was built without them.
    #[error("the kernel has no huge pages")]
    Unknown,
    /// Nobody set any aside.
    #[error(
        "no huge pages are set aside; as root, echo 64 > /proc/sys/vm/nr_hugepages sets 64 of {0} bytes aside"
    )]
    Off(u64),
    /// The kernel does not give them.
    #[error("huge pages cannot be used")]
    Kernel(#[from] io::Error),
}

impl HugetlbSource {
    /// # Errors
    /// If the machine has no huge pages and never makes any, as it is set up now.
    pub fn connect() -> Result<Self, NoHugePages> {
        let huge = huge_pages()?.ok_or(NoHugePages::Unknown)?;
        Self::of(&huge)
    }

    fn of(huge: &HugePages) -> Result<Self, NoHugePages> {
        if !huge.are_on() {
            return Err(NoHugePages::Off(huge.bytes));
        }
        let page = PageSize::new(huge.bytes).map_err(io::Error::other)?;
        let files = MemfdSource::with(MemfdFactory::probe_huge()?, page, Backing::Hugetlb)?;
        Ok(Self { files, page })
    }
}

impl Source for HugetlbSource {
    fn backing(&self) -> Backing {
        Backing::Hugetlb
    }

    fn max_alignment(&self) -> u64 {
        self.page.bytes()
    }

    fn is_machine_memory(&self) -> bool {
        false
    }

    fn create(&self, bytes: BackedBytes) -> io::Result<Box<dyn Memory>> {
        Ok(self.create_file(bytes)?)
    }
}

impl FileSource for HugetlbSource {
    fn create_file(&self, bytes: BackedBytes) -> io::Result<Box<dyn File>> {
        let file = self.files.create_file(bytes)?;
        allocate_pages(file.fd(), 0..bytes.get())?;
        Ok(Box::new(Populated { file, bytes: bytes.get() }))
    }
}

/// A file all of whose pages were allocated with it.
pub(super) struct Populated {
    pub(super) file: Box<dyn File>,
    pub(super) bytes: u64,
}

impl Memory for Populated {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        self.file.open(access)
    }

    fn backing(&self) -> Backing {
        self.file.backing()
    }

    fn inode(&self) -> Inode {
        self.file.inode()
    }

    fn is_idle(&self) -> io::Result<bool> {
        self.file.is_idle()
    }

    fn watch(&self, watcher: &CloseWatcher) -> io::Result<Option<Watch>> {
        self.file.watch(watcher)
    }

    /// Not if a client gave pages back: its next owner could find that there are none.
    fn worth_keeping(&self) -> Result<(), Unfit> {
        if resident_bytes(self.fd()).is_ok_and(|resident| resident >= self.bytes) {
            self.file.worth_keeping()
        } else {
            Err(Unfit::Untouched)
        }
    }

    fn populate(&self) -> io::Result<()> {
        self.file.populate()
    }

    fn wipe(&self) -> io::Result<Wipe> {
        self.file.wipe()
    }

    fn forget_mapping(&self) {
        self.file.forget_mapping();
    }

    fn cleaned(&self) {
        self.file.cleaned();
    }
}

impl File for Populated {
    fn fd(&self) -> BorrowedFd<'_> {
        self.file.fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_huge_pages_says_how_to_get_them() {
        let off = HugePages { bytes: 32 << 20, total: 0, free: 0, overcommit: 0 };
        let why = HugetlbSource::of(&off).expect_err("off").to_string();
        assert!(why.contains("/proc/sys/vm/nr_hugepages") && why.contains("33554432"), "{why}");
    }
}
