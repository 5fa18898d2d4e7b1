// SPDX-License-Identifier: Apache-2.0
//! Checks that a new buffer can be mapped, is zero, and shares no memory with another buffer.

use crate::failure::Failure;
use anion_client::{Access, CpuAccess, Mapping};
use std::io;
use std::os::fd::BorrowedFd;

/// Bytes written and compared at a time.
const CHUNK: usize = 64 << 10;
/// Bytes of the pattern's unit.
const WORD: usize = size_of::<u64>();
/// Bytes between two words that hold their own offset. Divides every page size.
const STAMP_STEP: usize = 512;
/// Distributes adjacent ids over all 64 bits (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A mapped buffer under test.
pub(crate) struct Probe {
    mapping: Mapping,
    /// The pattern of the first chunk, different for each buffer.
    template: Vec<u8>,
}

impl Probe {
    /// Maps `bytes` bytes of a buffer. Its pattern depends on `id`.
    ///
    /// # Errors
    /// [`Failure::Check`] if the buffer cannot be mapped with `access`, which the interface
    /// promises.
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: i64, id: i64, access: Access) -> Result<Self, Failure> {
        let mapped = usize::try_from(bytes)
            .map_err(|_| io::Error::other(format!("its size is {bytes}")))
            .and_then(|bytes| Mapping::new(fd, bytes, access));
        match mapped {
            Ok(mapping) => Ok(Self { mapping, template: template(id.cast_unsigned()) }),
            Err(error) => Err(Failure::Check(format!("buffer {id} cannot be mapped: {error}"))),
        }
    }

    /// Returns whether every byte is zero.
    ///
    /// # Errors
    /// If the buffer's exporter refuses the access.
    pub(crate) fn is_zero(&self) -> io::Result<bool> {
        let view = self.mapping.begin(CpuAccess::Read)?;
        let is_zero = view.is_zero()?;
        view.end().map(|()| is_zero)
    }

    /// Writes the buffer's pattern to the whole buffer.
    ///
    /// # Errors
    /// If the mapping is read-only, or the buffer's exporter refuses the access.
    pub(crate) fn write_pattern(&self) -> io::Result<()> {
        let view = self.mapping.begin(CpuAccess::Write)?;
        let mut chunk = self.template.clone();
        for offset in (0..self.mapping.len()).step_by(CHUNK) {
            stamp(&mut chunk, offset);
            view.write_at(offset, &chunk[..self.chunk_len(offset)])?;
        }
        view.end()
    }

    /// Returns whether the buffer holds exactly its pattern. Swapped or repeated pages are detected
    /// like any wrong byte.
    ///
    /// # Errors
    /// If the buffer's exporter refuses the access.
    pub(crate) fn holds_pattern(&self) -> io::Result<bool> {
        let view = self.mapping.begin(CpuAccess::Read)?;
        let (mut expected, mut found) = (self.template.clone(), vec![0; CHUNK]);
        for offset in (0..self.mapping.len()).step_by(CHUNK) {
            stamp(&mut expected, offset);
            let len = self.chunk_len(offset);
            view.read_at(offset, &mut found[..len])?;
            if found[..len] != expected[..len] {
                return Ok(false);
            }
        }
        view.end().map(|()| true)
    }

    /// Makes the buffer zero again.
    ///
    /// # Errors
    /// If the mapping is read-only, or the buffer's exporter refuses the access.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let view = self.mapping.begin(CpuAccess::Write)?;
        view.fill(0)?;
        view.end()
    }

    /// Returns the length of the chunk at `offset` in bytes; the last chunk may be shorter.
    fn chunk_len(&self, offset: usize) -> usize {
        CHUNK.min(self.mapping.len() - offset)
    }
}

/// Returns the pattern of a buffer's first chunk: words that depend on the buffer's id, and stamps.
fn template(id: u64) -> Vec<u8> {
    let seed = id.wrapping_mul(SPREAD) | 1;
    let mut chunk: Vec<u8> = (1..)
        .map(|step: u64| seed.wrapping_mul(2 * step + 1))
        .flat_map(u64::to_ne_bytes)
        .take(CHUNK)
        .collect();
    stamp(&mut chunk, 0);
    chunk
}

/// Writes the offset of each stamp into it, for a chunk at `offset` in its buffer.
fn stamp(chunk: &mut [u8], offset: usize) {
    for start in (0..chunk.len()).step_by(STAMP_STEP) {
        let position = (offset + start) as u64;
        chunk[start..start + WORD].copy_from_slice(&position.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::fs::File;
    use std::os::fd::AsFd;

    /// A multiple neither of the chunk nor of the word.
    const BYTES: usize = CHUNK + 8_195;

    fn memfd(bytes: u64) -> File {
        let file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).expect("memfd"));
        file.set_len(bytes).expect("memfd");
        file
    }

    fn probe_of(fd: &impl AsFd, id: i64) -> Probe {
        Probe::new(fd.as_fd(), BYTES.try_into().expect("small"), id, Access::ReadWrite).expect("mapped")
    }

    #[test]
    fn a_pattern_is_found_where_it_was_written_and_a_flipped_last_byte_is_noticed() {
        let fd = memfd(2 * CHUNK as u64);
        let probe = probe_of(&fd, 7);
        assert!(probe.is_zero().expect("readable"));
        assert!(!probe.holds_pattern().expect("readable"));
        probe.write_pattern().expect("writable");
        assert!(probe.holds_pattern().expect("readable"));
        let (mut last, view) = ([0], probe.mapping.begin(CpuAccess::ReadWrite).expect("begun"));
        view.read_at(BYTES - 1, &mut last).expect("inside");
        view.write_at(BYTES - 1, &[!last[0]]).expect("inside");
        drop(view);
        assert!(!probe.holds_pattern().expect("readable"));
        probe.clear().expect("writable");
        assert!(probe.is_zero().expect("readable"));
    }

    #[test]
    fn two_buffers_that_share_memory_are_noticed() {
        let fd = memfd(2 * CHUNK as u64);
        let (first, second) = (probe_of(&fd, 1), probe_of(&fd, 2));
        first.write_pattern().expect("writable");
        second.write_pattern().expect("writable");
        assert!(!first.holds_pattern().expect("readable"));
        assert!(second.holds_pattern().expect("readable"));
    }

    #[test]
    fn an_impossible_size_is_a_failed_check() {
        let fd = memfd(4096);
        for bytes in [-1, 0, 1 << 40] {
            let result = Probe::new(fd.as_fd(), bytes, 1, Access::ReadWrite);
            assert!(matches!(result.err(), Some(Failure::Check(_))), "{bytes}");
        }
    }
}
