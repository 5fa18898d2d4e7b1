// SPDX-License-Identifier: Apache-2.0
//! Heaps over real huge pages. They need at least eight that are free; `cargo xtask test --only huge-pages` sets them
//! aside for the run.

use anion::allocator::{Allocator, Caller, Failure, Grant, Request, Selection, WatchedCgroup};
use anion::config;
use anion::heap::Needs;
use anion::sys::fd::resident_bytes;
use anion::sys::map::SharedMap;
use anion::sys::memory::{HugePages, huge_pages, page_size};
use anion::units::{Access, Backing, Count, Label, RequestedBytes, Uid};
use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The pages are the machine's: one test at a time counts them. (nextest: a group in its configuration.)
static PAGES: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    PAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn machine() -> HugePages {
    let huge = huge_pages().expect("/proc/meminfo").expect("a kernel with huge pages");
    assert!(huge.free >= 8, "{} of {} huge pages are free, but the test needs 8", huge.free, huge.total);
    huge
}

fn allocator(heaps: &str) -> Arc<Allocator> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    write!(file, "/dts-v1/; / {{ anion {{ compatible = \"anion,heaps-v1\"; {heaps} }}; }};")
        .expect("written");
    let loaded = config::load(file.path(), page_size().expect("page size")).expect("readable");
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    Allocator::new(loaded.config, &WatchedCgroup::None).expect("an allocator")
}

fn caller() -> Caller {
    Caller { uid: Uid(1000), pid: 1, context: None }
}

fn request(heap: &str, bytes: u64) -> Request {
    let bytes = RequestedBytes(i64::try_from(bytes).expect("small"));
    Request {
        needs: Needs { bytes, alignment: 0, cached: false, dma_buf: false, access: Access::ReadWrite },
        count: Count::new(1).expect("valid"),
        selection: Selection::Names(vec![heap.to_owned()]),
        label: Label::new("huge").expect("valid"),
    }
}

fn map(grant: &Grant) -> SharedMap {
    let len = usize::try_from(grant.bytes.get()).expect("small");
    SharedMap::new(&grant.fd, len, Access::ReadWrite).expect("mapped")
}

/// Waits until the caller holds nothing and nothing waits to be cleaned.
fn settle(allocator: &Allocator) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let busy = || {
        let deferred: u64 = allocator.stats().iter().map(|view| view.counters.deferred_bytes).sum();
        allocator.usage(&caller())[0].buffers > 0 || deferred > 0
    };
    while busy() {
        assert!(Instant::now() < deadline, "a release was not noticed");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[ignore = "needs huge pages: cargo xtask test --only huge-pages"]
fn releases_are_noticed_and_recycled_pages_are_zero() {
    let _alone = alone();
    let huge = machine();
    let allocator = allocator("huge { type = \"system\"; device = \"hugetlb\"; };");
    let heap = &allocator.heaps()[0];
    assert_eq!(heap.unavailable(), None);
    assert_eq!((heap.granule(), heap.max_alignment()), (huge.bytes, huge.bytes));
    let first = allocator.allocate(&caller(), &request("huge", 1)).expect("served").remove(0);
    assert_eq!((first.backing, first.bytes.get()), (Backing::Hugetlb, huge.bytes));
    assert_eq!(
        resident_bytes(&first.fd).expect("fstat"),
        huge.bytes,
        "no client can find that there is none"
    );
    assert_eq!(machine().free, huge.free - 1);
    let mapping = map(&first);
    assert!(mapping.is_zero());
    mapping.fill(0xa5).expect("writable");
    let copy = first.fd.try_clone().expect("dup");
    drop((mapping, first));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(allocator.usage(&caller())[0].buffers, 1, "the copy holds it");
    drop(copy);
    settle(&allocator);
    let second = allocator.allocate(&caller(), &request("huge", 1)).expect("served").remove(0);
    assert_eq!(allocator.stats()[0].stock.hits, 1);
    assert!(map(&second).is_zero());
    drop((second, allocator));
    assert_eq!(machine().free, huge.free);
}

#[test]
#[ignore = "needs huge pages: cargo xtask test --only huge-pages"]
fn running_out_is_an_error_and_never_a_fault() {
    let _alone = alone();
    let huge = machine();
    let allocator = allocator(
        "huge { type = \"system\"; device = \"hugetlb\"; immediate-free; };
         both { type = \"custom\"; devices = \"hugetlb\", \"memfd\"; };
         contig { type = \"system-contig\"; };",
    );
    let all = huge.free * huge.bytes;
    let beyond = allocator.allocate(&caller(), &request("huge", all + 1)).expect_err("one page too many");
    assert_eq!(beyond.failure(), Some(Failure::NoMemory));
    assert_eq!(machine().free, huge.free, "nothing is kept of what failed");
    let held = allocator.allocate(&caller(), &request("huge", all)).expect("all of them").remove(0);
    map(&held).fill(1).expect("writable");
    let contig = allocator.allocate(&caller(), &request("contig", 1)).expect_err("none is left");
    assert_eq!(contig.failure(), Some(Failure::NoMemory));
    let fallback = allocator.allocate(&caller(), &request("both", 1)).expect("ordinary pages").remove(0);
    assert_eq!((fallback.backing, fallback.bytes.get()), (Backing::Memfd, huge.bytes));
    drop(held);
    settle_one(&allocator, &fallback);
    let preferred = allocator.allocate(&caller(), &request("both", 1)).expect("huge again").remove(0);
    assert_eq!(preferred.backing, Backing::Hugetlb);
    let contig = allocator.allocate(&caller(), &request("contig", 1)).expect("one page").remove(0);
    assert_eq!(contig.bytes.get(), huge.bytes);
    let longer = allocator.allocate(&caller(), &request("contig", huge.bytes + 1)).expect_err("two pages");
    assert_eq!(longer.failure(), Some(Failure::NoMemory));
    assert!(longer.to_string().contains("one huge page"), "{longer}");
}

/// Waits until `kept` is all that the caller holds.
fn settle_one(allocator: &Allocator, kept: &Grant) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while allocator.usage(&caller())[0].bytes > kept.bytes.get() {
        assert!(Instant::now() < deadline, "a release was not noticed");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[ignore = "needs huge pages: cargo xtask test --only huge-pages"]
fn a_carveout_of_huge_pages_has_them_from_the_start() {
    let _alone = alone();
    let huge = machine();
    let (size, odd) = (4 * huge.bytes, huge.bytes + huge.bytes / 2);
    let allocator = allocator(&format!(
        "carved {{ type = \"carveout\"; heap-id = <1>; size = <{size:#x}>; device = \"hugetlb\"; }};
         odd {{ type = \"carveout\"; heap-id = <0>; size = <{odd:#x}>; device = \"hugetlb\"; }};"
    ));
    assert_eq!(machine().free, huge.free - 4);
    let why = allocator.heaps()[1].unavailable().expect("no whole pages");
    assert!(why.contains("multiple of the huge page"), "{why}");
    let held = allocator.allocate(&caller(), &request("carved", 3 * huge.bytes)).expect("served").remove(0);
    assert_eq!(machine().free, huge.free - 4, "they changed hands, no more were taken");
    let figures = allocator.heaps()[0].fragmentation().expect("set aside");
    assert_eq!((figures.free_bytes, figures.largest_free_bytes), (huge.bytes, huge.bytes));
    map(&held).fill(1).expect("writable");
    drop(held);
    settle(&allocator);
    assert_eq!(allocator.heaps()[0].fragmentation().expect("set aside").free_bytes, size);
    let again = allocator.allocate(&caller(), &request("carved", size)).expect("all of it").remove(0);
    assert!(map(&again).is_zero());
    drop((again, allocator));
    assert_eq!(machine().free, huge.free);
}

#[test]
#[ignore = "needs huge pages: cargo xtask test --only huge-pages"]
fn a_client_maps_them_at_their_own_alignment() {
    let _alone = alone();
    let huge = machine();
    let allocator = allocator("huge { type = \"system\"; device = \"hugetlb\"; immediate-free; };");
    let grant = allocator.allocate(&caller(), &request("huge", 2 * huge.bytes)).expect("served").remove(0);
    let mapping = map(&grant);
    let maps = fs::read_to_string("/proc/self/maps").expect("readable");
    let line = maps.lines().find(|line| line.contains("memfd:anion")).expect("mapped");
    let start = u64::from_str_radix(line.split('-').next().expect("an address"), 16).expect("hexadecimal");
    assert!(start.is_multiple_of(huge.bytes), "{line}");
    drop(mapping);
    // A part of a huge page is mapped and unmapped as a whole.
    drop(SharedMap::new(&grant.fd, 1, Access::ReadOnly).expect("mapped"));
    let maps = fs::read_to_string("/proc/self/maps").expect("readable");
    assert!(!maps.contains("memfd:anion"), "a mapping was left behind:\n{maps}");
}
