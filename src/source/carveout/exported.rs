// SPDX-License-Identifier: Apache-2.0
//! Buffers that are dma-bufs over the arena's own pages, each with a descriptor of its own.
//!
//! The service cleans a released buffer in place, and pools it with its dma-buf for the same trust
//! domain. When its range becomes free for all clients instead, its pages are exchanged: they
//! return to the kernel and new ones replace them, so that pages that a client has pinned leave the
//! arena. Ranges that no client ever got need no exchange, nor do clean ranges of a heap whose
//! memory may be shared.

use super::{Lot, Store};
use crate::source::export::{Export, Exporter, POOLED_NAME, require_writable};
use crate::source::{Memory, SourceError, Unfit};
use crate::sys::fd::Inode;
use crate::sys::wipe::Wipe;
use crate::units::{Access, Backing, Label};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The device that makes dma-bufs of ranges.
pub(super) struct Exporting {
    pub(super) exporter: Arc<dyn Exporter>,
    /// Whether clean pages may go to any trust domain.
    pub(super) may_be_shared: bool,
}

impl Exporting {
    /// Makes a dma-buf of the lot, in the order of its ranges.
    ///
    /// # Errors
    /// The exporter's; [`SourceError::TooScattered`] if it accepts fewer ranges.
    pub(super) fn create(&self, store: &Arc<Store>, lot: Lot) -> Result<Box<dyn Memory>, SourceError> {
        let (needed, limit) = (lot.ranges.len() as u64, self.exporter.limits().ranges);
        if needed > limit {
            return Err(SourceError::TooScattered { needed, limit });
        }
        // This allocates pages that the arena lacks, or fails.
        let dma_buf = self.exporter.export(store.arena.fd(), &lot.ranges)?;
        dma_buf.set_name(POOLED_NAME);
        let (store, clean) = (Arc::clone(store), AtomicBool::new(false));
        Ok(Box::new(Exported { dma_buf, lot, store, may_be_shared: self.may_be_shared, clean }))
    }
}

/// A dma-buf and the ranges with its pages. Fields are dropped in this order: the dma-buf is closed
/// before the ranges are returned.
struct Exported {
    dma_buf: Box<dyn Export>,
    lot: Lot,
    store: Arc<Store>,
    may_be_shared: bool,
    /// Whether all its bytes are zero again.
    clean: AtomicBool,
}

impl Memory for Exported {
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        require_writable(access)?;
        self.clean.store(false, Ordering::Relaxed);
        self.lot.held.store(true, Ordering::Relaxed);
        self.dma_buf.open()
    }

    fn backing(&self) -> Backing {
        Backing::Udmabuf
    }

    fn ranges(&self) -> &[Range<u64>] {
        &self.lot.ranges
    }

    fn inode(&self) -> Inode {
        self.dma_buf.inode()
    }

    fn is_idle(&self) -> io::Result<bool> {
        self.dma_buf.is_idle()
    }

    fn handed_out(&self, label: &Label) {
        self.dma_buf.set_label(label);
    }

    fn worth_keeping(&self) -> Result<(), Unfit> {
        if self.dma_buf.is_settled() { Ok(()) } else { Err(Unfit::FencesPending) }
    }

    /// Does nothing: the arena has its pages.
    fn populate(&self) -> io::Result<()> {
        Ok(())
    }

    fn wipe(&self) -> io::Result<Wipe> {
        self.dma_buf.set_name(POOLED_NAME);
        self.store.arena.wipe(&self.lot.ranges)
    }

    fn forget_mapping(&self) {
        self.store.arena.forget_mapping();
    }

    fn cleaned(&self) {
        self.dma_buf.written();
        self.clean.store(true, Ordering::Relaxed);
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        // Checks again: a holder would read what the next client writes.
        if self.may_be_shared && *self.clean.get_mut() && self.dma_buf.is_idle().unwrap_or(false) {
            self.lot.held.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a buffer in one piece has one range")]
mod tests {
    use super::super::tests::{CAPACITY, ONE_PIECE, PIECE, free, make, scripted};
    use super::super::{Capabilities, CarveoutSource};
    use super::*;
    use crate::pool::Layout;
    use crate::source::scripted::{Script, ScriptedExporter};
    use crate::sys::fd::resident_bytes;
    use crate::sys::map::SharedMap;
    use crate::sys::map::tests::splice_pages;
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    fn exporting(
        layout: Layout,
        may_be_shared: bool,
    ) -> (CarveoutSource, Arc<Script>, Arc<ScriptedExporter>) {
        let (source, script) = scripted(layout);
        let exporter = Arc::new(ScriptedExporter::new(Arc::clone(&script)).with_ranges(3));
        let source = source.exporting(Arc::clone(&exporter) as Arc<dyn Exporter>, may_be_shared);
        (source, script, exporter)
    }

    fn reserved(source: &CarveoutSource) -> u64 {
        resident_bytes(source.store.arena.fd()).expect("fstat")
    }

    /// Writes to a buffer as its client. A client of the double has the whole arena, and writes to
    /// the part of its range.
    fn write(memory: &dyn Memory, client: &File, byte: u8) {
        for range in memory.ranges() {
            let data = vec![byte; usize::try_from(range.end - range.start).expect("small")];
            client.write_all_at(&data, range.start).expect("writable");
        }
    }

    fn is_zero(memory: &dyn Memory, client: &File) -> bool {
        memory.ranges().iter().all(|range| {
            let mut data = vec![1; usize::try_from(range.end - range.start).expect("small")];
            client.read_exact_at(&mut data, range.start).expect("readable");
            data.iter().all(|byte| *byte == 0)
        })
    }

    fn client(memory: &dyn Memory) -> File {
        memory.open(Access::ReadWrite).expect("opened").into()
    }

    #[test]
    fn a_buffer_is_its_range_and_takes_no_page_away() {
        let (source, _, _) = exporting(ONE_PIECE, false);
        let Capabilities { backings, read_only, .. } = source.capabilities();
        assert_eq!((backings, read_only), (vec![Backing::Udmabuf], false));
        let (first, second) = (make(&source, PIECE).expect("room"), make(&source, PIECE));
        let second = second.expect("room");
        assert_eq!((first.ranges(), second.ranges()), (&[0..PIECE][..], &[PIECE..2 * PIECE][..]));
        write(first.as_ref(), &client(first.as_ref()), 7);
        assert!(is_zero(second.as_ref(), &client(second.as_ref())));
        assert_eq!((reserved(&source), free(&source).total), (CAPACITY, CAPACITY - 2 * PIECE));
    }

    #[test]
    fn a_range_is_cleaned_where_it_lies_and_its_dma_buf_serves_again() {
        let (source, script, exporter) = exporting(ONE_PIECE, false);
        let other = make(&source, PIECE).expect("room");
        write(other.as_ref(), &client(other.as_ref()), 9);
        let memory = make(&source, 2 * PIECE).expect("room");
        let held = client(memory.as_ref());
        write(memory.as_ref(), &held, 7);
        assert!(!memory.is_idle().expect("told"));
        drop(held);
        assert!(memory.is_idle().expect("told") && memory.worth_keeping().is_ok());
        script.fail(0..usize::MAX, libc::EIO);
        memory.scrub().expect("no page is asked for");
        assert!(is_zero(memory.as_ref(), &client(memory.as_ref())));
        assert!(!is_zero(other.as_ref(), &client(other.as_ref())), "the other one is not zeroed");
        assert_eq!(exporter.exports(), 2);
    }

    #[test]
    fn pages_that_a_client_pinned_leave_the_arena_with_it() {
        let (source, _, _) = exporting(ONE_PIECE, false);
        let memory = make(&source, CAPACITY).expect("room");
        let attacker = client(memory.as_ref());
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        let capacity = usize::try_from(CAPACITY).expect("small");
        let mapping = SharedMap::new(&attacker, capacity, Access::ReadWrite).expect("mapped");
        splice_pages(&mapping, &writer).expect("pinned");
        drop((mapping, attacker, writer));
        memory.scrub().expect("clean");
        drop(memory);
        assert_eq!((reserved(&source), free(&source).total), (CAPACITY, CAPACITY));

        let victim = make(&source, CAPACITY).expect("room");
        write(victim.as_ref(), &client(victim.as_ref()), 0x5a);
        let mut seen = Vec::new();
        reader.read_to_end(&mut seen).expect("pinned pages");
        assert!(!seen.is_empty() && seen.iter().all(|byte| *byte == 0), "the attacker reads the victim's");
    }

    #[test]
    fn only_clean_pages_of_a_shared_heap_stay_without_an_exchange() {
        let punched = |may_be_shared: bool, scrub: bool, open: bool| {
            let (source, script, _) = exporting(ONE_PIECE, may_be_shared);
            let memory = make(&source, PIECE).expect("room");
            if open {
                drop(client(memory.as_ref()));
            }
            if scrub {
                memory.scrub().expect("clean");
            }
            // A range whose exchange fails is lost. A range that needs no exchange is free again.
            script.fail(0..usize::MAX, libc::EIO);
            drop(memory);
            free(&source).total < CAPACITY
        };
        for may_be_shared in [false, true] {
            assert!(!punched(may_be_shared, false, false), "no client had it");
            assert!(punched(may_be_shared, false, true), "dirty");
        }
        assert!(punched(false, true, true), "clean, but perhaps pinned");
        assert!(!punched(true, true, true), "clean, and its clients trust each other");
    }

    #[test]
    fn more_ranges_than_the_device_takes_are_refused_and_come_back() {
        let (source, _, exporter) = exporting(Layout::Scattered, false);
        let mut buffers: Vec<_> = (0..8).map(|_| Some(make(&source, PIECE).expect("room"))).collect();
        for index in [0, 2, 4, 6] {
            buffers[index] = None;
        }
        let joined = make(&source, 3 * PIECE).expect("three chunks");
        assert_eq!(joined.ranges(), [0..PIECE, 2 * PIECE..3 * PIECE, 4 * PIECE..5 * PIECE]);
        drop(joined);
        let before = (free(&source), exporter.exports());
        let refused = make(&source, 4 * PIECE).map(drop).expect_err("one too many");
        assert_eq!(refused.to_string(), "the buffer would need 4 ranges, but one can have at most 3");
        assert!(refused.is_exhaustion() && refused.is_fragmentation());
        assert_eq!((free(&source), exporter.exports()), before);
    }

    #[test]
    fn a_refusal_by_the_device_loses_nothing() {
        let (source, script, _) = exporting(ONE_PIECE, false);
        script.fail(0..1, libc::ENOMEM);
        let refused = make(&source, PIECE).map(drop).expect_err("refused");
        assert!(refused.is_out_of_memory(), "{refused}");
        assert_eq!((reserved(&source), free(&source).total), (CAPACITY, CAPACITY));
    }

    #[test]
    fn a_range_that_cannot_be_exchanged_is_not_used_again() {
        let (source, script, _) = exporting(ONE_PIECE, false);
        let memory = make(&source, PIECE).expect("room");
        drop(client(memory.as_ref()));
        script.fail(0..1, libc::EIO);
        drop(memory);
        script.fail(0..0, 0);
        let next = make(&source, PIECE).expect("room");
        assert_eq!((next.ranges(), free(&source).total), (&[PIECE..2 * PIECE][..], CAPACITY - 2 * PIECE));
    }
}
