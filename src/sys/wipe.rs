// SPDX-License-Identifier: Apache-2.0
//! Zeroes memory piece by piece on several threads; no thread waits for one that does not run.
//!
//! A thread claims a piece, zeroes it and counts it as done. A thread of low priority can be
//! preempted in the middle of a piece, for as long as other threads keep the processors busy. A
//! thread that needs the memory then *detaches* the piece: it removes the mapping from the file, so
//! that the preempted thread writes the rest to memory that is never read. The thread of low
//! priority holds only the [`Wipe`]; the memory itself stays with its owner.

use super::map::SharedMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bytes of one piece: a thread on a processor zeroes it in about 10 µs.
const PIECE: usize = 64 << 10;
/// Time for which a thread that needs the memory waits for a piece without progress. Longer than
/// zeroing one piece, shorter than zeroing it again would take.
const PATIENCE: Duration = Duration::from_micros(50);

/// A part of a mapping.
#[derive(Debug)]
struct Part {
    map: Arc<SharedMap>,
    range: Range<usize>,
}

/// Memory that is being zeroed.
#[derive(Debug)]
pub struct Wipe {
    parts: Vec<Part>,
    /// Pieces of all parts together.
    pieces: usize,
    /// Index of the next piece to be claimed.
    next: AtomicUsize,
    /// Number of zeroed pieces.
    done: AtomicUsize,
    /// Whether the mappings were made for this and must be removed when it is finished: they would
    /// count as holders.
    is_temporary: bool,
    /// Whether the mappings are new: their pages are then made present by piece, which is faster
    /// than by page.
    prefaults: bool,
    is_detached: AtomicBool,
}

/// Result of a [`Wipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiped {
    /// All of the memory is zero.
    Zero,
    /// Some of it may not be zero, and the mappings no longer lead to it.
    Detached,
}

impl Wipe {
    /// Prepares to zero these ranges of mappings. Writes nothing yet.
    pub fn new(parts: Vec<(Arc<SharedMap>, Range<usize>)>) -> Self {
        let parts: Vec<_> = parts.into_iter().map(|(map, range)| Part { map, range }).collect();
        let pieces = parts.iter().map(Part::pieces).sum();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let is_detached = AtomicBool::new(false);
        Self { parts, pieces, next, done, is_temporary: false, prefaults: false, is_detached }
    }

    /// Makes it detach the mappings when all pieces are zero.
    #[must_use]
    pub fn with_temporary_mappings(self) -> Self {
        Self { is_temporary: true, ..self }
    }

    /// Makes it prefault the mappings piece by piece if they are `new`.
    #[must_use]
    pub fn with_new_mappings(self, new: bool) -> Self {
        Self { prefaults: new, ..self }
    }

    /// Zeroes pieces until all are claimed. Returns whether all are zero; other threads may still
    /// be zeroing theirs.
    ///
    /// # Errors
    /// If a mapping is read-only; then nothing is zeroed.
    pub fn work(&self) -> io::Result<bool> {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.pieces {
                // Resets the index: claims beyond the end must not overflow it.
                self.next.store(self.pieces, Ordering::Relaxed);
                break;
            }
            self.zero(piece)?;
            // Release: a thread that reads this count also sees the zeros.
            self.done.fetch_add(1, Ordering::Release);
        }
        let is_finished = self.is_finished();
        if is_finished && self.is_temporary {
            self.detach();
        }
        Ok(is_finished)
    }

    /// Zeroes the remaining pieces, and detaches pieces that another thread has claimed and does
    /// not continue.
    ///
    /// # Errors
    /// As [`Wipe::work`].
    pub fn finish(&self) -> io::Result<Wiped> {
        if self.work()? || self.await_claimed(self.pieces) {
            if self.is_temporary {
                self.detach();
            }
            return Ok(Wiped::Zero);
        }
        self.detach();
        Ok(Wiped::Detached)
    }

    /// Ensures that no thread writes to the memory any more, since it is about to be used
    /// otherwise. Returns whether the mappings still lead to it.
    pub fn stop(&self) -> bool {
        let claimed = self.next.swap(self.pieces, Ordering::Relaxed).min(self.pieces);
        if claimed == 0 || self.await_claimed(claimed) {
            if self.is_temporary {
                self.detach();
            }
        } else {
            self.detach();
        }
        !self.is_detached.load(Ordering::Relaxed)
    }

    /// Returns whether all pieces are zero.
    pub fn is_finished(&self) -> bool {
        self.done.load(Ordering::Acquire) == self.pieces
    }

    /// Waits for `claimed` pieces as long as threads make progress. Returns whether they are done.
    fn await_claimed(&self, claimed: usize) -> bool {
        let (mut seen, mut since) = (self.done.load(Ordering::Acquire), Instant::now());
        while seen < claimed {
            std::hint::spin_loop();
            let now = self.done.load(Ordering::Acquire);
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > PATIENCE {
                return false;
            }
        }
        true
    }

    fn detach(&self) {
        if self.is_detached.swap(true, Ordering::Relaxed) {
            return;
        }
        for part in &self.parts {
            let Range { start, end } = part.range;
            // If the kernel has no memory for this, wait for the other thread.
            while let Err(error) = part.map.detach(start, end - start) {
                if self.await_claimed(self.next.load(Ordering::Relaxed).min(self.pieces)) {
                    break;
                }
                log::debug!("a mapping could not be detached, trying again: {error}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn zero(&self, piece: usize) -> io::Result<()> {
        let mut index = piece;
        for part in &self.parts {
            if index < part.pieces() {
                let start = part.range.start + index * PIECE;
                let len = PIECE.min(part.range.end - start);
                if self.prefaults {
                    // Only an optimisation: kernels before 5.14 make each page present when it is
                    // written to.
                    let _ = part.map.prefault(start, len);
                }
                return part.map.fill_at(start, len, 0);
            }
            index -= part.pieces();
        }
        Ok(())
    }
}

impl Part {
    fn pieces(&self) -> usize {
        self.range.len().div_ceil(PIECE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd::MemfdFactory;
    use std::os::fd::OwnedFd;

    const BYTES: usize = 8 * PIECE + 4096;

    /// Returns a file filled with ones, and its mapping.
    fn soiled() -> (OwnedFd, Arc<SharedMap>) {
        let fd = MemfdFactory::probe().expect("memfd").create("test", BYTES as u64).expect("memfd");
        let map = SharedMap::sparse(&fd, BYTES).expect("mapped");
        map.fill(1).expect("writable");
        (fd, Arc::new(map))
    }

    #[test]
    fn several_threads_zero_all_of_it_and_nothing_else() {
        let (_fd, map) = soiled();
        let ends = [4096..5 * PIECE, 6 * PIECE..BYTES - 4096];
        let wipe = Wipe::new(ends.iter().map(|range| (Arc::clone(&map), range.clone())).collect());
        std::thread::scope(|scope| {
            scope.spawn(|| wipe.work().expect("writable"));
            assert_eq!(wipe.finish().expect("writable"), Wiped::Zero);
        });
        let mut bytes = vec![7; BYTES];
        map.read_at(0, &mut bytes).expect("inside");
        for (at, byte) in bytes.iter().enumerate() {
            assert_eq!(*byte == 0, ends.iter().any(|range| range.contains(&at)), "byte {at}");
        }
    }

    #[test]
    fn a_thread_that_does_not_get_on_is_not_waited_for_and_writes_nowhere() {
        let (fd, map) = soiled();
        let wipe = Wipe::new(vec![(Arc::clone(&map), 0..BYTES)]);
        // Another thread claims a piece and is preempted.
        let claimed = wipe.next.fetch_add(1, Ordering::Relaxed);
        assert_eq!(wipe.finish().expect("writable"), Wiped::Detached);
        let owner = SharedMap::sparse(&fd, BYTES).expect("mapped");
        owner.fill(9).expect("writable");
        // It continues much later.
        wipe.zero(claimed).expect("valid memory");
        let mut bytes = vec![0; BYTES];
        owner.read_at(0, &mut bytes).expect("inside");
        assert!(bytes.iter().all(|byte| *byte == 9), "written to after it was taken away");
    }

    #[test]
    fn a_stopped_wipe_no_longer_writes() {
        let (fd, map) = soiled();
        let wipe = Wipe::new(vec![(Arc::clone(&map), 0..BYTES)]);
        assert!(wipe.stop(), "no thread had begun");
        assert!(!wipe.work().expect("nothing to do"));
        let mut bytes = vec![0; BYTES];
        SharedMap::sparse(&fd, BYTES).expect("mapped").read_at(0, &mut bytes).expect("inside");
        assert!(bytes.iter().all(|byte| *byte == 1));
    }

    #[test]
    fn temporary_mappings_are_gone_when_it_is_finished() {
        let (fd, map) = soiled();
        let wipe = Wipe::new(vec![(Arc::clone(&map), 0..BYTES)]).with_temporary_mappings();
        assert!(wipe.work().expect("writable") && wipe.is_finished());
        map.fill(3).expect("valid memory");
        assert!(
            SharedMap::sparse(&fd, BYTES).expect("mapped").is_zero(),
            "the mapping still leads to the file"
        );
    }
}
