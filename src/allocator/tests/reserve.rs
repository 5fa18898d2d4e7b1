// SPDX-License-Identifier: Apache-2.0
//! Reservations: charged once, drawn first, made again, and ended with their object.

use super::pool::{pooled, settle_and_scrub, system, use_up};
use super::*;

fn camera(count: i32, bytes: u64) -> Request {
    Request { selection: names(&["camera"]), ..request(0, count, bytes) }
}

/// Makes every reserved buffer, as the maker does.
fn make_ready(allocator: &Allocator) {
    while allocator.make_reserved() {}
}

/// Returns the bytes held, bytes reserved, buffers held.
fn charged(allocator: &Allocator, uid: u32) -> (u64, u64, u64) {
    let usage = &allocator.usage(&caller(uid))[0];
    (usage.bytes, usage.reserved_bytes, usage.buffers)
}

#[test]
fn reserved_buffers_are_charged_at_once_and_made_by_the_keeper() {
    let allocator = still(config());
    let reserved = allocator.reserve(&caller(1), &camera(3, MIB)).expect("room");
    assert_eq!((charged(&allocator, 1), reserved.ready()), ((0, 3 * MIB, 0), 0));
    make_ready(&allocator);
    assert_eq!(reserved.ready(), 3);
    let counters = allocator.stats()[0].counters;
    assert_eq!((counters.reserved_bytes, counters.bytes, counters.buffers), (3 * MIB, 0, 0));
    let refused = allocator.allocate(&caller(2), &camera(2, MIB)).expect_err("one of four is left");
    assert_eq!(refused.failure(), Some(Failure::NoMemory));
    drop(reserved);
    assert_eq!(charged(&allocator, 1), (0, 0, 0));
    allocator.allocate(&caller(2), &camera(4, MIB)).expect("all of it");
}

#[test]
fn an_allocation_draws_them_without_being_charged_twice() {
    let allocator = still(config());
    let reserved = allocator.reserve(&caller(1), &camera(4, MIB)).expect("the whole heap");
    make_ready(&allocator);
    assert!(allocator.explain(&caller(1), &camera(4, MIB)).chosen().is_some());
    let grants = allocator.allocate(&caller(1), &camera(4, MIB)).expect("drawn");
    assert_eq!((charged(&allocator, 1), reserved.ready()), ((4 * MIB, 0, 4), 0));
    let zero =
        |grant: &Grant| SharedMap::new(&grant.fd, 1 << 20, Access::ReadWrite).expect("mapped").is_zero();
    assert!(grants.iter().all(zero));
    drop(reserved);
    assert_eq!(charged(&allocator, 1), (4 * MIB, 0, 4), "what was drawn outlives the reservation");
    drop(grants);
    allocator.reclaim_from(&caller(1));
    assert_eq!(charged(&allocator, 1), (0, 0, 0));
}

#[test]
fn reserved_buffers_that_are_not_made_yet_can_be_drawn() {
    let allocator = still(config());
    let reserved = allocator.reserve(&caller(1), &camera(4, MIB)).expect("the whole heap");
    assert!(allocator.make_reserved());
    assert_eq!(reserved.ready(), 1);
    let _grants = allocator.allocate(&caller(1), &camera(4, MIB)).expect("one ready, three made now");
    assert_eq!(charged(&allocator, 1), (4 * MIB, 0, 4));
}

#[test]
fn only_the_same_uid_domain_heap_and_size_draw() {
    let allocator = still(config());
    let reserved = allocator.reserve(&caller(1), &camera(2, MIB)).expect("room");
    make_ready(&allocator);
    let in_context = Caller { context: Some("u:r:camera:s0".to_owned()), ..caller(1) };
    let _others = [
        allocator.allocate(&caller(2), &camera(1, MIB)).expect("served"),
        allocator.allocate(&in_context, &camera(1, MIB)).expect("served"),
        allocator.allocate(&caller(1), &system(1, MIB)).expect("served"),
    ];
    assert_eq!(reserved.ready(), 2);
    let _own = allocator.allocate(&caller(1), &camera(1, MIB - 1)).expect("rounded up to the same");
    assert_eq!(reserved.ready(), 1);
}

#[test]
fn a_returned_buffer_is_held_ready_again() {
    let allocator = still(pooled());
    let reserved = allocator.reserve(&caller(1), &camera(4, MIB)).expect("the whole heap");
    for _ in 0..3 {
        make_ready(&allocator);
        assert_eq!(reserved.ready(), 4);
        let grants = allocator.allocate(&caller(1), &camera(4, MIB)).expect("drawn");
        grants.into_iter().for_each(use_up);
        settle_and_scrub(&allocator, 1);
        // The heap was full of memory to scrub when the buffers were released.
        allocator.registry().reservations_mut().retry_now();
    }
    make_ready(&allocator);
    assert_eq!((reserved.ready(), charged(&allocator, 1)), (4, (0, 4 * MIB, 0)));
    assert_eq!(allocator.stats()[0].pool.pooled_bytes, 0, "they come from the pool");
}

#[test]
fn reserved_memory_is_not_reclaimed() {
    let allocator = still(pooled());
    let reserved = allocator.reserve(&caller(1), &camera(2, MIB)).expect("room");
    make_ready(&allocator);
    allocator.relieve(PressureLevel::Moderate);
    assert_eq!(allocator.trim(&caller(0), None, 0), Ok(0));
    assert_eq!(reserved.ready(), 2);
}

#[test]
fn a_released_reservation_is_over() {
    let allocator = still(config());
    let reserved = allocator.reserve(&caller(1), &camera(2, MIB)).expect("room");
    make_ready(&allocator);
    reserved.release();
    reserved.release();
    assert_eq!((reserved.ready(), charged(&allocator, 1)), (0, (0, 0, 0)));
    assert!(!allocator.make_reserved());
}

#[test]
fn refusals_are_those_of_allocate_and_charge_nothing() {
    let mut config = config();
    config.heaps[0].allow_uids = Some(vec![Uid(1)]);
    let allocator = still(config);
    let fails = |uid, request: &Request| {
        allocator
            .reserve(&caller(uid), request)
            .map(|_| ())
            .expect_err("refused")
            .failure()
            .expect("a failure")
    };
    assert_eq!(fails(1, &Request { selection: names(&["nope"]), ..camera(1, MIB) }), Failure::UnknownHeap);
    assert_eq!(fails(2, &camera(1, MIB)), Failure::NotPermitted);
    assert_eq!(fails(1, &camera(5, MIB)), Failure::NoMemory);
    assert_eq!(fails(1, &camera(1, 5 * MIB)), Failure::NoMemory);
    assert_eq!(fails(1, &system(9, MIB)), Failure::QuotaExceeded);
    assert_eq!(charged(&allocator, 1), (0, 0, 0));
    let kept: Vec<_> = (0..crate::allocator::reserve::MAX_RESERVATIONS)
        .map(|_| allocator.reserve(&caller(1), &camera(1, PAGE)).expect("room"))
        .collect();
    assert_eq!(fails(1, &camera(1, PAGE)), Failure::QuotaExceeded);
    drop(kept);
    allocator.reserve(&caller(1), &camera(1, PAGE)).expect("room again");
}

#[test]
fn no_more_than_half_of_the_memory_is_reserved() {
    let mut config = config();
    config.policy.default = Quota::default();
    let allocator = still(config);
    let _most = allocator.reserve(&caller(1), &system(2, 256 * MIB)).expect("half of 1024 MiB");
    let refused = allocator.reserve(&caller(2), &system(1, MIB)).map(|_| ()).expect_err("more than half");
    assert_eq!(refused.failure(), Some(Failure::NoMemory));
}

#[test]
fn a_failure_of_any_source_call_while_making_leaves_the_reservation_as_it_was() {
    for failing in 0..2 {
        let (allocator, script) = scripted(config());
        let reserved = allocator.reserve(&caller(1), &camera(2, MIB)).expect("room");
        let (before, files) = (allocator.stats()[0].counters, script.files());
        script.fail(failing..failing + 1, libc::ENOMEM);
        assert!(!allocator.make_reserved());
        assert_eq!((allocator.stats()[0].counters, script.files(), reserved.ready()), (before, files, 0));
        assert!(allocator.refill_pause().expect("tried again later") > Duration::ZERO);
        allocator.registry().reservations_mut().retry_now();
        make_ready(&allocator);
        assert_eq!((reserved.ready(), script.files()), (2, files + 2));
        drop(reserved);
        assert_eq!((charged(&allocator, 1), script.files()), ((0, 0, 0), files));
    }
}

#[test]
fn an_allocation_that_fails_gives_back_what_it_drew() {
    let (allocator, script) = scripted(config());
    let reserved = allocator.reserve(&caller(1), &camera(2, MIB)).expect("room");
    make_ready(&allocator);
    // Two buffers are opened, the third is made and opened. An exhausted source is tried twice, so
    // the failure stays.
    for failing in 0..4 {
        script.fail(failing..usize::MAX, libc::EMFILE);
        allocator.allocate(&caller(1), &camera(3, MIB)).expect_err("no descriptors");
        assert_eq!((charged(&allocator, 1), reserved.ready()), ((0, 2 * MIB, 0), 2), "call {failing}");
    }
    script.fail(0..0, 0);
    let grants = allocator.allocate(&caller(1), &camera(3, MIB)).expect("two drawn, one made");
    drop(reserved);
    assert_eq!(charged(&allocator, 1), (3 * MIB, 0, 3));
    drop(grants);
}

#[test]
fn the_keeper_makes_reservations_ready_in_the_background() {
    let allocator = still(config());
    allocator.start_maker().expect("thread");
    let reserved = allocator.reserve(&caller(1), &camera(4, MIB)).expect("room");
    eventually("all four are ready", || reserved.ready() == 4);
    assert_eq!(allocator.refill_pause(), None, "the keeper sleeps");
}
