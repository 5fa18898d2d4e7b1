// SPDX-License-Identifier: Apache-2.0
//! Heap types through the whole allocator: memory set aside, fragmentation, ordered sources, one
//! huge page.

use super::*;
use crate::config::spec::Device;
use crate::heap::Fragmentation;
use crate::ledger::FailureCause;
use crate::source::scripted::ScriptedPages;
use crate::sys::memfd::MemfdFactory;
use crate::units::PageSize;

/// The size of a "huge" page: its files are ordinary ones, so that these tests run on any machine.
const HUGE: u64 = 64 << 10;

/// Returns a carveout of 8 MiB that pools released memory, and a machine whose files and pages
/// follow a script.
fn carveout(deferred_free: bool) -> (Arc<Allocator>, Arc<Script>) {
    let carved =
        HeapSpec { deferred_free, ..HeapSpec::plain(2, "carved", HeapType::Carveout, Some(8 * MIB)) };
    let plain = HeapSpec { deferred_free, ..HeapSpec::plain(0, "system", HeapType::System, None) };
    let config = Config { heaps: vec![carved, plain], policy: Policy::default(), graphics: vec![] };
    let page = crate::sys::memory::page_size().expect("page size");
    let script = Arc::new(Script::default());
    let files = ScriptedSource { inner: MemfdSource::new(page).expect("memfd"), script: Arc::clone(&script) };
    let pages = ScriptedPages { script: Arc::clone(&script), available: 64 * MIB };
    let machine = Machine { pages: Arc::new(pages), ..Machine::plain(page, 1024 * MIB, Arc::new(files)) };
    (Allocator::with_machine(config, machine).expect("allocator"), script)
}

/// Returns a machine with huge pages, whose source fails as the script says.
fn with_huge_pages(heap: HeapSpec) -> (Arc<Allocator>, Arc<Script>) {
    let page = crate::sys::memory::page_size().expect("page size");
    let script = Arc::new(Script::default());
    let factory = MemfdFactory::probe().expect("memfd");
    let huge = PageSize::new(HUGE).expect("a power of two");
    let inner = MemfdSource::with(factory, huge, Backing::Hugetlb).expect("memfd");
    let huge = ScriptedSource { inner, script: Arc::clone(&script) };
    let plain = Machine::plain(page, 1024 * MIB, Arc::new(MemfdSource::new(page).expect("memfd")));
    let machine = Machine { hugetlb: Ok(Arc::new(huge)), ..plain };
    let config = Config { heaps: vec![heap], policy: Policy::default(), graphics: vec![] };
    (Allocator::with_machine(config, machine).expect("allocator"), script)
}

fn from(heap: &str, count: i32, bytes: u64) -> Request {
    Request { selection: names(&[heap]), ..request(0, count, bytes) }
}

fn figures(allocator: &Allocator) -> Fragmentation {
    allocator.heaps()[0].fragmentation().expect("memory set aside")
}

/// Detects released buffers and cleans them.
fn settle(allocator: &Allocator) {
    allocator.reclaim_from(&caller(1));
    while allocator.clean_one() {}
}

fn touch(grant: &Grant) {
    let len = usize::try_from(grant.bytes.get()).expect("small");
    SharedMap::new(&grant.fd, len, Access::ReadWrite).expect("mapped").fill(0x5a).expect("writable");
}

/// Fills the carveout with buffers of 1 MiB and releases every second one; returns the others.
fn fragment(allocator: &Allocator) -> Vec<Grant> {
    let mut grants = allocator.allocate(&caller(1), &from("carved", 8, MIB)).expect("the whole heap");
    grants.iter().for_each(touch);
    let mut index = 0;
    grants.retain(|_| {
        index += 1;
        index % 2 == 0
    });
    grants
}

#[test]
fn a_request_that_no_free_piece_holds_is_counted_and_foretold() {
    let (allocator, _) = carveout(false);
    let held = fragment(&allocator);
    settle(&allocator);
    assert_eq!(
        figures(&allocator),
        Fragmentation { free_bytes: 4 * MIB, largest_free_bytes: MIB, failures: 0 }
    );
    for (asked, fits) in [(from("carved", 1, 2 * MIB), MIB), (from("carved", 3, MIB + PAGE), MIB)] {
        let explained = allocator.explain(&caller(1), &asked);
        assert_eq!((explained.failure(), explained.verdicts[0].fits_bytes), (Some(Failure::NoMemory), fits));
        let failed = allocator.allocate(&caller(1), &asked).expect_err("fragmented");
        assert_eq!(failed.to_string(), explained.to_string());
        assert_eq!(failed.verdicts[0].fits_bytes, fits);
        assert!(failed.to_string().contains("in one piece"), "{failed}");
    }
    assert_eq!(figures(&allocator).failures, 2);
    assert_eq!(allocator.stats()[0].counters.failed(FailureCause::NoMemory), 2);
    let mut more = allocator.allocate(&caller(1), &from("carved", 4, MIB)).expect("as foretold");
    more.extend(held);
    let full = allocator.allocate(&caller(1), &from("carved", 1, PAGE)).expect_err("full");
    assert_eq!(
        (full.failure(), figures(&allocator).failures),
        (Some(Failure::NoMemory), 2),
        "not fragmented"
    );
}

#[test]
fn the_pool_is_emptied_for_a_long_piece_and_other_heaps_keep_theirs() {
    let (allocator, _) = carveout(true);
    let other = allocator.allocate(&caller(1), &from("system", 1, MIB)).expect("served").remove(0);
    touch(&other);
    drop(other);
    let grants = allocator.allocate(&caller(1), &from("carved", 8, MIB)).expect("the whole heap");
    grants.iter().for_each(touch);
    drop(grants);
    settle(&allocator);
    let pooled = || allocator.stats().iter().map(|view| view.pool.pooled_bytes / MIB).collect::<Vec<_>>();
    assert_eq!(pooled(), [8, 1]);
    assert_eq!(figures(&allocator).free_bytes, 0, "pooled buffers keep their ranges");
    let asked = from("carved", 1, 6 * MIB);
    let explained = allocator.explain(&caller(1), &asked);
    assert_eq!((explained.failure(), explained.verdicts[0].fits_bytes), (None, 8 * MIB));
    assert_eq!(pooled(), [8, 1], "asking changes nothing");
    // The account has room for six. The pool decides which six it evicts, so the rest may be an
    // obstacle.
    allocator.allocate(&caller(2), &asked).expect("the pool made room");
    assert_eq!((pooled()[1], figures(&allocator).failures), (1, 0));
}

#[test]
fn buffers_that_are_reserved_and_made_need_no_place() {
    let (allocator, _) = carveout(true);
    let reservation = allocator.reserve(&caller(1), &from("carved", 2, 3 * MIB)).expect("room");
    while allocator.make_reserved() {}
    assert_eq!((reservation.ready(), figures(&allocator).free_bytes), (2, 2 * MIB));
    let asked = from("carved", 2, 3 * MIB);
    assert_eq!(allocator.explain(&caller(1), &asked).failure(), None);
    assert_eq!(allocator.explain(&caller(2), &asked).failure(), Some(Failure::NoMemory));
    assert_eq!(allocator.allocate(&caller(1), &asked).expect("made beforehand").len(), 2);
}

#[test]
fn a_reservation_displaces_pooled_memory_and_is_refused_without_a_place() {
    let (allocator, _) = carveout(true);
    let held = fragment(&allocator);
    settle(&allocator);
    let asked = from("carved", 1, 2 * MIB);
    let refused = allocator.reserve(&caller(2), &asked).map(drop).expect_err("no piece is long enough");
    assert!(refused.to_string().contains("in one piece"), "{refused}");
    drop(held);
    settle(&allocator);
    assert_eq!(figures(&allocator).free_bytes, 0, "all of it is pooled, for another domain");
    let reservation = allocator.reserve(&caller(2), &asked).expect("the pool can make room");
    while allocator.make_reserved() {}
    assert_eq!(reservation.ready(), 1);
}

#[test]
fn pressure_leaves_alone_what_no_other_process_could_have() {
    let (allocator, _) = carveout(true);
    for heap in ["carved", "system"] {
        let grants = allocator.allocate(&caller(1), &from(heap, 2, MIB)).expect("served");
        grants.iter().for_each(touch);
    }
    settle(&allocator);
    allocator.relieve(PressureLevel::Moderate);
    let pooled: Vec<_> = allocator.stats().iter().map(|view| view.pool.pooled_bytes / MIB).collect();
    assert_eq!(pooled, [2, 1]);
}

#[test]
fn a_failure_of_any_kernel_call_leaves_a_carveout_as_before() {
    let (allocator, script) = carveout(false);
    let asked = from("carved", 2, MIB);
    for (errno, failure) in [(libc::ENOSPC, Failure::NoMemory), (libc::EIO, Failure::Backend)] {
        let mut calls = 0;
        loop {
            let (before, files) = (allocator.stats()[0].counters, script.files());
            script.fail(calls..usize::MAX, errno);
            let made = allocator.allocate(&caller(1), &asked);
            script.fail(0..0, 0);
            let Err(failed) = made else { break };
            assert_eq!(failed.failure(), Some(failure), "call {calls}");
            let after = allocator.stats()[0].counters;
            assert_eq!((after.buffers, after.bytes, after.allocations), (0, 0, before.allocations));
            assert_eq!(
                (figures(&allocator).free_bytes, figures(&allocator).largest_free_bytes),
                (8 * MIB, 8 * MIB)
            );
            assert_eq!(script.files(), files, "call {calls} of errno {errno}");
            // The next request finds pages again, even if the kernel took some meanwhile.
            drop(allocator.allocate(&caller(1), &from("carved", 1, 8 * MIB)).expect("nothing is lost"));
            settle(&allocator);
            calls += 1;
        }
        assert_eq!(calls, 8, "punch, file, pages and open, twice");
        settle(&allocator);
    }
}

#[test]
fn a_carveout_larger_than_the_machine_is_unavailable_and_says_so() {
    let heaps = vec![
        HeapSpec::plain(2, "vast", HeapType::Carveout, Some(1 << 50)),
        HeapSpec::plain(0, "system", HeapType::System, None),
    ];
    let allocator = still(Config { heaps, policy: Policy::default(), graphics: vec![] });
    let why = allocator.heaps()[0].unavailable().expect("unavailable");
    assert!(
        why.contains("1125899906842624 bytes") && why.contains("available bytes can be set aside"),
        "{why}"
    );
    assert_eq!(allocator.heaps()[0].fragmentation(), None);
    let grants = allocator.allocate(&caller(1), &request(u32::MAX, 1, PAGE)).expect("the next heap");
    assert_eq!(grants[0].heap_name.as_str(), "system");
}

#[test]
fn one_huge_page_is_contiguous_and_more_is_refused_by_name() {
    let (allocator, _) = with_huge_pages(HeapSpec::plain(1, "contig", HeapType::SystemContig, None));
    let heap = &allocator.heaps()[0];
    assert!(heap.is_contiguous() && heap.unavailable().is_none());
    assert_eq!((heap.granularity(), heap.max_alignment(), heap.max_buffer_bytes()), (HUGE, HUGE, HUGE));
    let grant = allocator.allocate(&caller(1), &from("contig", 1, 1)).expect("served").remove(0);
    assert_eq!((grant.bytes.get(), grant.backing), (HUGE, Backing::Hugetlb));
    let refused = allocator.allocate(&caller(1), &from("contig", 1, HUGE + 1)).expect_err("two pages");
    assert_eq!((refused.failure(), refused.verdicts[0].fits_bytes), (Some(Failure::NoMemory), HUGE));
    assert!(refused.to_string().contains("at most 65536, one huge page"), "{refused}");
    assert!(!still(config()).heaps()[1].is_contiguous());
}

#[test]
fn a_custom_heap_goes_on_to_its_next_source_and_each_buffer_tells_its_own() {
    let heap = HeapSpec {
        devices: vec![Device::Udmabuf, Device::Hugetlb, Device::Memfd],
        ..HeapSpec::plain(5, "mixed", HeapType::Custom, None)
    };
    let (allocator, script) = with_huge_pages(heap);
    assert_eq!(allocator.heaps()[0].backing(), Backing::Hugetlb, "what is missing is left out");
    assert_eq!(allocator.heaps()[0].granularity(), HUGE);
    let asked = from("mixed", 1, 1);
    let first = allocator.allocate(&caller(1), &asked).expect("huge").remove(0);
    script.fail(0..1, libc::ENOSPC);
    let second = allocator.allocate(&caller(1), &asked).expect("ordinary").remove(0);
    assert_eq!((first.backing, second.backing), (Backing::Hugetlb, Backing::Memfd));
    assert_eq!(second.bytes.get(), HUGE, "one granularity for all");
    let described = |grant: &Grant| allocator.describe(&grant.fd).expect("ours").backing;
    assert_eq!((described(&first), described(&second)), (Backing::Hugetlb, Backing::Memfd));
    let listed: Vec<_> = allocator.buffers(&caller(1)).iter().map(|view| view.backing).collect();
    assert_eq!(listed, [Backing::Hugetlb, Backing::Memfd]);
}

#[test]
fn a_custom_heap_without_any_source_names_them_all() {
    let heap = HeapSpec {
        devices: vec![Device::Udmabuf, Device::Hugetlb],
        ..HeapSpec::plain(5, "mixed", HeapType::Custom, None)
    };
    let allocator = still(Config { heaps: vec![heap], policy: Policy::default(), graphics: vec![] });
    let why = allocator.heaps()[0].unavailable().expect("unavailable");
    assert!(why.contains("udmabuf: ") && why.contains("hugetlb: "), "{why}");
}

#[test]
fn huge_pages_whose_releases_go_unnoticed_are_not_used() {
    let page = crate::sys::memory::page_size().expect("page size");
    let memfd = Arc::new(MemfdSource::new(page).expect("memfd"));
    let script = Arc::new(Script::default());
    let broken =
        ScriptedSource { inner: MemfdSource::new(page).expect("memfd"), script: Arc::clone(&script) };
    let machine = Machine { hugetlb: Ok(Arc::new(broken)), ..Machine::plain(page, 1024 * MIB, memfd) };
    let heap = HeapSpec { device: Device::Hugetlb, ..HeapSpec::plain(0, "huge", HeapType::System, None) };
    script.fail(1..2, libc::EIO);
    let config = Config { heaps: vec![heap], policy: Policy::default(), graphics: vec![] };
    let allocator = Allocator::with_machine(config, machine).expect("the other heaps would serve");
    let why = allocator.heaps()[0].unavailable().expect("unavailable");
    assert!(why.starts_with("its releases cannot be detected"), "{why}");
}
