// SPDX-License-Identifier: Apache-2.0
//! Tests how the calling thread uses memory that is not clean: it cleans it, or leaves the data in
//! it.

use super::pool::{pooled, stats, system, use_up};
use super::*;

/// Returns a request of a client that overwrites every byte.
fn unzeroed(count: i32) -> Request {
    Request { unzeroed: true, ..system(count, MIB) }
}

fn first_byte(grant: &Grant) -> u8 {
    let mut byte = [0];
    let mapping = SharedMap::new(&grant.fd, 1 << 20, Access::ReadOnly).expect("mapped");
    mapping.read_at(0, &mut byte).expect("inside");
    byte[0]
}

#[test]
fn an_unzeroed_buffer_has_former_bytes_of_its_own_uid_but_of_no_other() {
    let allocator = still(pooled());
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    allocator.reclaim_from(&caller(1));
    let theirs = allocator.allocate(&caller(2), &unzeroed(1)).expect("served").remove(0);
    assert_eq!(first_byte(&theirs), 0, "another uid's memory");
    let own = allocator.allocate(&caller(1), &unzeroed(1)).expect("served").remove(0);
    assert_eq!(first_byte(&own), 0x5a, "as it was");
    let pool = stats(&allocator).pool;
    assert_eq!((pool.unzeroed, pool.hits, pool.scrubbed_bytes), (1, 1, 0));
    use_up(own);
    let zeroed = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
    assert_eq!((first_byte(&zeroed), stats(&allocator).pool.scrubbed_in_call_bytes), (0, MIB));
}

#[test]
fn memory_that_domains_share_is_zeroed_for_everyone() {
    let mut config = pooled();
    config.heaps[1].shared = Some("one client, in several domains".to_owned());
    let allocator = still(config);
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    allocator.reclaim_from(&caller(1));
    let next = allocator.allocate(&caller(1), &unzeroed(1)).expect("served").remove(0);
    assert_eq!((first_byte(&next), stats(&allocator).pool.hits, stats(&allocator).pool.unzeroed), (0, 1, 0));
}

#[test]
fn the_worker_no_longer_writes_to_memory_that_was_handed_out() {
    let allocator = still(pooled());
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    allocator.reclaim_from(&caller(1));
    let work = allocator.heaps()[1].pool().next_work().expect("released");
    let own = allocator.allocate(&caller(1), &unzeroed(1)).expect("served").remove(0);
    SharedMap::new(&own.fd, 1 << 20, Access::ReadWrite).expect("mapped").fill(7).expect("writable");
    // The worker was preempted until now.
    let result = work.wipe.work();
    allocator.heaps()[1].pool().worked(&work, &result, Duration::ZERO);
    assert_eq!(first_byte(&own), 7);
    assert_eq!(stats(&allocator).pool.pooled_bytes, 0);
}

#[test]
fn a_pool_works_without_its_worker() {
    let allocator = still(pooled());
    for round in 0..5 {
        let grant = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
        assert!(SharedMap::new(&grant.fd, 1 << 20, Access::ReadWrite).expect("mapped").is_zero());
        assert_eq!(stats(&allocator).pool.hits, round);
        use_up(grant);
    }
}

#[test]
fn a_quota_refusal_cleans_nothing() {
    let allocator = still(pooled());
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    allocator.reclaim_from(&caller(1));
    let refused = allocator.allocate(&caller(1), &system(1, 9 * MIB)).expect_err("eight are permitted");
    assert_eq!(refused.failure(), Some(Failure::QuotaExceeded));
    let HeapView { counters, pool, .. } = stats(&allocator);
    assert_eq!((counters.deferred_bytes, pool.scrubbed_bytes), (MIB, 0));
}
