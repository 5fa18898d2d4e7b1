// SPDX-License-Identifier: Apache-2.0
//! Tests heaps of real huge pages. They need at least eight free ones; `cargo xtask test --only
//! huge-pages` reserves them for the run.

use anion::testing::{
    Allocator, Caller, Count, Failure, Grant, HugePages, Label, Needs, Request, RequestedBytes, Selection,
    Uid, WatchedCgroup, huge_pages, inode, load, page_size, resident_bytes,
};
use anion_memory::map::SharedMap;
use anion_memory::{Access, Backing};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The machine's pages are shared, and the tests count the pages of this process: one test at a
/// time. (nextest: a group in its configuration.)
static PAGES: Mutex<()> = Mutex::new(());

/// Longest time for a thread of lowest priority on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits for the other tests, and until their pages are released.
fn alone() -> MutexGuard<'static, ()> {
    let guard = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
    await_own(0);
    guard
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn pages() -> HugePages {
    huge_pages().expect("/proc/meminfo").expect("a kernel with huge pages")
}

/// Returns the machine's huge pages as soon as enough are free: other programs may use some.
fn machine() -> HugePages {
    assert!(pages().total >= 8, "{} huge pages are set aside, but the test needs 8", pages().total);
    eventually("8 huge pages are free", || pages().free >= 8);
    pages()
}

/// Returns the number of huge pages of this process's descriptors. Other programs may use others.
fn own() -> u64 {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").expect("/proc") {
        let path = entry.expect("an entry").path();
        // Some are closed during the loop.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.blksize() == pages().bytes && fs::read_link(&path).is_ok_and(|to| is_memfd(&to)) {
            files.insert(metadata.ino(), metadata.blocks() * 512);
        }
    }
    files.values().sum::<u64>() / pages().bytes
}

fn is_memfd(target: &Path) -> bool {
    target.to_string_lossy().starts_with("/memfd:")
}

/// Waits until the process has this number of huge pages: the allocator's threads hold pages a
/// moment longer than their user.
fn await_own(count: u64) {
    eventually("the process has the huge pages that it should", || own() == count);
}

fn allocator(heaps: &str) -> Arc<Allocator> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    write!(file, "/dts-v1/; / {{ anion {{ compatible = \"anion,heaps-v1\"; {heaps} }}; }};")
        .expect("written");
    let loaded = load(file.path(), page_size().expect("page size")).expect("readable");
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
        unzeroed: false,
        metadata: None,
    }
}

fn map(grant: &Grant) -> SharedMap {
    let len = usize::try_from(grant.bytes.get()).expect("small");
    SharedMap::new(&grant.fd, len, Access::ReadWrite).expect("mapped")
}

/// Waits until the caller holds nothing and no memory waits for cleaning.
fn settle(allocator: &Allocator) {
    // In this order: released memory is deferred after its release is detected.
    eventually("releases are noticed", || allocator.usage(&caller())[0].buffers == 0);
    eventually("what was released is cleaned", || {
        allocator.stats().iter().all(|view| view.counters.deferred_bytes == 0)
    });
}

#[test]
#[ignore = "needs huge pages: cargo xtask test --only huge-pages"]
fn releases_are_noticed_and_recycled_pages_are_zero() {
    let _alone = alone();
    let huge = machine();
    let allocator = allocator("huge { type = \"system\"; device = \"hugetlb\"; };");
    let heap = &allocator.heaps()[0];
    assert_eq!(heap.unavailable(), None);
    assert_eq!((heap.granularity(), heap.max_alignment()), (huge.bytes, huge.bytes));
    // Under memory pressure, pooled memory is returned at once, and then the test shows nothing.
    eventually("a page is recycled", || {
        show_one_release(&allocator, &huge);
        allocator.stats()[0].pool.hits > 0
    });
    drop(allocator);
    await_own(0);
}

/// Checks that a copy of its descriptor holds a buffer, that the buffer is released with the copy,
/// and that the next buffer is zero.
fn show_one_release(allocator: &Allocator, huge: &HugePages) {
    let first = allocator.allocate(&caller(), &request("huge", 1)).expect("served").remove(0);
    assert_eq!((first.backing, first.bytes.get()), (Backing::Hugetlb, huge.bytes));
    assert_eq!(
        resident_bytes(&first.fd).expect("fstat"),
        huge.bytes,
        "no client can find that there is none"
    );
    assert_eq!(own(), 1);
    let mapping = map(&first);
    assert!(mapping.is_zero());
    mapping.fill(0xa5).expect("writable");
    let copy = first.fd.try_clone().expect("dup");
    drop((mapping, first));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(allocator.usage(&caller())[0].buffers, 1, "the copy holds it");
    drop(copy);
    settle(allocator);
    let second = allocator.allocate(&caller(), &request("huge", 1)).expect("served").remove(0);
    assert!(map(&second).is_zero());
    drop(second);
    settle(allocator);
    allocator.trim(&Caller { uid: Uid(0), ..caller() }, None, 0).expect("root");
    await_own(0);
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
    let all = (huge.total + huge.overcommit) * huge.bytes;
    let beyond = allocator.allocate(&caller(), &request("huge", all + 1)).expect_err("one page too many");
    assert_eq!(beyond.failure(), Some(Failure::NoMemory));
    assert_eq!(own(), 0, "nothing is kept of what failed");
    // Other programs may take and release pages, so this is repeated until none is free.
    let (mut held, mut fallback) = (Vec::new(), None);
    eventually("no huge page is left", || {
        let free = pages().free * huge.bytes;
        if free > 0 {
            held.extend(allocator.allocate(&caller(), &request("huge", free)).into_iter().flatten());
        }
        let contig = allocator.allocate(&caller(), &request("contig", 1));
        let both = allocator.allocate(&caller(), &request("both", 1)).expect("some pages").remove(0);
        let is_all = both.backing == Backing::Memfd && contig.is_err();
        if let Err(refused) = contig {
            assert_eq!(refused.failure(), Some(Failure::NoMemory));
        }
        fallback = Some(both);
        is_all
    });
    let fallback = fallback.expect("ordinary pages");
    assert_eq!((fallback.backing, fallback.bytes.get()), (Backing::Memfd, huge.bytes));
    held.iter().for_each(|grant| map(grant).fill(1).expect("writable"));
    drop(held);
    settle_one(&allocator, &fallback);
    let mut preferred = None;
    eventually("a huge page is preferred again", || {
        let both = allocator.allocate(&caller(), &request("both", 1)).expect("some pages").remove(0);
        preferred = (both.backing == Backing::Hugetlb).then_some(both);
        preferred.is_some()
    });
    let mut contig = None;
    eventually("one page is given as one", || {
        contig = allocator.allocate(&caller(), &request("contig", 1)).ok();
        contig.is_some()
    });
    let contig = contig.expect("it was given").remove(0);
    assert_eq!(contig.bytes.get(), huge.bytes);
    let longer = allocator.allocate(&caller(), &request("contig", huge.bytes + 1)).expect_err("two pages");
    assert_eq!(longer.failure(), Some(Failure::NoMemory));
    assert!(longer.to_string().contains("one huge page"), "{longer}");
}

/// Waits until the caller holds only `kept`.
fn settle_one(allocator: &Allocator, kept: &Grant) {
    eventually("releases are noticed", || allocator.usage(&caller())[0].bytes == kept.bytes.get());
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
    assert_eq!(own(), 4);
    let why = allocator.heaps()[1].unavailable().expect("no whole pages");
    assert!(why.contains("multiple of the huge page"), "{why}");
    let held = allocator.allocate(&caller(), &request("carved", 3 * huge.bytes)).expect("served").remove(0);
    assert_eq!(own(), 4, "they changed hands, no more were taken");
    let figures = allocator.heaps()[0].fragmentation().expect("set aside");
    assert_eq!((figures.free_bytes, figures.largest_free_bytes), (huge.bytes, huge.bytes));
    map(&held).fill(1).expect("writable");
    drop(held);
    settle(&allocator);
    // A separate thread returns large memory to the kernel.
    eventually("its pages are free again", || {
        allocator.heaps()[0].fragmentation().expect("set aside").free_bytes == size
    });
    let again = allocator.allocate(&caller(), &request("carved", size)).expect("all of it").remove(0);
    assert!(map(&again).is_zero());
    drop((again, allocator));
    await_own(0);
}

#[test]
#[ignore = "needs huge pages: cargo xtask test --only huge-pages"]
fn a_client_maps_them_at_their_own_alignment() {
    let _alone = alone();
    let huge = machine();
    let allocator = allocator("huge { type = \"system\"; device = \"hugetlb\"; immediate-free; };");
    let grant = allocator.allocate(&caller(), &request("huge", 2 * huge.bytes)).expect("served").remove(0);
    let mapping = map(&grant);
    // By its inode: other mappings may have the same name.
    let number = inode(&grant.fd).expect("inode").number.to_string();
    let mapped = || {
        let maps = fs::read_to_string("/proc/self/maps").expect("readable");
        let line = maps.lines().find(|line| line.split_whitespace().nth(4) == Some(&number));
        line.map(str::to_owned)
    };
    let line = mapped().expect("mapped");
    let start = u64::from_str_radix(line.split('-').next().expect("an address"), 16).expect("hexadecimal");
    assert!(start.is_multiple_of(huge.bytes), "{line}");
    drop(mapping);
    // A huge page is always mapped and unmapped as a whole.
    drop(SharedMap::new(&grant.fd, 1, Access::ReadOnly).expect("mapped"));
    assert_eq!(mapped(), None, "a mapping was left behind");
}
