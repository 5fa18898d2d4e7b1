// SPDX-License-Identifier: Apache-2.0
//! Maps shared memory.
//!
//! Other processes may write to a shared mapping at any moment, so no code makes a reference into
//! it: every access is a volatile load or store of a plain integer through a raw pointer, and data
//! is copied in and out.

#[cfg(test)]
pub(crate) mod tests;

use crate::Access;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use nix::sys::stat::SFlag;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// Bytes of one access if alignment permits.
const WORD: usize = size_of::<u64>();
/// Smallest mapping for which huge pages are requested: on no machine is a huge page smaller.
const LARGE: usize = 2 << 20;

/// A shared mapping of the start of a file.
///
/// Invariant: `base..base + mapped` is one live mapping, page-aligned, made by [`SharedMap::new`]
/// or a similar function and unmapped only by `drop`; it is readable, and writable if `writable`.
/// `len` is at most `mapped` and within the file.
#[derive(Debug)]
pub struct SharedMap {
    base: NonNull<u8>,
    len: usize,
    /// `len` rounded up to whole pages of the file: huge ones can only be unmapped whole.
    mapped: usize,
    writable: bool,
}

// SAFETY: the mapping belongs to the process, not to a thread, and every access is a volatile
// operation on an integer, for which concurrent use means stale or torn data, as with other
// processes.
unsafe impl Send for SharedMap {}
// SAFETY: as above.
unsafe impl Sync for SharedMap {}

impl SharedMap {
    /// Makes a shared mapping of the first `bytes` bytes of `fd`, and makes its pages present at
    /// once.
    ///
    /// Touching a page beyond the end of a file raises `SIGBUS`; Anion's buffers are sealed against
    /// shrinking.
    ///
    /// # Errors
    /// `InvalidInput` if `bytes` is 0 or beyond the end of the file; `EACCES` if the descriptor
    /// does not permit `access`; `ENOMEM` if the address space is full.
    pub fn new(fd: impl AsFd, bytes: usize, access: Access) -> io::Result<Self> {
        Self::with_flags(fd, bytes, access, MapFlags::MAP_POPULATE)
    }

    /// Makes a shared, writable mapping of all `bytes` bytes of a zeroed file, and makes its pages
    /// present: huge ones for a large file, if the machine permits them for shared memory.
    ///
    /// # Errors
    /// As [`SharedMap::new`]; if memory runs out and the kernel reports it instead of killing the
    /// process (Linux 5.14).
    pub fn populated(fd: impl AsFd, bytes: usize) -> io::Result<Self> {
        let map = Self::with_flags(fd, bytes, Access::ReadWrite, MapFlags::empty())?;
        if bytes >= LARGE {
            // Optional: a kernel without huge pages for shared memory refuses or ignores it.
            let _ = map.advise(0, bytes, libc::MADV_HUGEPAGE);
        }
        match map.prefault(0, bytes) {
            Ok(()) => {}
            // For older kernels. The file is zero, so writing zeros changes nothing.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => map.fill(0)?,
            Err(error) => return Err(error),
        }
        Ok(map)
    }

    /// Makes a shared, writable mapping of the first `bytes` bytes of `fd`. The first access makes
    /// each page present, so files with holes keep them.
    ///
    /// # Errors
    /// Those of [`SharedMap::new`].
    pub fn sparse(fd: impl AsFd, bytes: usize) -> io::Result<Self> {
        Self::with_flags(fd, bytes, Access::ReadWrite, MapFlags::empty())
    }

    fn with_flags(fd: impl AsFd, bytes: usize, access: Access, flags: MapFlags) -> io::Result<Self> {
        let stat = nix::sys::stat::fstat(&fd)?;
        let size = stat.st_size;
        // Other files, such as an ashmem region or an old kernel's dma-buf, do not report their
        // size here; their drivers refuse to map more.
        let tells_size = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        // The block size of a file of huge pages is the size of such a page.
        let block = usize::try_from(stat.st_blksize).unwrap_or(1).max(1);
        let length = NonZeroUsize::new(bytes)
            .filter(|bytes| !tells_size || usize::try_from(size).is_ok_and(|size| bytes.get() <= size))
            .and_then(|bytes| bytes.get().checked_next_multiple_of(block))
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("mapping length is {bytes}, but the file has {size} bytes"),
                )
            })?;
        let writable = access == Access::ReadWrite;
        let protection =
            if writable { ProtFlags::PROT_READ | ProtFlags::PROT_WRITE } else { ProtFlags::PROT_READ };
        // SAFETY: the call passes no address and no MAP_FIXED, so no existing mapping can be
        // replaced; the result is used only if the call succeeded.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED | flags, fd, 0) }?;
        Ok(Self { base: base.cast(), len: bytes, mapped: length.get(), writable })
    }

    /// Calls madvise(2) for a range, with advice that changes no content.
    fn advise(&self, offset: usize, len: usize, advice: libc::c_int) -> io::Result<()> {
        debug_assert!([libc::MADV_HUGEPAGE, libc::MADV_POPULATE_WRITE].contains(&advice));
        self.check(offset, len, true)?;
        // SAFETY: `check` has made sure that `offset` is inside the mapping.
        let start = unsafe { self.base.add(offset) };
        // SAFETY: the range is inside one live mapping (invariant; checked above). Neither advice
        // that is passed here (asserted) unmaps or changes a byte; populating faults pages in as
        // writing would, which needs a writable mapping and fails with an error in any other.
        let result = unsafe { libc::madvise(start.as_ptr().cast(), len, advice) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Makes the pages of a range present, as writing to each would.
    ///
    /// # Errors
    /// As [`SharedMap::write_at`]; `InvalidInput` before Linux 5.14; if memory runs out.
    pub fn prefault(&self, offset: usize, len: usize) -> io::Result<()> {
        self.advise(offset, len, libc::MADV_POPULATE_WRITE)
    }

    /// Returns the number of mapped bytes.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the address of the mapping. It is page-aligned, and valid for [`SharedMap::len`]
    /// bytes while this value lives.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns whether every byte is zero.
    pub fn is_zero(&self) -> bool {
        let words = (0..self.len / WORD).all(|index| self.load_word(index * WORD) == 0);
        words && (self.len / WORD * WORD..self.len).all(|offset| self.load_byte(offset) == 0)
    }

    /// Sets every byte to `byte`.
    ///
    /// # Errors
    /// `PermissionDenied` if the mapping is read-only.
    pub fn fill(&self, byte: u8) -> io::Result<()> {
        self.fill_at(0, self.len, byte)
    }

    /// Sets `len` bytes to `byte`, from `offset` on.
    ///
    /// # Errors
    /// As [`SharedMap::write_at`].
    pub fn fill_at(&self, offset: usize, len: usize, byte: u8) -> io::Result<()> {
        self.check(offset, len, true)?;
        // SAFETY: `check` has made sure that `offset` is at most `len`, so that the sum stays
        // inside the mapping.
        let start = unsafe { self.base.add(offset) };
        // SAFETY: `offset..offset + len` is inside a live writable mapping (invariant; range and
        // writability are checked above); memset takes raw memory, so no reference to shared bytes
        // is made.
        unsafe { libc::memset(start.as_ptr().cast(), i32::from(byte), len) };
        Ok(())
    }

    /// Detaches a range from the file: all later writes of any thread to it go to private memory
    /// that is never read. Other ranges stay as they are. `offset` and `len` must be multiples of
    /// the file's page size.
    ///
    /// # Errors
    /// `InvalidInput` if the range exceeds the mapping; as mmap(2). Then nothing is detached.
    pub fn detach(&self, offset: usize, len: usize) -> io::Result<()> {
        let out = || {
            let text = format!("range is {len} bytes at {offset}, but the mapping has {}", self.mapped);
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        let len = NonZeroUsize::new(len).ok_or_else(out)?;
        if offset.checked_add(len.get()).is_none_or(|end| end > self.mapped) {
            return Err(out());
        }
        // SAFETY: the check above keeps `offset` inside the mapping.
        let start = unsafe { self.base.add(offset) };
        let flags = MapFlags::MAP_FIXED | MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let address = NonZeroUsize::new(start.as_ptr() as usize);
        // SAFETY: MAP_FIXED replaces only pages of this value's own mapping (the range is inside
        // it, checked above), by pages that can be read and written, so that the invariant holds:
        // all of `base..base + mapped` stays one live range that `drop` unmaps, and a concurrent
        // access finds valid memory before and after.
        unsafe { mmap_anonymous(address, len, protection, flags) }?;
        Ok(())
    }

    /// Copies `into.len()` bytes from the mapping, from `offset` on.
    ///
    /// # Errors
    /// `InvalidInput` if the range exceeds the mapping.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        self.check(offset, into.len(), false)?;
        let head_len = bytes_to_word(offset).min(into.len());
        let (head, body) = into.split_at_mut(head_len);
        for (at, byte) in (offset..).zip(head.iter_mut()) {
            *byte = self.load_byte(at);
        }
        let mut at = offset + head.len();
        let mut words = body.chunks_exact_mut(WORD);
        for word in words.by_ref() {
            word.copy_from_slice(&self.load_word(at).to_ne_bytes());
            at += WORD;
        }
        for (at, byte) in (at..).zip(words.into_remainder()) {
            *byte = self.load_byte(at);
        }
        Ok(())
    }

    /// Copies `from` into the mapping, at `offset`.
    ///
    /// # Errors
    /// `InvalidInput` if the range exceeds the mapping; `PermissionDenied` if it is read-only.
    pub fn write_at(&self, offset: usize, from: &[u8]) -> io::Result<()> {
        self.check(offset, from.len(), true)?;
        let (head, body) = from.split_at(bytes_to_word(offset).min(from.len()));
        for (at, byte) in (offset..).zip(head) {
            self.store_byte(at, *byte);
        }
        let mut words = body.chunks_exact(WORD);
        let mut at = offset + head.len();
        for word in words.by_ref() {
            let mut bytes = [0; WORD];
            bytes.copy_from_slice(word);
            self.store_word(at, u64::from_ne_bytes(bytes));
            at += WORD;
        }
        for (at, byte) in (at..).zip(words.remainder()) {
            self.store_byte(at, *byte);
        }
        Ok(())
    }

    fn check(&self, offset: usize, len: usize, write: bool) -> io::Result<()> {
        if write && !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the mapping is read-only"));
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("range is {len} bytes at {offset}, but the mapping has {}", self.len),
            )),
        }
    }

    /// Reads a word. `offset` must be a multiple of [`WORD`], and the word must end inside the
    /// mapping.
    fn load_word(&self, offset: usize) -> u64 {
        assert!(offset % WORD == 0 && offset + WORD <= self.len);
        // SAFETY: the assertion keeps the word inside the mapping.
        let word = unsafe { self.base.add(offset) }.cast::<u64>();
        // SAFETY: the word is inside a live readable mapping (invariant), aligned because `base` is
        // page-aligned and `offset` a multiple of 8, and every bit pattern is a u64.
        unsafe { word.read_volatile() }
    }

    /// Writes a word. `offset` must be a multiple of [`WORD`], the word must end inside the
    /// mapping, and the mapping must be writable.
    fn store_word(&self, offset: usize, value: u64) {
        assert!(offset % WORD == 0 && offset + WORD <= self.len && self.writable);
        // SAFETY: the assertion keeps the word inside the mapping.
        let word = unsafe { self.base.add(offset) }.cast::<u64>();
        // SAFETY: the word is inside a live mapping that is writable (invariant, asserted), aligned
        // because `base` is page-aligned and `offset` a multiple of 8.
        unsafe { word.write_volatile(value) };
    }

    fn load_byte(&self, offset: usize) -> u8 {
        assert!(offset < self.len);
        // SAFETY: the assertion keeps the byte inside the mapping.
        let byte = unsafe { self.base.add(offset) };
        // SAFETY: the byte is inside a live readable mapping (invariant).
        unsafe { byte.read_volatile() }
    }

    fn store_byte(&self, offset: usize, value: u8) {
        assert!(offset < self.len && self.writable);
        // SAFETY: the assertion keeps the byte inside the mapping.
        let byte = unsafe { self.base.add(offset) };
        // SAFETY: the byte is inside a live mapping that is writable (invariant, asserted).
        unsafe { byte.write_volatile(value) };
    }
}

/// Returns the bytes from `offset` to the next word.
fn bytes_to_word(offset: usize) -> usize {
    offset.next_multiple_of(WORD) - offset
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping that `new` made (invariant), nothing refers into
        // it once `self` is gone, and drop runs once.
        let _ = unsafe { munmap(self.base.cast(), self.mapped) };
    }
}
