// SPDX-License-Identifier: Apache-2.0
//! One file whose ranges are the memory of buffers: its free ranges, and their pages.
//!
//! # Lock rules
//! The lock is a leaf around the pure [`Arena`]: no thread makes a system call while it holds it.

use super::{File, SourceError};
use crate::pool::{Arena, FreeBytes, Layout};
use crate::sys::map::SharedMap;
use crate::sys::memfd::{allocate_pages, has_pages, punch_pages};
use crate::sys::wipe::Wipe;
use crate::sys::{cgroup, memory};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// System calls of an arena, apart from those on files. All of them may block.
pub trait Pages: Send + Sync {
    /// Returns how many bytes could be set aside without taking memory from other processes.
    ///
    /// # Errors
    /// If the kernel does not answer.
    fn available(&self) -> io::Result<u64>;

    /// Allocates pages for a range of a file.
    ///
    /// # Errors
    /// `ENOMEM` or `ENOSPC` if there are not enough.
    fn allocate(&self, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()>;

    /// Returns the pages of a range to the kernel.
    ///
    /// # Errors
    /// As fallocate(2).
    fn punch(&self, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()>;
}

/// The running kernel's pages.
#[derive(Debug, Clone, Copy)]
pub struct KernelPages;

impl Pages for KernelPages {
    fn available(&self) -> io::Result<u64> {
        let machine = memory::available_bytes().or_else(|_| memory::free_bytes())?;
        Ok(cgroup::headroom().map_or(machine, |group| group.min(machine)))
    }

    fn allocate(&self, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
        allocate_pages(file, range)
    }

    fn punch(&self, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
        punch_pages(file, range)
    }
}

/// A file and its free ranges.
pub struct ArenaFile {
    file: Box<dyn File>,
    bytes: u64,
    pages: Arc<dyn Pages>,
    /// A mapping of the whole file, made when a range is first cleaned, and kept. The lock is a
    /// leaf, and no thread makes a system call while it holds it.
    mapping: Mutex<Option<Arc<SharedMap>>>,
    arena: Mutex<Arena>,
}

impl ArenaFile {
    /// Wraps a file of `bytes` bytes, all of which are free.
    pub(super) fn new(file: Box<dyn File>, bytes: u64, layout: Layout, pages: Arc<dyn Pages>) -> Self {
        let arena = Mutex::new(Arena::new(bytes, layout));
        Self { file, bytes, pages, mapping: Mutex::default(), arena }
    }

    fn arena(&self) -> MutexGuard<'_, Arena> {
        self.arena.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.fd()
    }

    pub(super) fn pages(&self) -> &dyn Pages {
        self.pages.as_ref()
    }

    /// Returns a copy of the free ranges. The time it takes is proportional to their number.
    pub fn picture(&self) -> Arena {
        self.arena().clone()
    }

    /// Returns how many bytes are free now.
    pub fn free_bytes(&self) -> FreeBytes {
        self.arena().free_bytes()
    }

    /// Takes free ranges, according to the layout.
    ///
    /// # Errors
    /// As [`SourceError::full`].
    pub(super) fn take(&self, bytes: u64) -> Result<Vec<Range<u64>>, SourceError> {
        let mut arena = self.arena();
        arena.allocate(bytes).ok_or_else(|| SourceError::full(bytes, arena.free_bytes()))
    }

    /// Frees a range that was taken, or a part of one.
    pub(super) fn free(&self, range: Range<u64>) {
        let was_taken = self.arena().free(range);
        debug_assert!(was_taken, "a range is given back once");
    }

    /// Allocates pages for a range.
    ///
    /// # Errors
    /// `ENOMEM` or `ENOSPC` if there are not enough.
    pub(super) fn allocate_pages(&self, range: Range<u64>) -> io::Result<()> {
        self.pages.allocate(self.fd(), range)
    }

    /// Returns the pages of a range to the kernel.
    ///
    /// # Errors
    /// As fallocate(2).
    pub(super) fn punch_pages(&self, range: Range<u64>) -> io::Result<()> {
        self.pages.punch(self.fd(), range)
    }

    /// Returns pages that a client has held, and may have pinned, to the kernel: the next user of
    /// the range gets other pages.
    ///
    /// # Errors
    /// As [`ArenaFile::punch_pages`]; `EBUSY` if a page stays in the file.
    pub(super) fn expel_pages(&self, range: Range<u64>) -> io::Result<()> {
        self.punch_pages(range.clone())?;
        if has_pages(self.fd(), range)? { Err(io::Error::from_raw_os_error(libc::EBUSY)) } else { Ok(()) }
    }

    fn mapping(&self) -> MutexGuard<'_, Option<Arc<SharedMap>>> {
        self.mapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares setting ranges to zero. Their pages must be present: a missing page would end the
    /// process.
    ///
    /// # Errors
    /// If the file cannot be mapped.
    pub(super) fn wipe(&self, ranges: &[Range<u64>]) -> io::Result<Wipe> {
        let bytes = |count| usize::try_from(count).map_err(io::Error::other);
        let kept = self.mapping().clone();
        let mapping = match kept {
            Some(mapping) => mapping,
            None => {
                let made = Arc::new(SharedMap::sparse(self.fd(), bytes(self.bytes)?)?);
                // If two threads make one at once, one mapping is used by this call only.
                Arc::clone(self.mapping().get_or_insert(made))
            }
        };
        let part = |range: &Range<u64>| Ok((Arc::clone(&mapping), bytes(range.start)?..bytes(range.end)?));
        Ok(Wipe::new(ranges.iter().map(part).collect::<io::Result<_>>()?))
    }

    /// Makes the next [`ArenaFile::wipe`] map the file again. Running wipes keep their mapping.
    pub(super) fn forget_mapping(&self) {
        let before = self.mapping().take();
        drop(before);
    }
}
