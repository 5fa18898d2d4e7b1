// SPDX-License-Identifier: Apache-2.0
//! Preallocated memory: when, how much and for which clients it is made; failures leave nothing
//! behind.

use super::pool::{pooled, settle_and_scrub, stats, system, use_up};
use super::*;
use crate::heap::Discard;

/// Makes every wanted buffer, as the worker does.
fn refill(allocator: &Allocator) -> usize {
    std::iter::repeat_with(|| allocator.preallocate_one()).take_while(|made| *made).count()
}

/// Requests the same size as two clients, once each; returns their buffers.
fn ask_twice(allocator: &Allocator, count: i32) -> Vec<Grant> {
    let ask = |uid| allocator.allocate(&caller(uid), &system(count, MIB)).expect("served");
    ask(1).into_iter().chain(ask(2)).collect()
}

#[test]
fn a_single_request_makes_nothing_ahead_and_the_second_does() {
    let allocator = still(pooled());
    let _first = allocator.allocate(&caller(1), &system(2, MIB)).expect("served");
    assert_eq!(refill(&allocator), 0);
    let _second = allocator.allocate(&caller(2), &system(1, MIB)).expect("served");
    assert_eq!(refill(&allocator), 3, "as many as were missing");
    let view = stats(&allocator);
    assert_eq!((view.pool.preallocated, view.pool.pooled_bytes), (3, 3 * MIB));
    assert_eq!((view.counters.bytes, view.counters.buffers), (3 * MIB, 3), "pooled memory is not allocated");
    assert_eq!(allocator.usage(&caller(1))[0].bytes, 2 * MIB, "preallocated memory is charged to no uid");
}

#[test]
fn memory_made_ahead_serves_any_domain_and_then_belongs_to_it() {
    let allocator = still(pooled());
    let _held = ask_twice(&allocator, 1);
    refill(&allocator);
    let grant = allocator.allocate(&caller(3), &system(1, MIB)).expect("served").remove(0);
    assert!(SharedMap::new(&grant.fd, 1 << 20, Access::ReadWrite).expect("mapped").is_zero());
    assert_eq!(stats(&allocator).pool.hits, 1);
    let inode = crate::sys::fd::inode(&grant.fd).expect("inode");
    use_up(grant);
    settle_and_scrub(&allocator, 3);
    let stranger = allocator.allocate(&caller(4), &system(2, MIB)).expect("served");
    let own = allocator.allocate(&caller(3), &system(1, MIB)).expect("served");
    let inodes = |grants: &[Grant]| -> Vec<_> {
        grants.iter().map(|grant| crate::sys::fd::inode(&grant.fd).expect("inode")).collect()
    };
    assert!(!inodes(&stranger).contains(&inode));
    assert_eq!(inodes(&own), [inode]);
}

#[test]
fn a_size_that_a_domain_returns_untouched_is_neither_preallocated_nor_pooled_for_it() {
    let allocator = still(pooled());
    let ask = |uid| allocator.allocate(&caller(uid), &system(1, MIB)).expect("served").remove(0);
    let pooled_bytes = || stats(&allocator).pool.pooled_bytes;
    let held = [ask(1), ask(1)];
    assert_eq!(refill(&allocator), 2, "no buffer has come back untouched yet");
    let full = [ask(1), ask(1)];
    assert_eq!((stats(&allocator).pool.hits, pooled_bytes()), (2, 0));
    drop(held);
    settle_and_scrub(&allocator, 1);
    drop(full);
    settle_and_scrub(&allocator, 1);
    let untouched = stats(&allocator).pool.discarded.of(Discard::Untouched);
    assert_eq!((untouched, pooled_bytes()), (4, 0), "the last two had pages, but of no client");
    allocator.heaps[1].pool().forget_demand();
    let _held = [ask(1), ask(1)];
    assert_eq!(refill(&allocator), 0);
    let _other = [ask(2), ask(2)];
    assert_eq!(refill(&allocator), 2, "another domain may touch them");
    allocator.shrink_all();
    use_up(ask(1));
    settle_and_scrub(&allocator, 1);
    assert_eq!(pooled_bytes(), MIB, "the last new one was touched");
}

#[test]
fn pooled_buffers_take_no_descriptors_that_live_ones_may_need() {
    let allocator = still(pooled());
    let set_max_files = |most| allocator.registry().ledger.set_max_files(most);
    let entries = || allocator.heaps.iter().map(|heap| heap.pool().entries()).sum::<usize>();
    set_max_files(3);
    let _held = ask_twice(&allocator, 1);
    assert_eq!((refill(&allocator), entries()), (1, 1), "two would be one too many");
    set_max_files(4);
    assert_eq!((refill(&allocator), entries()), (1, 2));
    let _other = allocator.allocate(&caller(3), &system(1, PAGE)).expect("served");
    assert_eq!(entries(), 1, "the new buffer has the descriptor of a pooled one");
    let _pooled = allocator.allocate(&caller(3), &system(1, MIB)).expect("served");
    assert_eq!((stats(&allocator).pool.hits, entries()), (1, 0));
    assert!(allocator.allocate(&caller(3), &system(1, MIB)).is_err(), "the limit itself is as before");
}

#[test]
fn heaps_that_keep_nothing_are_not_warmed() {
    let allocator = still(config());
    let _held = ask_twice(&allocator, 1);
    assert_eq!(refill(&allocator), 0);
}

#[test]
fn a_budget_is_left_to_those_who_allocate() {
    let mut config = pooled();
    config.heaps[0].kind = HeapType::System;
    let allocator = still(config);
    let camera = |count, bytes| Request { selection: names(&["camera"]), ..request(0, count, bytes) };
    let _first = allocator.allocate(&caller(1), &camera(2, MIB)).expect("served");
    let second = allocator.allocate(&caller(2), &camera(1, MIB)).expect("served");
    assert_eq!(refill(&allocator), 1, "one of four is left");
    drop(second);
    allocator.allocate(&caller(2), &camera(2, MIB)).expect("the pool makes room");
    let view = allocator.stats()[0];
    assert!(view.counters.bytes + view.pool.pooled_bytes <= 4 * MIB, "{:?}", view.pool);
}

#[test]
fn memory_that_is_set_aside_has_its_pages_and_stays_within_callers_reach() {
    let allocator = still(pooled());
    let camera = Request { selection: names(&["camera"]), ..request(0, 1, MIB) };
    let _held = [1, 2].map(|uid| allocator.allocate(&caller(uid), &camera).expect("served"));
    assert_eq!(refill(&allocator), 0);
}

#[test]
fn the_pool_s_limit_holds_and_half_of_it_is_for_what_comes_back() {
    let mut config = pooled();
    config.heaps.iter_mut().for_each(|heap| heap.pool_limit = Some(4 * MIB));
    let allocator = still(config);
    let _held = ask_twice(&allocator, 3);
    assert_eq!(refill(&allocator), 2);
    assert_eq!(stats(&allocator).pool.pooled_bytes, 2 * MIB);
}

#[test]
fn after_pressure_nothing_is_made_ahead() {
    let allocator = still(pooled());
    let _held = ask_twice(&allocator, 1);
    allocator.relieve(PressureLevel::Moderate);
    assert_eq!(refill(&allocator), 0);
}

#[test]
fn trimmed_memory_is_not_made_again_at_once() {
    let allocator = still(pooled());
    let _held = ask_twice(&allocator, 1);
    assert_eq!(refill(&allocator), 2);
    assert_eq!(allocator.trim(&caller(0), None, 0), Ok(2 * MIB));
    assert_eq!(refill(&allocator), 0);
}

#[test]
fn a_failure_of_any_source_call_leaves_no_trace() {
    for failing in 0..2 {
        let (allocator, script) = scripted(pooled());
        let _held = ask_twice(&allocator, 1);
        let (before, files) = (stats(&allocator).counters, script.files());
        script.fail(failing..failing + 1, libc::ENOMEM);
        assert_eq!(refill(&allocator), 0, "create or populate failed, and it is not tried again at once");
        assert_eq!(stats(&allocator).counters, before);
        assert_eq!((stats(&allocator).pool.pooled_bytes, stats(&allocator).pool.preallocated), (0, 0));
        assert_eq!(script.files(), files);
    }
}

#[test]
fn the_worker_preallocates_in_the_background() {
    let allocator = still(pooled());
    allocator.start_worker().expect("thread");
    let _held = ask_twice(&allocator, 1);
    eventually("two are preallocated", || stats(&allocator).pool.preallocated >= 2);
}
