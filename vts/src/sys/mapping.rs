// SPDX-License-Identifier: Apache-2.0
//! A shared mapping that is accessed only by words: other processes may change it at any time, so
//! no reference into it is created.

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect, munmap};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

/// Bytes of one word.
const WORD: usize = size_of::<u64>();

/// A `MAP_SHARED` mapping of a whole buffer.
///
/// Invariant: `base` is the start of one live mapping of `bytes` bytes made by [`Mapping::new`],
/// readable, writable if `writable`, and unmapped only by `drop`.
pub(crate) struct Mapping {
    base: NonNull<u64>,
    bytes: NonZeroUsize,
    writable: bool,
}

// SAFETY: the mapping belongs to the process, not to a thread, and all access is by volatile words.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the first `bytes` bytes for reading.
    ///
    /// # Errors
    /// The error of mmap; `EINVAL` for 0 bytes.
    pub(crate) fn read_only(fd: impl AsFd, bytes: u64) -> io::Result<Self> {
        Self::new(fd, bytes, false)
    }

    /// Maps the first `bytes` bytes for reading and writing.
    ///
    /// # Errors
    /// The error of mmap; `EINVAL` for 0 bytes.
    pub(crate) fn writable(fd: impl AsFd, bytes: u64) -> io::Result<Self> {
        Self::new(fd, bytes, true)
    }

    fn new(fd: impl AsFd, bytes: u64, writable: bool) -> io::Result<Self> {
        let bytes = usize::try_from(bytes)
            .ok()
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut protection = ProtFlags::PROT_READ;
        protection.set(ProtFlags::PROT_WRITE, writable);
        // SAFETY: the kernel chooses the address (no MAP_FIXED), so no existing mapping can be
        // replaced.
        let base = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { base: base.cast(), bytes, writable })
    }

    /// Returns the number of whole words.
    pub(crate) fn words(&self) -> usize {
        self.bytes.get() / WORD
    }

    /// Requests write access to the mapping from the kernel.
    ///
    /// # Errors
    /// The error of mprotect.
    pub(crate) fn make_writable(&mut self) -> io::Result<()> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the range is exactly this mapping, which stays readable; no reference into it
        // exists.
        unsafe { mprotect(self.base.cast(), self.bytes.get(), protection) }?;
        self.writable = true;
        Ok(())
    }

    /// Returns the word at `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Mapping::words`].
    pub(crate) fn load(&self, index: usize) -> u64 {
        assert!(index < self.words(), "word {index} of {}", self.words());
        // SAFETY: `index` is in bounds of the live mapping (checked above).
        let word = unsafe { self.base.add(index) };
        // SAFETY: `word` is aligned (the mapping starts at a page), in bounds, and readable. A file
        // whose size never changes cannot fault; if the service breaks that promise, SIGBUS ends
        // the test run, which is a failure.
        unsafe { word.read_volatile() }
    }

    /// Changes the word at `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Mapping::words`], or the mapping is read-only.
    pub(crate) fn store(&self, index: usize, value: u64) {
        assert!(self.writable, "the mapping is read-only");
        assert!(index < self.words(), "word {index} of {}", self.words());
        // SAFETY: `index` is in bounds of the live mapping (checked above).
        let word = unsafe { self.base.add(index) };
        // SAFETY: as in `load`; the mapping is writable (checked above), and no reference into it
        // exists.
        unsafe { word.write_volatile(value) }
    }

    /// Sets every word.
    ///
    /// # Panics
    /// If the mapping is read-only.
    pub(crate) fn fill(&self, value: u64) {
        for index in 0..self.words() {
            self.store(index, value);
        }
    }

    /// Puts words into a pipe without copying them: the pipe pins their pages, and its reader sees
    /// their contents at the time of the read. The pipe must have space.
    ///
    /// # Errors
    /// The error of vmsplice; `WriteZero` if only a part fitted.
    ///
    /// # Panics
    /// If the words are not all below [`Mapping::words`].
    pub(crate) fn pin(&self, words: Range<usize>, pipe: impl AsFd) -> io::Result<()> {
        assert!(words.start <= words.end && words.end <= self.words(), "words {words:?} of {}", self.words());
        // SAFETY: `words.start` is in bounds of the live mapping (checked above).
        let first = unsafe { self.base.add(words.start) };
        let pages = libc::iovec { iov_base: first.as_ptr().cast(), iov_len: words.len() * WORD };
        // SAFETY: `pages` lies inside the live mapping (checked above); the kernel takes references
        // to its pages, so that nothing depends on the mapping afterwards, and the descriptor is
        // open during the borrow.
        let spliced = unsafe { libc::vmsplice(pipe.as_fd().as_raw_fd(), &raw const pages, 1, 0) };
        match usize::try_from(spliced) {
            Err(_) => Err(io::Error::last_os_error()),
            Ok(bytes) if bytes < pages.iov_len => Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Returns the index of the first word that differs from `value`.
    pub(crate) fn first_other_than(&self, value: u64) -> Option<usize> {
        (0..self.words()).find(|index| self.load(*index) != value)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` made this mapping; after `drop` no code can reach it.
        let unmapped = unsafe { munmap(self.base.cast(), self.bytes.get()) };
        debug_assert!(unmapped.is_ok(), "munmap of an own mapping cannot fail: {unmapped:?}");
    }
}
