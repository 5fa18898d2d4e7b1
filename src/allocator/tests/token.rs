// SPDX-License-Identifier: Apache-2.0
//! Buffers whose release the kernel does not report: the accounts follow their token only.

use super::*;
use crate::config::spec::Device;
use crate::heap::scripted::ScriptedDevices;
use std::os::fd::AsFd;

/// Returns a heap of 8 MiB whose buffers imitate ashmem regions, and a heap of memfds, both with
/// pools.
pub(crate) fn with_regions() -> Arc<Allocator> {
    let page = crate::sys::memory::page_size().expect("page size");
    let regions = crate::source::ashmem::tests::stand_in();
    let devices = ScriptedDevices { ashmem: Some(regions), ..ScriptedDevices::none() };
    let memfd = Arc::new(MemfdSource::new(page).expect("memfd"));
    let machine = Machine { devices: Arc::new(devices), ..Machine::plain(page, 1024 * MIB, memfd) };
    let heap = |id, name, device| HeapSpec {
        device,
        deferred_free: true,
        ..HeapSpec::plain(id, name, HeapType::System, Some(8 * MIB))
    };
    let heaps = vec![heap(1, "regions", Device::Ashmem), heap(0, "files", Device::Memfd)];
    let config = Config { heaps, policy: Policy::default(), graphics: vec![] };
    Allocator::with_machine(config, machine).expect("allocator")
}

fn regions(count: i32) -> Request {
    request(2, count, MIB)
}

/// Returns the bytes and buffers that uid 1 holds, and the number of buffers in the heap.
fn books(allocator: &Allocator) -> (u64, u64, u64) {
    let usage = &allocator.usage(&caller(1))[0];
    (usage.bytes, usage.buffers, allocator.stats()[0].counters.buffers)
}

#[test]
fn a_token_holds_a_buffer_without_descriptors() {
    let allocator = with_regions();
    let grants = allocator.allocate(&caller(1), &regions(2)).expect("served");
    let token = allocator.token(&grants).expect("the kernel does not tell");
    drop(grants);
    allocator.reclaim_from(&caller(1));
    assert_eq!(books(&allocator), (2 * MIB, 2, 2), "closing says nothing");
    assert_eq!(
        allocator.liveness.due(Instant::now() + Duration::from_secs(60)).buffers,
        [],
        "nothing to ask"
    );
    drop(token);
    assert_eq!(books(&allocator), (0, 0, 0));
}

#[test]
fn buffers_are_given_up_one_by_one_and_never_twice() {
    let allocator = with_regions();
    let grants = allocator.allocate(&caller(1), &regions(3)).expect("served");
    let token = allocator.token(&grants).expect("the kernel does not tell");
    token.release(&[grants[1].id]).expect("its own");
    token.release(&[grants[1].id, grants[0].id]).expect("its own, one of them before");
    assert_eq!(books(&allocator), (MIB, 1, 1));
    assert!(allocator.describe(grants[0].fd.as_fd()).is_err(), "not in the books any more");
    token.release(&[]).expect("all");
    drop(token);
    assert_eq!(books(&allocator), (0, 0, 0));
}

#[test]
fn a_token_gives_up_nothing_but_its_own() {
    let allocator = with_regions();
    let mine = allocator.allocate(&caller(1), &regions(1)).expect("served");
    let theirs = allocator.allocate(&caller(2), &regions(1)).expect("served");
    let token = allocator.token(&mine).expect("a token");
    let refused = token.release(&[mine[0].id, theirs[0].id]).expect_err("one is another's");
    assert_eq!(refused.field, "ids");
    assert_eq!(books(&allocator), (MIB, 1, 2), "not even its own");
}

#[test]
fn memory_of_a_released_token_is_never_handed_out_again() {
    let allocator = with_regions();
    let grants = allocator.allocate(&caller(1), &regions(1)).expect("served");
    let map = SharedMap::new(&grants[0].fd, 1 << 20, Access::ReadWrite).expect("mapped");
    map.fill(0xa5).expect("writable");
    drop(allocator.token(&grants).expect("a token"));
    assert!(!allocator.clean_one(), "nothing is cleaned for another");
    let next = allocator.allocate(&caller(1), &regions(1)).expect("served");
    let other = SharedMap::new(&next[0].fd, 1 << 20, Access::ReadWrite).expect("mapped");
    assert!(other.is_zero());
    other.fill(1).expect("writable");
    assert_eq!(allocator.stats()[0].pool.hits, 0);
    let mut byte = [0];
    map.read_at(0, &mut byte).expect("within");
    assert_eq!(byte, [0xa5], "another holder keeps it");
}

#[test]
fn a_reservation_is_ready_again_after_its_buffer_was_given_up() {
    let allocator = with_regions();
    let request = Request { selection: names(&["regions"]), ..regions(1) };
    let reserved = allocator.reserve(&caller(1), &request).expect("room");
    while allocator.make_reserved() {}
    let grants = allocator.allocate(&caller(1), &regions(1)).expect("drawn");
    assert_eq!(reserved.ready(), 0);
    drop(allocator.token(&grants).expect("a token"));
    while allocator.make_reserved() {}
    assert_eq!((reserved.ready(), books(&allocator)), (1, (0, 0, 0)));
}

#[test]
fn only_silent_buffers_have_a_token_and_heaps_say_which() {
    let allocator = with_regions();
    let files = allocator.allocate(&caller(1), &request(1, 1, MIB)).expect("served");
    assert!(allocator.token(&files).is_none());
    let mechanisms: Vec<_> = allocator.heaps().iter().map(Heap::release_mechanism).collect();
    assert_eq!(mechanisms, [ReleaseMechanism::Token, ReleaseMechanism::CloseEvents]);
    let expected = [(Backing::Ashmem, mechanisms[0]), (Backing::Memfd, mechanisms[1])];
    assert_eq!(allocator.release_mechanisms(), expected);
}
