// SPDX-License-Identifier: Apache-2.0
//! Buffers that outlive the service that made them: the next one counts them as before.

use super::metadata::images;
use super::*;
use crate::sys::fd::DescriptorDirectory;
use std::os::fd::AsFd;

/// Returns all that the service would give to the next one.
fn carried(allocator: &Allocator) -> Vec<Carried> {
    allocator.carried().map(|carried| carried.expect("descriptors are left")).collect()
}

#[test]
fn the_next_service_counts_and_describes_every_buffer_as_before() {
    let first = still(config());
    let plain = first.allocate(&caller(1), &request(u32::MAX, 2, MIB)).expect("camera");
    let small = first.allocate(&caller(2), &request(1, 1, PAGE)).expect("system");
    let image = first.allocate(&caller(2), &images(1)).expect("system");
    let before: Vec<_> = first.buffers(&caller(0)).into_iter().map(|view| view.record).collect();
    let ids: Vec<_> = before.iter().map(|record| record.id).collect();
    let usage = [1, 2].map(|uid| charged(&first, uid));
    let carried = carried(&first);
    drop(first);
    let second = still(config());
    for carried in carried {
        second.carry_over(carried).expect("taken over");
    }
    let after: Vec<_> = second.buffers(&caller(0)).into_iter().map(|view| view.record).collect();
    assert_eq!((after, [1, 2].map(|uid| charged(&second, uid))), (before, usage));
    let heaps = second.stats();
    assert_eq!((heaps[0].counters.bytes, heaps[1].counters.buffers), (2 * MIB, 2));
    for grant in plain.iter().chain(&small).chain(&image) {
        assert_eq!(second.describe(&grant.fd).expect("known").record.id, grant.id);
    }
    // The file of the metadata alone holds an image, too.
    let metadata = image.into_iter().next().and_then(|grant| grant.metadata).expect("an image");
    drop((plain, small));
    second.start_reaper().expect("thread");
    await_held(&second, 1, 0);
    await_held(&second, 2, 1);
    drop(metadata);
    await_held(&second, 2, 0);
    let next = second.allocate(&caller(1), &request(1, 1, PAGE)).expect("room");
    assert!(ids.iter().all(|id| *id < next[0].id), "ids do not repeat");
}

#[test]
fn what_was_released_between_two_services_is_noticed() {
    let first = still(config());
    let grants = first.allocate(&caller(1), &request(u32::MAX, 3, PAGE)).expect("room");
    let carried = carried(&first);
    drop((first, grants));
    let second = still(config());
    for carried in carried {
        second.carry_over(carried).expect("taken over");
    }
    second.start_reaper().expect("thread");
    await_held(&second, 1, 0);
}

#[test]
fn memory_of_an_earlier_service_is_not_pooled() {
    let mut config = config();
    config.heaps.iter_mut().for_each(|heap| heap.deferred_free = true);
    let first = still(config.clone());
    let grants = first.allocate(&caller(1), &request(1, 1, MIB)).expect("room");
    SharedMap::new(&grants[0].fd, 1 << 20, Access::ReadWrite).expect("mapped").fill(7).expect("writable");
    let carried = carried(&first);
    let second = still(config);
    for carried in carried {
        second.carry_over(carried).expect("taken over");
    }
    drop((first, grants));
    second.start_reaper().expect("thread");
    await_held(&second, 1, 0);
    let view = second.stats()[1];
    assert_eq!((view.pool.pooled_bytes, view.pool.discarded.total(), view.counters.frees), (0, 0, 1));
}

#[test]
fn limits_do_not_apply_to_buffers_that_clients_hold_already() {
    let first = still(config());
    let grants = first.allocate(&caller(1), &request(4, 1, 4 * MIB)).expect("the whole heap");
    let carried = carried(&first);
    let mut config = config();
    config.heaps[0].size = Some(MIB);
    config.policy.default = Quota { max_bytes: Some(PAGE), max_buffers: Some(1) };
    let second = still(config);
    for carried in carried {
        second.carry_over(carried).expect("taken over");
    }
    assert_eq!(charged(&second, 1), (4 * MIB, 1));
    assert!(second.allocate(&caller(1), &request(1, 1, PAGE)).is_err());
    assert!(second.allocate(&caller(2), &request(4, 1, PAGE)).is_err(), "no room");
    drop((first, grants));
    second.start_reaper().expect("thread");
    await_held(&second, 1, 0);
    second.allocate(&caller(2), &request(4, 1, PAGE)).expect("room again");
}

#[test]
fn a_buffer_that_is_not_as_described_is_refused_and_charged_to_none() {
    let first = still(config());
    let grants = first.allocate(&caller(1), &request(1, 1, PAGE)).expect("room");
    let again = || carried(&first).remove(0);
    let second = still(config());
    let refused = |carried| second.carry_over(carried).expect_err("refused").to_string();

    let mut other = again();
    other.held.inode.number += 1;
    assert!(refused(other).contains("instead of"), "another file");
    let mut other = again();
    other.held.heap = crate::units::HeapName::new("gone").expect("valid");
    assert_eq!(refused(other), "no heap is called gone");
    let mut other = again();
    other.held.bytes = RequestedBytes(8192).round_up(PAGE).expect("valid");
    assert_eq!(refused(other), "it has 4096 bytes instead of 8192");
    let mut other = again();
    other.held.backing = Backing::Ashmem;
    assert_eq!(refused(other), "the release of ashmem cannot be detected");
    let mut other = again();
    other.fd = std::fs::File::open("/dev/null").expect("opened").into();
    assert_eq!(refused(other), "it lacks the seals of the service's files");
    assert_eq!(charged(&second, 1), (0, 0));

    second.carry_over(again()).expect("as described");
    assert_eq!(refused(again()), "a live buffer has the same id or file");
    assert_eq!(charged(&second, 1), (PAGE, 1));
    drop((first, grants));
    second.start_reaper().expect("thread");
    await_held(&second, 1, 0);
}

#[test]
fn a_dma_buf_is_carried_over_with_its_access() {
    let bench = super::dma_bufs::frames();
    let grants = bench.ask(1, 2);
    let carried = carried(&bench.allocator);
    assert!(carried.iter().all(|carried| carried.held.backing == Backing::Udmabuf));
    let directory = DescriptorDirectory::open().expect("/proc");
    for (carried, grant) in carried.iter().zip(&grants) {
        directory.reopen(carried.fd.as_fd(), Access::ReadWrite).expect("writable");
        let inode = |fd| crate::sys::fd::inode(fd).expect("fstat");
        assert_eq!(inode(carried.fd.as_fd()), inode(grant.fd.as_fd()));
    }
}

#[test]
fn no_call_begins_once_the_service_has_stopped() {
    let allocator = still(config());
    assert!(allocator.stop_serving(Duration::ZERO), "no call is running");
    let (sender, receiver) = mpsc::channel();
    let late = Arc::clone(&allocator);
    // It waits until the process ends.
    std::thread::spawn(move || {
        let _ = late.allocate(&caller(1), &request(1, 1, PAGE));
        sender.send(()).expect("received");
    });
    assert_eq!(receiver.recv_timeout(Duration::from_millis(50)), Err(mpsc::RecvTimeoutError::Timeout));
    assert!(carried(&allocator).is_empty());
}
