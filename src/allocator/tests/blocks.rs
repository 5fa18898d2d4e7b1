// SPDX-License-Identifier: Apache-2.0
//! Order pools through the whole allocator, over a double of the device. The double asserts that no
//! client gets a page dirty, twice, or from another trust domain.

use super::pool::settle_and_scrub;
use super::*;
use crate::config::spec::Device;
use crate::heap::scripted::ScriptedDevices;
use crate::heap::{Discard, PoolCounters};
use crate::source::arena::{KernelPages, Pages};
use crate::source::export::{Export, Exporter};
use crate::source::scripted::ScriptedExporter;
use crate::sys::fd::Inode;
use crate::sys::udmabuf::Limits;
use proptest::prelude::*;
use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

const KIB: u64 = 1 << 10;
/// Blocks of 64 KiB, 16 KiB and 4 KiB with pages of 4 KiB.
const ORDERS: [u32; 3] = [4, 2, 0];
/// Most ranges that the double joins.
const RANGES: u64 = 8;

/// The last holder of each page that a client ever had.
#[derive(Default)]
struct Seen {
    /// The client that requests now.
    asking: u32,
    /// The last holder of each page, by its offset; removed when the page returns to the kernel.
    held: HashMap<u64, u32>,
}

/// The device and the kernel's pages, both observed.
struct Witness {
    page: u64,
    device: ScriptedExporter,
    seen: Arc<Mutex<Seen>>,
}

impl Witness {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("not poisoned")
    }
}

impl Pages for Witness {
    fn available(&self) -> io::Result<u64> {
        KernelPages.available()
    }

    fn allocate(&self, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
        KernelPages.allocate(file, range)
    }

    fn punch(&self, file: BorrowedFd<'_>, range: Range<u64>) -> io::Result<()> {
        KernelPages.punch(file, range.clone())?;
        self.seen().held.retain(|place, _| !range.contains(place));
        Ok(())
    }
}

/// One observed dma-buf.
struct Watched {
    inner: Box<dyn Export>,
    file: File,
    ranges: Vec<Range<u64>>,
    page: u64,
    seen: Arc<Mutex<Seen>>,
}

impl Watched {
    fn places(&self) -> impl Iterator<Item = u64> {
        let step = usize::try_from(self.page).expect("small");
        self.ranges.iter().flat_map(move |range| range.clone().step_by(step))
    }
}

impl Exporter for Witness {
    fn limits(&self) -> Limits {
        self.device.limits()
    }

    fn export(&self, file: BorrowedFd<'_>, ranges: &[Range<u64>]) -> io::Result<Box<dyn Export>> {
        let inner = self.device.export(file, ranges)?;
        let (file, ranges) = (File::from(file.try_clone_to_owned()?), ranges.to_vec());
        Ok(Box::new(Watched { inner, file, ranges, page: self.page, seen: Arc::clone(&self.seen) }))
    }
}

impl Export for Watched {
    fn open(&self) -> io::Result<OwnedFd> {
        let client = self.inner.open()?;
        let mut seen = self.seen.lock().expect("not poisoned");
        let asking = seen.asking;
        for place in self.places() {
            let mut data = vec![0; usize::try_from(self.page).expect("small")];
            self.file.read_exact_at(&mut data, place)?;
            assert!(data.iter().all(|byte| *byte == 0), "page {place:#x} is dirty");
            let before = seen.held.insert(place, asking);
            assert!(before.is_none_or(|uid| uid == asking), "page {place:#x} of {before:?} for {asking}");
            self.file.write_all_at(&[0x5a; 64], place)?;
        }
        Ok(client)
    }

    fn inode(&self) -> Inode {
        self.inner.inode()
    }

    fn is_idle(&self) -> io::Result<bool> {
        self.inner.is_idle()
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn set_name(&self, name: &CStr) {
        self.inner.set_name(name);
    }

    fn written(&self) {}
}

struct Bench {
    allocator: Arc<Allocator>,
    script: Arc<Script>,
    witness: Arc<Witness>,
    page: u64,
}

/// Returns one heap of these blocks that pools up to 1 MiB.
fn bench() -> Bench {
    let page = crate::sys::memory::page_size().expect("page size");
    let script = Arc::new(Script::default());
    let witness = Arc::new(Witness {
        page: page.bytes(),
        device: ScriptedExporter::new(Arc::clone(&script)).with_ranges(RANGES),
        seen: Arc::default(),
    });
    let connected: Arc<dyn Exporter> = Arc::clone(&witness) as Arc<dyn Exporter>;
    let machine = Machine {
        pages: Arc::clone(&witness) as Arc<dyn Pages>,
        devices: Arc::new(ScriptedDevices { udmabuf: Some(connected), ..ScriptedDevices::none() }),
        ..Machine::plain(page, 64 * MIB, Arc::new(MemfdSource::new(page).expect("memfd")))
    };
    let heap = HeapSpec {
        device: Device::Udmabuf,
        deferred_free: true,
        pool_orders: ORDERS.to_vec(),
        pool_limit: Some(MIB),
        ..HeapSpec::plain(0, "system", HeapType::System, None)
    };
    let config = Config { heaps: vec![heap], policy: Policy::default(), graphics: vec![] };
    let allocator = Allocator::with_machine(config, machine).expect("allocator");
    Bench { allocator, script, witness, page: page.bytes() }
}

impl Bench {
    fn try_ask(&self, uid: u32, pages: u64) -> Result<Grant, Explanation> {
        self.witness.seen().asking = uid;
        let asked = request(u32::MAX, 1, pages * self.page);
        self.allocator.allocate(&caller(uid), &asked).map(|mut grants| grants.remove(0))
    }

    fn ask(&self, uid: u32, pages: u64) -> Grant {
        self.try_ask(uid, pages).expect("served")
    }

    fn settle(&self) {
        (0..3).for_each(|uid| settle_and_scrub(&self.allocator, uid));
    }

    /// Pools a buffer that a client used.
    fn pool(&self, uid: u32, pages: u64) {
        drop(self.ask(uid, pages));
        self.settle();
    }

    fn counters(&self) -> PoolCounters {
        self.allocator.stats()[0].pool
    }

    fn pooled_pages(&self) -> u64 {
        self.counters().pooled_bytes / self.page
    }
}

#[test]
fn another_size_is_joined_from_what_is_there() {
    let bench = bench();
    bench.pool(1, 64);
    let held = bench.ask(1, 32);
    assert_eq!((bench.counters().hits, bench.counters().misses, bench.pooled_pages()), (1, 1, 32));
    let more = bench.ask(1, 32);
    assert_eq!((bench.counters().hits, bench.pooled_pages()), (2, 0));
    drop((held, more));
    bench.settle();
    // Two buffers that are not adjacent are joined to one.
    let whole = bench.ask(1, 64);
    assert_eq!((bench.counters().hits, bench.counters().misses, bench.pooled_pages()), (3, 1, 0));
    assert_eq!(whole.bytes.get(), 64 * bench.page);
}

#[test]
fn the_same_size_gets_the_same_dma_buf() {
    let bench = bench();
    drop((bench.ask(1, 64), bench.ask(1, 48)));
    bench.settle();
    let made = bench.witness.device.exports();
    drop((bench.ask(1, 64), bench.ask(1, 48)));
    assert_eq!((bench.witness.device.exports(), bench.counters().hits), (made, 2));
}

#[test]
fn missing_blocks_are_made_and_a_small_request_takes_no_large_block_apart() {
    let bench = bench();
    bench.pool(1, 32);
    bench.pool(1, 20);
    // Three blocks of 16 pages and one of 4: the first two come from the buffers of 20 and 32
    // pages.
    let grant = bench.ask(1, 52);
    assert_eq!((bench.counters().hits, bench.counters().misses), (0, 3));
    assert_eq!(bench.pooled_pages(), 0, "{:?}", bench.counters());
    drop(grant);
    bench.pool(1, 36);
    let before = bench.pooled_pages();
    drop(bench.ask(1, 4));
    assert_eq!(bench.pooled_pages(), before - 4, "a single block of the right size is taken");
}

#[test]
fn no_domain_gets_anothers_blocks() {
    let bench = bench();
    bench.pool(1, 64);
    let theirs = bench.ask(2, 32);
    assert_eq!((bench.counters().hits, bench.pooled_pages()), (0, 64));
    drop(theirs);
}

#[test]
fn a_refusal_by_the_device_gives_blocks_and_descriptors_back() {
    let bench = bench();
    bench.pool(1, 64);
    assert_eq!(bench.witness.device.alive(), 1);
    bench.script.fail(0..1, libc::EIO);
    let failed = bench.try_ask(1, 32).map(drop).expect_err("refused");
    assert_eq!(failed.failure(), Some(Failure::Backend));
    assert_eq!((bench.pooled_pages(), bench.allocator.stats()[0].counters.bytes), (64, 0));
    assert_eq!(bench.witness.device.alive(), 0, "the buffer was taken apart, and its dma-buf is gone");
    bench.script.fail(0..0, 0);
    drop(bench.ask(1, 64));
    assert_eq!(bench.counters().hits, 1);
}

#[test]
fn blocks_that_lie_too_scattered_are_left_alone() {
    let bench = bench();
    // Ten single blocks; every second one is held, so that none are adjacent.
    let mut held: Vec<_> = (0..2 * RANGES + 4).map(|_| bench.ask(1, 16)).collect();
    let mut at = 0;
    held.retain(|_| {
        at += 1;
        at % 2 == 0
    });
    bench.settle();
    let pooled = bench.pooled_pages();
    assert_eq!(pooled, (RANGES + 2) * 16);
    let grant = bench.ask(1, (RANGES + 1) * 16);
    assert_eq!((bench.pooled_pages(), bench.counters().hits), (pooled, 0), "newly made, in one piece");
    drop((grant, held));
}

#[test]
fn trimming_gives_the_pages_back() {
    let bench = bench();
    bench.pool(1, 64);
    bench.pool(1, 20);
    let asked = bench.ask(1, 32);
    let privileged = Caller { uid: Uid(nix::unistd::geteuid().as_raw()), pid: 1, context: None };
    let pooled = bench.counters().pooled_bytes;
    assert!(pooled > 0);
    assert_eq!(bench.allocator.trim(&privileged, None, 0).expect("own uid"), pooled);
    let held = bench.witness.seen().held.len() as u64;
    assert_eq!((held, bench.pooled_pages()), (32, 0), "only the client's own pages are left");
    drop(asked);
}

#[derive(Debug, Clone)]
enum Step {
    Ask(u32, u64),
    Release(usize),
    Settle,
    Trim(u64),
    Warm,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u32..3, 1u64..70).prop_map(|(uid, pages)| Step::Ask(uid, pages)),
        3 => (0usize..50).prop_map(Step::Release),
        3 => Just(Step::Settle),
        1 => (1u64..64).prop_map(|pages| Step::Trim(pages * 4 * KIB)),
        1 => Just(Step::Warm),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// The witness asserts that every page is clean and of the requesting domain. This test checks
    /// that no page is lost or counted twice.
    #[test]
    fn every_page_is_held_pooled_or_given_back(steps in steps()) {
        let bench = bench();
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Ask(uid, pages) => held.push(bench.ask(uid, pages)),
                Step::Release(which) if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                Step::Release(_) => {}
                Step::Settle => bench.settle(),
                Step::Trim(bytes) => {
                    bench.allocator.heaps()[0].pool().shrink(bytes);
                }
                Step::Warm => {
                    bench.allocator.preallocate_one();
                }
            }
            prop_assert!(bench.counters().pooled_bytes <= MIB);
        }
        bench.settle();
        let live: u64 = held.iter().map(|grant| grant.bytes.get()).sum();
        let counters = bench.allocator.stats()[0].counters;
        prop_assert_eq!(counters.bytes, live);
        // No client held the pages of preallocated buffers; all other buffers are known.
        let known = bench.witness.seen().held.len() as u64 * bench.page;
        prop_assert!(known <= live + bench.counters().pooled_bytes);
        prop_assert!(known >= live);
        prop_assert_eq!(bench.counters().discarded.of(Discard::ScrubFailed), 0);
        drop(held);
        bench.settle();
        bench.allocator.heaps()[0].pool().shrink(0);
        prop_assert!(bench.witness.seen().held.is_empty(), "a page was not given back");
    }
}
