// SPDX-License-Identifier: Apache-2.0
//! dma-bufs of the service's memory through the whole allocator, over a double of the device.

use super::pool::{settle_and_scrub, use_up};
use super::*;
use crate::config::spec::Device;
use crate::heap::PoolCounters;
use crate::heap::scripted::ScriptedDevices;
use crate::source::export::Exporter;
use crate::source::scripted::{ScriptedExporter, ScriptedPages};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The parts of a machine that a test can inspect and make fail.
pub(super) struct Bench {
    pub(super) allocator: Arc<Allocator>,
    script: Arc<Script>,
    exporter: Arc<ScriptedExporter>,
}

/// Returns a machine with udmabuf and this one heap, which pools released memory.
fn with(heap: HeapSpec) -> Bench {
    let page = crate::sys::memory::page_size().expect("page size");
    let script = Arc::new(Script::default());
    assert_eq!(script.files(), 0, "those of memory set aside are counted, too");
    let files = ScriptedSource { inner: MemfdSource::new(page).expect("memfd"), script: Arc::clone(&script) };
    let pages = ScriptedPages { script: Arc::clone(&script), available: 64 * MIB };
    let exporter = Arc::new(ScriptedExporter::new(Arc::clone(&script)));
    let connected = Arc::clone(&exporter) as Arc<dyn Exporter>;
    let machine = Machine {
        pages: Arc::new(pages),
        devices: Arc::new(ScriptedDevices { udmabuf: Some(connected), ..ScriptedDevices::none() }),
        ..Machine::plain(page, 1024 * MIB, Arc::new(files))
    };
    let heap = HeapSpec { device: Device::Udmabuf, deferred_free: true, ..heap };
    let config = Config { heaps: vec![heap], policy: Policy::default(), graphics: vec![] };
    Bench { allocator: Allocator::with_machine(config, machine).expect("allocator"), script, exporter }
}

pub(super) fn frames() -> Bench {
    with(HeapSpec::plain(0, "frames", HeapType::System, None))
}

/// Returns memory set aside for eight buffers of 1 MiB.
fn camera(shared: Option<&str>) -> Bench {
    with(HeapSpec {
        shared: shared.map(str::to_owned),
        ..HeapSpec::plain(0, "camera", HeapType::Carveout, Some(8 * MIB))
    })
}

impl Bench {
    pub(super) fn ask(&self, uid: u32, count: i32) -> Vec<Grant> {
        self.allocator.allocate(&caller(uid), &request(u32::MAX, count, MIB)).expect("served")
    }

    fn counters(&self) -> PoolCounters {
        self.allocator.stats()[0].pool
    }

    fn free_bytes(&self) -> u64 {
        self.allocator.heaps()[0].fragmentation().expect("memory set aside").free_bytes
    }
}

#[test]
fn a_pool_hit_asks_nothing_of_the_device() {
    let bench = frames();
    assert!(bench.allocator.heaps()[0].unavailable().is_none());
    for round in 0..3 {
        let grant = bench.ask(1, 1).remove(0);
        assert_eq!(grant.backing, Backing::Udmabuf);
        let mapping = SharedMap::new(&grant.fd, 1 << 20, Access::ReadWrite).expect("mapped");
        assert!(mapping.is_zero());
        drop(mapping);
        assert_eq!((bench.counters().hits, bench.exporter.exports()), (round, 1));
        use_up(grant);
        settle_and_scrub(&bench.allocator, 1);
    }
}

#[test]
fn another_domain_gets_another_dma_buf() {
    let bench = frames();
    use_up(bench.ask(1, 1).remove(0));
    settle_and_scrub(&bench.allocator, 1);
    drop(bench.ask(2, 1));
    assert_eq!((bench.exporter.exports(), bench.counters().hits), (2, 0));
    drop(bench.ask(1, 1));
    assert_eq!((bench.exporter.exports(), bench.counters().hits), (2, 1));
}

#[test]
fn a_holder_of_a_dma_buf_keeps_it_from_the_next_client() {
    let bench = frames();
    let grant = bench.ask(1, 1).remove(0);
    let copy = grant.fd.try_clone().expect("dup");
    let mapping = SharedMap::new(&grant.fd, 1 << 20, Access::ReadWrite).expect("mapped");
    mapping.fill(7).expect("writable");
    drop(grant);
    settle_and_scrub(&bench.allocator, 1);
    assert_eq!(bench.counters(), PoolCounters { misses: 1, ..PoolCounters::default() }, "copied and mapped");
    drop(copy);
    settle_and_scrub(&bench.allocator, 1);
    assert_eq!(bench.counters().pooled_bytes, 0, "mapped");
    drop(mapping);
    settle_and_scrub(&bench.allocator, 1);
    assert_eq!(bench.counters().pooled_bytes, MIB);
}

#[test]
fn a_buffer_that_a_device_still_uses_is_not_kept_in_the_pool() {
    let bench = frames();
    use_up(bench.ask(1, 1).remove(0));
    bench.exporter.set_settled(false);
    settle_and_scrub(&bench.allocator, 1);
    let counters = bench.counters();
    assert_eq!((counters.pooled_bytes, counters.discarded.of(crate::heap::Discard::Busy)), (0, 1));
}

#[test]
fn sizes_asked_for_again_and_again_are_made_with_their_dma_buf() {
    let bench = frames();
    let held = [bench.ask(1, 1), bench.ask(1, 1)];
    while bench.allocator.preallocate_one() {}
    let made = bench.exporter.exports();
    assert_eq!((bench.counters().preallocated, made), (2, 4));
    bench.script.fail(0..usize::MAX, libc::EIO);
    drop(bench.ask(2, 2));
    assert_eq!(bench.exporter.exports(), made);
    drop(held);
}

#[test]
fn a_carveout_hands_out_ranges_of_its_own_and_takes_them_back() {
    let bench = camera(None);
    let grants = bench.ask(1, 8);
    assert!(grants.iter().all(|grant| grant.backing == Backing::Udmabuf));
    assert_eq!((bench.exporter.exports(), bench.free_bytes()), (8, 0));
    drop(grants);
    settle_and_scrub(&bench.allocator, 1);
    assert_eq!((bench.counters().pooled_bytes, bench.free_bytes()), (8 * MIB, 0));
    drop(bench.ask(1, 8));
    assert_eq!((bench.exporter.exports(), bench.counters().hits), (8, 8), "the same ones");
}

/// Writes to the whole arena, which the double gives to every client.
fn soil(grants: &[Grant]) {
    let arena = File::from(grants[0].fd.try_clone().expect("dup"));
    arena.write_all_at(&vec![0x11; 8 << 20], 0).expect("writable");
}

fn is_clean(grants: &[Grant]) -> bool {
    let arena = File::from(grants[0].fd.try_clone().expect("dup"));
    let mut data = vec![1; 8 << 20];
    arena.read_exact_at(&mut data, 0).expect("readable");
    data.iter().all(|byte| *byte == 0)
}

#[test]
fn ranges_of_one_domain_reach_another_by_way_of_the_kernel() {
    let bench = camera(None);
    let grants = bench.ask(1, 8);
    soil(&grants);
    drop(grants);
    settle_and_scrub(&bench.allocator, 1);
    let before = bench.script.calls();
    let theirs = bench.ask(2, 8);
    assert!(is_clean(&theirs));
    // Eight times: punched, filled, exported; and the earlier attempts that failed.
    assert!(bench.script.calls() - before >= 24, "{}", bench.script.calls() - before);
    assert_eq!(bench.counters().hits, 0);
}

#[test]
fn a_shared_carveout_passes_clean_ranges_on_as_they_are() {
    let bench = camera(Some("one vendor wrote all clients"));
    let grants = bench.ask(1, 8);
    soil(&grants);
    drop(grants);
    settle_and_scrub(&bench.allocator, 1);
    let before = bench.script.calls();
    let theirs = bench.ask(2, 8);
    assert!(is_clean(&theirs));
    assert_eq!((bench.counters().hits, bench.script.calls() - before), (8, 0));
}

#[test]
fn a_failure_of_any_call_of_the_device_leaves_all_as_before() {
    for bench in [frames(), camera(None)] {
        let left = || (bench.script.files(), bench.exporter.alive());
        let asked = request(u32::MAX, 2, MIB);
        let mut calls = 0;
        loop {
            let before = left();
            bench.script.fail(calls..usize::MAX, libc::EIO);
            let made = bench.allocator.allocate(&caller(1), &asked);
            bench.script.fail(0..0, 0);
            let Err(failed) = made else { break };
            assert_eq!(failed.failure(), Some(Failure::Backend), "call {calls}");
            let counters = bench.allocator.stats()[0].counters;
            assert_eq!((counters.buffers, counters.bytes, left()), (0, 0, before), "call {calls}");
            calls += 1;
        }
        assert!(calls >= 2, "each buffer is exported");
        // A descriptor that was not closed would keep its file.
        let Bench { allocator, script, exporter } = bench;
        drop(allocator);
        assert_eq!((script.files(), exporter.alive()), (0, 0));
    }
}
