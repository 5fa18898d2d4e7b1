// SPDX-License-Identifier: Apache-2.0
//! Memory that is set aside for one heap at the start: other heaps do not get it, and the heap's
//! buffers cannot fail for lack of it.
//!
//! # Life of a reserved page
//! At the start one file, the arena, gets all its pages. A buffer takes a range of the arena. If
//! buffers are dma-bufs, the range's own pages are exported and never leave the arena
//! (`carveout/exported.rs`). If they are files, the range's pages return to the kernel, and the
//! buffer's own file takes as many at once, since a memfd's pages cannot move to another. When the
//! buffer's file is closed, the arena allocates the range's pages again, and only then can another
//! buffer take the range. Between the two steps another process can take the memory. The buffer
//! then fails as if memory were used up, and the range waits for pages of its own.
//!
//! No client has ever held the pages of a free range, so it fits every trust domain. The kernel may
//! swap reserved pages out if the machine has swap, as all shared memory.

mod exported;
#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a buffer in one piece has one range")]
mod tests;

use super::arena::{ArenaFile, Pages};
use super::export::Exporter;
use super::{Capabilities, FileSource, Memory, Opened, Source, SourceError};
use crate::pool::Layout;
use crate::units::{Access, BackedBytes, Backing};
use exported::Exporting;
use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

/// Part of the available memory that is left for other processes: a sixteenth of it at the start.
const LEFT_TO_OTHERS: u64 = 16;
/// Name of the file with the pages that are in no buffer.
const ARENA: &str = "anion:arena";

/// Reason why memory could not be set aside.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// The size is not a multiple of the huge page.
    #[error(
        "size is {asked:#x}, but it must be a multiple of the huge page {granularity:#x} of this machine"
    )]
    Granularity {
        /// Bytes to set aside.
        asked: u64,
        /// Bytes of a huge page.
        granularity: u64,
    },
    /// Too little memory would be left for other processes.
    #[error("size is {asked} bytes, but only {limit} of {available} available bytes can be set aside")]
    TooLarge {
        /// Bytes to set aside.
        asked: u64,
        /// Most bytes that can be set aside.
        limit: u64,
        /// Bytes available.
        available: u64,
    },
    /// The kernel refused.
    #[error("{asked} bytes could not be set aside: {source}")]
    Kernel {
        /// Bytes to set aside.
        asked: u64,
        /// The reason.
        source: io::Error,
    },
}

/// A source over memory that was set aside.
pub struct CarveoutSource {
    store: Arc<Store>,
    /// Exports the arena's own pages as dma-bufs, if buffers are dma-bufs.
    exporting: Option<Exporting>,
}

struct Store {
    /// Makes the buffers' files; it also made the arena's.
    files: Arc<dyn FileSource>,
    /// All pages that are in no buffer.
    arena: Arc<ArenaFile>,
}

impl CarveoutSource {
    /// Sets `capacity` bytes aside, zeroed, for buffers whose files come from `files`.
    ///
    /// # Errors
    /// If too little memory is available, or `capacity` is not in whole pages of `files`. Nothing
    /// is set aside then.
    pub fn reserve(
        capacity: BackedBytes,
        layout: Layout,
        files: Arc<dyn FileSource>,
        pages: Arc<dyn Pages>,
    ) -> Result<Self, ReserveError> {
        let asked = capacity.get();
        let Capabilities { granularity, backings, .. } = files.capabilities();
        if !asked.is_multiple_of(granularity) {
            return Err(ReserveError::Granularity { asked, granularity });
        }
        let failed = |source| ReserveError::Kernel { asked, source };
        // The kernel refuses huge pages that it does not have. It would take ordinary pages from
        // other processes by force.
        if !backings.contains(&Backing::Hugetlb) {
            let available = pages.available().map_err(failed)?;
            let limit = available - available / LEFT_TO_OTHERS;
            if asked > limit {
                return Err(ReserveError::TooLarge { asked, limit, available });
            }
        }
        let file = files.create_file(capacity, ARENA).map_err(failed)?;
        pages.allocate(file.fd(), 0..asked).map_err(failed)?;
        let arena = Arc::new(ArenaFile::new(file, asked, layout, pages));
        Ok(Self { store: Arc::new(Store { files, arena }), exporting: None })
    }

    /// Makes buffers dma-bufs of the arena's own pages. If these `may_be_shared`, clean memory of
    /// one trust domain can go to another; otherwise its pages are exchanged for others before.
    #[must_use]
    pub fn exporting(self, exporter: Arc<dyn Exporter>, may_be_shared: bool) -> Self {
        Self { exporting: Some(Exporting { exporter, may_be_shared }), ..self }
    }

    /// Returns the source with its capabilities. A lack of free ranges has an error of its own. So
    /// an error of the kernel means that other processes took the memory, as for the files.
    pub fn opened(self) -> Opened {
        let (capabilities, arena) = (self.capabilities(), Some(Arc::clone(&self.store.arena)));
        Opened { arena, ..Opened::new(Arc::new(self), capabilities) }
    }

    fn capabilities(&self) -> Capabilities {
        let of_files = self.store.files.capabilities();
        match &self.exporting {
            Some(exporting) => of_files.exported(exporting.exporter.limits().bytes),
            None => of_files,
        }
    }
}

impl Store {
    fn take(self: &Arc<Self>, bytes: u64) -> Result<Lot, SourceError> {
        let ranges = self.arena.take(bytes)?;
        Ok(Lot { ranges, store: Arc::downgrade(self), away: false, held: AtomicBool::new(false) })
    }

    /// Allocates new pages for a range that lost its own.
    fn refill(&self, range: Range<u64>) {
        let bytes = range.end - range.start;
        if let Err(error) = self.arena.allocate_pages(range) {
            log::warn!("{bytes} reserved bytes are missing, since other processes took the memory: {error}");
        }
    }
}

/// Ranges of the arena that one buffer has. Its drop returns them.
pub struct Lot {
    ranges: Vec<Range<u64>>,
    /// Weak: after the heap is dropped, nothing is returned to it.
    store: Weak<Store>,
    /// Whether the pages went to a file.
    away: bool,
    /// Whether a client has held the arena's own pages. It may still have some pinned without
    /// detection.
    held: AtomicBool,
}

impl Lot {
    /// Returns the ranges, by address.
    pub(super) fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }
}

impl Drop for Lot {
    fn drop(&mut self) {
        let Some(store) = self.store.upgrade() else { return };
        let is_held = *self.held.get_mut();
        for range in self.ranges.drain(..) {
            if is_held && let Err(error) = store.arena.expel_pages(range.clone()) {
                log::error!(
                    "reserved bytes {range:?} stay unused, since their pages cannot be replaced: {error}"
                );
                continue;
            }
            // The pages first: the next buffer that takes the range needs them.
            if is_held || self.away {
                store.refill(range.clone());
            }
            store.arena.free(range);
        }
    }
}

impl Source for CarveoutSource {
    fn create(&self, bytes: BackedBytes, _: Access, name: &str) -> Result<Box<dyn Memory>, SourceError> {
        let store = &self.store;
        let mut lot = store.take(bytes.get())?;
        if let Some(exporting) = &self.exporting {
            return exporting.create(store, lot);
        }
        lot.away = true;
        for range in &lot.ranges {
            store.arena.punch_pages(range.clone())?;
        }
        let mut file = store.files.create_file(bytes, name)?;
        store.arena.pages().allocate(file.fd(), 0..bytes.get())?;
        file.hold(lot);
        Ok(file)
    }
}
