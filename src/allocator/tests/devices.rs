// SPDX-License-Identifier: Apache-2.0
//! Devices that appear while the service runs, and a new configuration.

use super::pool::{settle_and_scrub, use_up};
use super::*;
use crate::allocator::reconfigure::Kept;
use crate::config::spec::{ClientPolicy, Device, Quota, Reserve};
use crate::heap::scripted::LaterDevices;
use crate::source::export::Exporter;
use crate::source::scripted::{ScriptedExporter, ScriptedPages};
use crate::units::HeapName;

/// Returns heaps that pool released memory, on a machine whose udmabuf appears later.
fn before(heaps: Vec<HeapSpec>) -> (Arc<Allocator>, Arc<LaterDevices>) {
    let page = crate::sys::memory::page_size().expect("page size");
    let script = Arc::new(Script::default());
    let files = ScriptedSource { inner: MemfdSource::new(page).expect("memfd"), script: Arc::clone(&script) };
    let pages = ScriptedPages { script: Arc::clone(&script), available: 64 * MIB };
    let exporter = Arc::new(ScriptedExporter::new(Arc::clone(&script))) as Arc<dyn Exporter>;
    let devices = Arc::new(LaterDevices::udmabuf(exporter));
    let machine = Machine {
        pages: Arc::new(pages),
        devices: Arc::clone(&devices) as _,
        ..Machine::plain(page, 1024 * MIB, Arc::new(files))
    };
    let heaps = heaps.into_iter().map(|heap| HeapSpec { deferred_free: true, ..heap }).collect();
    let config = Config { heaps, policy: Policy::default(), graphics: vec![] };
    (Allocator::with_machine(config, machine).expect("allocator"), devices)
}

fn dma_bufs(count: i32) -> Request {
    let mut request = request(u32::MAX, count, MIB);
    request.needs.dma_buf = true;
    request
}

fn kinds(grants: &[Grant]) -> Vec<Backing> {
    grants.iter().map(|grant| grant.backing).collect()
}

#[test]
fn a_heap_gets_the_device_that_it_would_rather_have_once_that_is_there() {
    let (allocator, devices) = before(vec![HeapSpec::plain(0, "frames", HeapType::System, None)]);
    let ask = |request: &Request| allocator.allocate(&caller(1), request);
    let old = ask(&request(u32::MAX, 2, MIB)).expect("served");
    assert_eq!(kinds(&old), [Backing::Memfd; 2]);
    let _ready = allocator.reserve(&caller(1), &request(u32::MAX, 1, MIB)).expect("reserved");
    while allocator.make_reserved() {}
    for grant in old {
        use_up(grant);
    }
    settle_and_scrub(&allocator, 2);
    let held = ask(&request(u32::MAX, 2, 2 * MIB)).expect("served");
    allocator.retry_devices();
    assert_eq!(allocator.heaps()[0].backing(), Backing::Memfd, "nothing appeared");
    ask(&dma_bufs(1)).expect_err("it has none yet");

    devices.appear();
    assert!(allocator.lacks_devices());
    allocator.retry_devices();
    let heap = &allocator.heaps()[0];
    assert_eq!((heap.backing(), heap.passed_over().contains("udmabuf")), (Backing::Udmabuf, false));
    assert_eq!(allocator.stats()[0].pool.pooled_bytes, 0, "what the memfds had has gone back");
    // One of them was reserved, and made before.
    let new = ask(&dma_bufs(3)).expect("served");
    assert_eq!(kinds(&new), [Backing::Udmabuf; 3]);
    // Buffers that clients hold stay charged, and are neither pooled nor reused later.
    assert_eq!(allocator.usage(&caller(1))[0].buffers, 5);
    for grant in held.into_iter().chain(new) {
        use_up(grant);
    }
    settle_and_scrub(&allocator, 5);
    for bytes in [MIB, 2 * MIB] {
        let again = ask(&request(u32::MAX, 3, bytes)).expect("served");
        assert_eq!(kinds(&again), [Backing::Udmabuf; 3]);
    }
}

#[test]
fn an_unavailable_heap_is_served_once_its_device_is_there() {
    let strict = HeapSpec { device: Device::Udmabuf, ..HeapSpec::plain(0, "strict", HeapType::System, None) };
    let (allocator, devices) = before(vec![strict]);
    allocator.allocate(&caller(1), &request(u32::MAX, 1, MIB)).expect_err("unavailable");
    devices.appear();
    allocator.retry_devices();
    assert_eq!(allocator.heaps()[0].unavailable(), None);
    assert!(!allocator.lacks_devices());
    for hits in [0, 1] {
        let grant = allocator.allocate(&caller(1), &dma_bufs(1)).expect("served").remove(0);
        assert_eq!(allocator.stats()[0].pool.hits, hits, "it keeps what is released");
        use_up(grant);
        settle_and_scrub(&allocator, 1);
    }
}

#[test]
fn memory_that_was_set_aside_is_not_exchanged() {
    let camera = HeapSpec {
        device: Device::Udmabuf,
        fallbacks: vec![Device::Memfd],
        ..HeapSpec::plain(0, "camera", HeapType::Carveout, Some(8 * MIB))
    };
    let (allocator, devices) = before(vec![camera]);
    devices.appear();
    assert!(!allocator.lacks_devices());
    allocator.retry_devices();
    let heap = &allocator.heaps()[0];
    assert_eq!((heap.backing(), heap.passed_over().contains("udmabuf")), (Backing::Memfd, true));
}

fn client(name: &str, uid: u32, max_bytes: u64) -> ClientPolicy {
    ClientPolicy {
        name: name.to_owned(),
        uids: vec![Uid(uid)],
        quota: Quota { max_bytes: Some(max_bytes), max_buffers: None },
        privileged: true,
        reserves: vec![],
    }
}

#[test]
fn another_policy_holds_at_once_and_other_heaps_are_named() {
    let allocator = still(config());
    let held = allocator.allocate(&caller(7), &request(u32::MAX, 2, MIB)).expect("served");
    let mut new = config();
    new.policy = Policy {
        default: Quota { max_bytes: Some(MIB), max_buffers: Some(1) },
        clients: vec![client("camera", 1047, 4 * MIB)],
    };
    assert_eq!(allocator.reconfigure(&new), []);
    let usage = allocator.usage(&caller(7)).remove(0);
    assert_eq!((usage.bytes, usage.max_bytes, usage.max_buffers), (2 * MIB, Some(MIB), Some(1)));
    allocator.allocate(&caller(7), &request(u32::MAX, 1, 4096)).expect_err("beyond its quota");
    drop(held);
    allocator.allocate(&caller(7), &request(u32::MAX, 1, 4096)).expect("within");
    allocator.trim(&caller(1047), None, 0).expect("privileged now");

    let name = |name: &str| HeapName::new(name).expect("valid");
    new.heaps[0].cached = false;
    new.heaps[0].pool_limit = Some(MIB);
    let gone = new.heaps.remove(1).name;
    new.heaps.push(HeapSpec::plain(9, "another", HeapType::System, None));
    let changed = new.heaps[0].name.clone();
    new.policy.clients[0].reserves = vec![Reserve { heap: changed.clone(), bytes: MIB }];
    let kept = allocator.reconfigure(&new);
    let expected = [
        Kept::Changed(changed.clone(), vec!["cached", "pool-limit"]),
        Kept::Added(name("another")),
        Kept::Removed(gone),
        Kept::Reserves(changed),
    ];
    assert_eq!(kept, expected);
    assert_eq!(allocator.heaps().len(), config().heaps.len());
}
