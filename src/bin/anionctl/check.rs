// SPDX-License-Identifier: Apache-2.0
//! Is a fresh buffer what the interface promises: mapped, zero, and memory of its own?

use crate::failure::Failure;
use anion::sys::map::SharedMap;
use anion::units::Access;
use std::io;
use std::os::fd::BorrowedFd;

/// Bytes written and compared at a time.
const CHUNK: usize = 64 << 10;
/// Bytes that one step of the pattern covers.
const WORD: usize = size_of::<u64>();
/// Spreads neighbouring ids over all 64 bits (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A mapped buffer under test.
pub(crate) struct Probe {
    map: SharedMap,
    seed: u64,
}

impl Probe {
    /// Maps `bytes` bytes of a buffer. `id` sets its pattern apart from those of other buffers.
    ///
    /// # Errors
    /// [`Failure::Check`] if the buffer cannot be mapped with `access`: the interface promises that it can.
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: i64, id: i64, access: Access) -> Result<Self, Failure> {
        let mapped = usize::try_from(bytes)
            .map_err(|_| io::Error::other(format!("its size is {bytes}")))
            .and_then(|bytes| SharedMap::new(fd, bytes, access));
        match mapped {
            Ok(map) => Ok(Self { map, seed: id.cast_unsigned().wrapping_mul(SPREAD) }),
            Err(error) => Err(Failure::Check(format!("buffer {id} cannot be mapped: {error}"))),
        }
    }

    /// Whether every byte is zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.map.is_zero()
    }

    /// Writes the buffer's pattern over all of it.
    ///
    /// # Errors
    /// If the mapping is read-only.
    pub(crate) fn write_pattern(&self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        for offset in (0..self.map.len()).step_by(CHUNK) {
            let expected = self.pattern(offset, &mut chunk);
            self.map.write_at(offset, expected)?;
        }
        Ok(())
    }

    /// Whether the buffer holds exactly its pattern.
    ///
    /// # Errors
    /// None that a mapping of this length can meet.
    pub(crate) fn holds_pattern(&self) -> io::Result<bool> {
        let (mut expected, mut found) = (vec![0; CHUNK], vec![0; CHUNK]);
        for offset in (0..self.map.len()).step_by(CHUNK) {
            let expected = self.pattern(offset, &mut expected);
            let found = &mut found[..expected.len()];
            self.map.read_at(offset, found)?;
            if found != expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the buffer zero again.
    ///
    /// # Errors
    /// If the mapping is read-only.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.map.fill(0)
    }

    /// The pattern of the chunk at `offset`, no longer than the buffer. Every word differs from every other word of
    /// this buffer, so that swapped or repeated pages are found.
    fn pattern<'a>(&self, offset: usize, chunk: &'a mut [u8]) -> &'a [u8] {
        let end = CHUNK.min(self.map.len() - offset);
        for (index, word) in chunk[..end].chunks_mut(WORD).enumerate() {
            let position = (offset + index * WORD) as u64;
            word.copy_from_slice(&(self.seed ^ position).to_ne_bytes()[..word.len()]);
        }
        &chunk[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anion::sys::memfd::MemfdFactory;
    use std::os::fd::AsFd;

    /// Neither a multiple of the chunk nor of the word.
    const BYTES: usize = CHUNK + 8_195;

    fn probe_of(fd: &impl AsFd, id: i64) -> Probe {
        Probe::new(fd.as_fd(), BYTES.try_into().expect("small"), id, Access::ReadWrite).expect("mapped")
    }

    #[test]
    fn a_pattern_is_found_where_it_was_written_and_a_flipped_last_byte_is_noticed() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 2 * CHUNK as u64).expect("memfd");
        let probe = probe_of(&fd, 7);
        assert!(probe.is_zero());
        assert!(!probe.holds_pattern().expect("readable"));
        probe.write_pattern().expect("writable");
        assert!(probe.holds_pattern().expect("readable"));
        let mut last = [0];
        probe.map.read_at(BYTES - 1, &mut last).expect("inside");
        probe.map.write_at(BYTES - 1, &[!last[0]]).expect("inside");
        assert!(!probe.holds_pattern().expect("readable"));
        probe.clear().expect("writable");
        assert!(probe.is_zero());
    }

    #[test]
    fn two_buffers_that_share_memory_are_noticed() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 2 * CHUNK as u64).expect("memfd");
        let (first, second) = (probe_of(&fd, 1), probe_of(&fd, 2));
        first.write_pattern().expect("writable");
        second.write_pattern().expect("writable");
        assert!(!first.holds_pattern().expect("readable"));
        assert!(second.holds_pattern().expect("readable"));
    }

    #[test]
    fn an_impossible_size_is_a_failed_check() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 4096).expect("memfd");
        for bytes in [-1, 0, 1 << 40] {
            let result = Probe::new(fd.as_fd(), bytes, 1, Access::ReadWrite);
            assert!(matches!(result.err(), Some(Failure::Check(_))), "{bytes}");
        }
    }
}
