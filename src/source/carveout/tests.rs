// SPDX-License-Identifier: Apache-2.0
//! Memory that is set aside: it is present, goes to buffers, returns, and survives every failure of
//! the kernel.

use super::*;
use crate::pool::FreeBytes;
use crate::source::SourceError;
use crate::source::Unfit;
use crate::source::arena::KernelPages;
use crate::source::memfd::MemfdSource;
use crate::source::scripted::{Script, ScriptedPages, ScriptedSource};
use crate::sys::fd::resident_bytes;
use crate::sys::map::SharedMap;
use crate::sys::memfd::{is_sealed, punch_pages};
use crate::units::{PageSize, RequestedBytes};

pub(super) const PIECE: u64 = 64 << 10;
pub(super) const CAPACITY: u64 = 8 * PIECE;
pub(super) const ONE_PIECE: Layout = Layout::OnePiece { alignment: PIECE };

fn bytes(amount: u64) -> BackedBytes {
    RequestedBytes(i64::try_from(amount).expect("small")).round_up(1).expect("valid")
}

pub(super) fn make(source: &CarveoutSource, amount: u64) -> Result<Box<dyn Memory>, SourceError> {
    source.create(bytes(amount), Access::ReadWrite, "test")
}

fn memfd() -> MemfdSource {
    MemfdSource::new(crate::sys::memory::page_size().expect("page size")).expect("memfd")
}

pub(super) fn scripted(layout: Layout) -> (CarveoutSource, Arc<Script>) {
    let script = Arc::new(Script::default());
    let files = ScriptedSource { inner: memfd(), script: Arc::clone(&script) };
    let pages = ScriptedPages { script: Arc::clone(&script), available: 2 * CAPACITY };
    let source = CarveoutSource::reserve(bytes(CAPACITY), layout, Arc::new(files), Arc::new(pages));
    (source.expect("reserved"), script)
}

fn reserved(source: &CarveoutSource) -> u64 {
    resident_bytes(source.store.arena.fd()).expect("fstat")
}

pub(super) fn free(source: &CarveoutSource) -> FreeBytes {
    source.store.arena.free_bytes()
}

const ALL_FREE: FreeBytes = FreeBytes { total: CAPACITY, largest: CAPACITY };

#[test]
fn pages_are_set_aside_at_the_start_move_to_buffers_and_come_back() {
    let (source, _) = scripted(ONE_PIECE);
    assert_eq!((reserved(&source), free(&source)), (CAPACITY, ALL_FREE));
    let buffer = make(&source, 3 * PIECE).expect("room");
    let client = buffer.open(Access::ReadWrite).expect("descriptors are left");
    assert_eq!(resident_bytes(&client).expect("fstat"), 3 * PIECE, "not merely promised");
    assert_eq!((reserved(&source), free(&source).total), (5 * PIECE, 5 * PIECE));
    assert_eq!(buffer.ranges(), [0..3 * PIECE]);
    assert!(is_sealed(&client) && !buffer.is_idle().expect("lease"));
    let map = SharedMap::new(client, 3 << 16, Access::ReadWrite).expect("mapped");
    assert!(map.is_zero());
    map.fill(0xa5).expect("writable");
    drop((map, buffer));
    assert_eq!((reserved(&source), free(&source)), (CAPACITY, ALL_FREE));
    let next = make(&source, 3 * PIECE).expect("room");
    assert_eq!(next.ranges(), [0..3 * PIECE]);
    let client = next.open(Access::ReadOnly).expect("descriptors are left");
    assert!(SharedMap::new(client, 3 << 16, Access::ReadOnly).expect("mapped").is_zero());
}

#[test]
fn fragmentation_is_told_from_want() {
    let (source, _) = scripted(ONE_PIECE);
    let mut buffers: Vec<_> = (0..8).map(|_| Some(make(&source, PIECE).expect("room"))).collect();
    let want = make(&source, PIECE).map(drop).expect_err("nothing is free");
    assert!(want.is_exhaustion() && !want.is_fragmentation(), "{want}");
    buffers[1] = None;
    buffers[3] = None;
    let scattered = make(&source, 2 * PIECE).map(drop).expect_err("two pieces are free");
    assert!(scattered.is_exhaustion() && scattered.is_fragmentation());
    let text = "131072 bytes asked in one piece, but the longest free range has 65536 of 131072 free bytes";
    assert_eq!(scattered.to_string(), text);
    buffers[2] = None;
    assert_eq!(make(&source, 3 * PIECE).expect("they joined").ranges(), [PIECE..4 * PIECE]);
}

#[test]
fn chunks_need_not_be_neighbours() {
    let (source, _) = scripted(Layout::Scattered);
    let mut buffers: Vec<_> = (0..8).map(|_| Some(make(&source, PIECE).expect("room"))).collect();
    buffers[1] = None;
    buffers[3] = None;
    let joined = make(&source, 2 * PIECE).expect("two chunks");
    assert_eq!(joined.ranges(), [PIECE..2 * PIECE, 3 * PIECE..4 * PIECE]);
    assert_eq!(reserved(&source), 0);
    drop(joined);
    assert_eq!(reserved(&source), 2 * PIECE);
}

#[test]
fn a_failure_of_any_kernel_call_loses_neither_pages_nor_ranges() {
    let (source, script) = scripted(Layout::Scattered);
    // Two holes, so that a buffer punches twice.
    let mut buffers: Vec<_> = (0..4).map(|_| make(&source, PIECE).expect("room")).collect();
    drop(buffers.remove(2));
    drop(buffers.remove(0));
    let before = (free(&source), reserved(&source));
    let mut calls = 0;
    loop {
        script.fail(calls..calls + 1, libc::ENOMEM);
        let Err(error) = make(&source, 2 * PIECE).map(drop) else { break };
        assert!(error.is_out_of_memory(), "call {calls}: {error}");
        assert_eq!((free(&source), reserved(&source)), before, "call {calls}");
        calls += 1;
    }
    assert_eq!(calls, 4, "two punches, the file, its pages");
}

#[test]
fn a_range_whose_pages_did_not_come_back_serves_again() {
    let (source, script) = scripted(ONE_PIECE);
    let buffer = make(&source, CAPACITY).expect("room");
    script.fail(0..1, libc::ENOMEM);
    drop(buffer);
    assert_eq!((reserved(&source), free(&source)), (0, ALL_FREE));
    let again = make(&source, CAPACITY).expect("the machine has pages");
    drop(again);
    assert_eq!((reserved(&source), free(&source)), (CAPACITY, ALL_FREE), "and now it is whole");
}

#[test]
fn a_carveout_that_leaves_too_little_is_refused_before_anything_is_taken() {
    let page = crate::sys::memory::page_size().expect("page size");
    let script = Arc::new(Script::default());
    let files = || Arc::new(ScriptedSource { inner: memfd(), script: Arc::clone(&script) });
    let pages = |available| Arc::new(ScriptedPages { script: Arc::clone(&script), available });
    let enough = CAPACITY + CAPACITY / 15 + page.bytes();
    // The first call would make the arena's file.
    script.fail(0..usize::MAX, libc::EIO);
    let refused = CarveoutSource::reserve(bytes(CAPACITY), ONE_PIECE, files(), pages(CAPACITY)).map(drop);
    let text = refused.expect_err("all there is").to_string();
    assert_eq!(text, "size is 524288 bytes, but only 491520 of 524288 available bytes can be set aside");
    for failing in [0..1, 1..2] {
        script.fail(failing, libc::ENOMEM);
        let failed = CarveoutSource::reserve(bytes(CAPACITY), ONE_PIECE, files(), pages(enough)).map(drop);
        assert!(
            failed.expect_err("no memory").to_string().starts_with("524288 bytes could not be set aside: ")
        );
    }
    script.fail(0..0, 0);
    CarveoutSource::reserve(bytes(CAPACITY), ONE_PIECE, files(), pages(enough)).expect("enough");
}

#[test]
fn huge_pages_are_set_aside_whole() {
    let page = PageSize::new(2 << 20).expect("a power of two");
    let factory = crate::sys::memfd::MemfdFactory::probe().expect("memfd");
    let files = MemfdSource::with(factory, page, Backing::Hugetlb).expect("memfd");
    let refused = CarveoutSource::reserve(bytes(3 << 20), ONE_PIECE, Arc::new(files), Arc::new(KernelPages));
    let text = refused.map(drop).expect_err("one and a half").to_string();
    assert_eq!(text, "size is 0x300000, but it must be a multiple of the huge page 0x200000 of this machine");
}

#[test]
fn a_buffer_that_gave_pages_back_is_not_kept() {
    let (source, _) = scripted(ONE_PIECE);
    let buffer = make(&source, PIECE).expect("room");
    assert_eq!(buffer.worth_keeping(), Ok(()));
    let client = buffer.open(Access::ReadWrite).expect("opened");
    punch_pages(&client, 0..PIECE / 2).expect("clients can");
    assert_eq!(buffer.worth_keeping(), Err(Unfit::Untouched));
}

#[test]
fn a_buffer_outlives_its_heap() {
    let (source, _) = scripted(ONE_PIECE);
    let buffer = make(&source, PIECE).expect("room");
    drop(source);
    assert!(buffer.scrub().is_ok());
}
