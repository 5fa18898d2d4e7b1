// SPDX-License-Identifier: Apache-2.0
//! Memory between two clients: it is clean for the next client, stays in its trust domain, and no
//! client can corrupt it.

use super::*;
use crate::heap::Discard;
use crate::sys::fd::DescriptorDirectory;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use std::io::{Read, Write};
use std::os::fd::AsFd;

/// Returns [`config`] with two heaps that pool released memory.
pub(super) fn pooled() -> Config {
    let mut config = config();
    config.heaps.iter_mut().for_each(|heap| heap.deferred_free = true);
    config
}

pub(super) fn system(count: i32, bytes: u64) -> Request {
    Request { selection: names(&["system"]), ..request(0, count, bytes) }
}

/// Fills a buffer, so that it is worth pooling, and releases it.
pub(super) fn use_up(grant: Grant) {
    let len = usize::try_from(grant.bytes.get()).expect("small");
    SharedMap::new(&grant.fd, len, Access::ReadWrite).expect("mapped").fill(0x5a).expect("writable");
}

/// Detects released buffers and scrubs them, as the two threads do.
pub(super) fn settle_and_scrub(allocator: &Allocator, uid: u32) {
    allocator.reclaim_from(&caller(uid));
    while allocator.clean_one() {}
}

/// Returns the view of the system heap, which is tried last.
pub(super) fn stats(allocator: &Allocator) -> HeapView<'_> {
    allocator.stats()[1]
}

#[test]
fn a_recycled_buffer_is_the_same_file_zero_and_has_a_new_id() {
    let allocator = still(pooled());
    let first = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
    let (inode, id) = (crate::sys::fd::inode(&first.fd).expect("inode"), first.id);
    use_up(first);
    settle_and_scrub(&allocator, 1);
    assert_eq!(stats(&allocator).pool.pooled_bytes, MIB);
    let second = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
    assert_eq!(crate::sys::fd::inode(&second.fd).expect("inode"), inode);
    assert_ne!(second.id, id);
    assert!(SharedMap::new(&second.fd, 1 << 20, Access::ReadWrite).expect("mapped").is_zero());
    assert_eq!(allocator.describe(&second.fd).expect("ours").record.id, second.id);
    let stock = stats(&allocator).pool;
    assert_eq!((stock.hits, stock.misses, stock.scrubbed_bytes, stock.pooled_bytes), (1, 1, MIB, 0));
}

#[test]
fn no_more_waits_to_be_cleaned_than_the_pool_could_take() {
    let mut config = pooled();
    config.heaps.iter_mut().for_each(|heap| heap.pool_limit = Some(2 * MIB));
    let allocator = still(config);
    allocator.allocate(&caller(1), &system(4, MIB)).expect("served").into_iter().for_each(use_up);
    allocator.reclaim_from(&caller(1));
    let HeapView { counters, pool: stock, .. } = stats(&allocator);
    assert_eq!((counters.deferred_bytes, counters.bytes, counters.buffers), (2 * MIB, 2 * MIB, 2));
    assert_eq!((counters.frees, stock.discarded.of(Discard::Full)), (4, 2));
    while allocator.clean_one() {}
    assert_eq!(stats(&allocator).pool.pooled_bytes, 2 * MIB);
}

#[test]
fn a_full_pool_makes_room_for_what_was_released_last() {
    let mut config = pooled();
    config.heaps.iter_mut().for_each(|heap| heap.pool_limit = Some(2 * MIB));
    let allocator = still(config);
    for bytes in [MIB, MIB, 2 * MIB] {
        use_up(allocator.allocate(&caller(1), &system(1, bytes)).expect("served").remove(0));
        settle_and_scrub(&allocator, 1);
    }
    let stock = stats(&allocator).pool;
    assert_eq!(
        (stock.pooled_bytes, stock.discarded.of(Discard::Full)),
        (2 * MIB, 1),
        "the first was used twice"
    );
    drop(allocator.allocate(&caller(1), &system(1, 2 * MIB)).expect("served"));
    assert_eq!(stats(&allocator).pool.hits, 2);
}

#[test]
fn counters_include_deferred_frees_until_they_are_scrubbed() {
    let allocator = still(pooled());
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    allocator.reclaim_from(&caller(1));
    let counters = stats(&allocator).counters;
    assert_eq!((counters.buffers, counters.bytes, counters.deferred_bytes), (1, MIB, MIB));
    assert_eq!(allocator.usage(&caller(1))[0].bytes, 0, "its owner is not charged any more");
    assert!(allocator.clean_one() && !allocator.clean_one());
    let counters = stats(&allocator).counters;
    assert_eq!((counters.buffers, counters.bytes, counters.deferred_bytes, counters.frees), (0, 0, 0, 1));
}

#[test]
fn another_domain_never_gets_it() {
    let allocator = still(pooled());
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    settle_and_scrub(&allocator, 1);
    let in_context = Caller { context: Some("u:r:camera:s0".to_owned()), ..caller(1) };
    for other in [caller(2), in_context] {
        let _held = allocator.allocate(&other, &system(1, MIB)).expect("served");
    }
    assert_eq!(stats(&allocator).pool.hits, 0);
    assert_eq!(stats(&allocator).pool.pooled_bytes, MIB);
}

/// The attack that trust domains prevent: pages pinned in a pipe outlive every descriptor and
/// mapping, leases do not detect them, and their holder reads what the file's next owner writes.
#[test]
fn pages_pinned_in_a_pipe_never_show_what_another_domain_writes() {
    let allocator = still(pooled());
    let grant = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
    let mapping = memmap(&grant);
    let (reader, writer) = nix::unistd::pipe().expect("pipe");
    crate::sys::map::tests::splice_pages(&mapping, &writer).expect("vmsplice");
    drop(mapping);
    drop(grant);
    settle_and_scrub(&allocator, 1);
    assert_eq!(stats(&allocator).pool.pooled_bytes, MIB, "the lease does not see the pin");
    let victim = allocator.allocate(&caller(2), &system(1, MIB)).expect("served").remove(0);
    memmap(&victim).fill(0xee).expect("writable");
    drop(writer);
    let mut pinned = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut pinned).expect("the pipe");
    assert!(!pinned.is_empty() && !pinned.contains(&0xee), "another domain's bytes are in the pipe");
}

fn memmap(grant: &Grant) -> SharedMap {
    let mapping = SharedMap::new(&grant.fd, 1 << 20, Access::ReadWrite).expect("mapped");
    mapping.fill(0x11).expect("writable");
    mapping
}

#[test]
fn a_buffer_that_a_client_sealed_is_not_kept() {
    let mut config = pooled();
    config.heaps.iter_mut().for_each(|heap| heap.client_seals = true);
    let allocator = still(config);
    let grant = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
    let mut file = std::fs::File::from(grant.fd.try_clone().expect("dup"));
    file.write_all(&vec![1; 1 << 20]).expect("writable");
    fcntl(&grant.fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).expect("clients can add seals");
    drop((grant, file));
    settle_and_scrub(&allocator, 1);
    let stock = stats(&allocator).pool;
    assert_eq!((stock.pooled_bytes, stock.discarded.of(Discard::Sealed)), (0, 1));
}

#[test]
fn a_buffer_that_was_opened_again_after_its_release_is_not_handed_out() {
    let allocator = still(pooled());
    let grant = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
    let first = crate::sys::fd::inode(&grant.fd).expect("inode");
    let path_only = nix::fcntl::open(
        DescriptorDirectory::path(&grant.fd).as_str(),
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
    .expect("O_PATH");
    use_up(grant);
    allocator.reclaim_from(&caller(1));
    assert_eq!(allocator.usage(&caller(1))[0].buffers, 0, "an O_PATH descriptor holds nothing");
    let again =
        DescriptorDirectory::open().expect("/proc").reopen(&path_only, Access::ReadWrite).expect("own uid");
    while allocator.clean_one() {}
    let next = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
    assert_ne!(crate::sys::fd::inode(&next.fd).expect("inode"), first, "somebody else has it open");
    let pool = stats(&allocator).pool;
    assert_eq!((pool.hits, pool.pooled_bytes, pool.discarded.of(Discard::Busy)), (0, 0, 1));
    drop(again);
}

#[test]
fn a_touched_buffer_of_one_page_is_kept_in_the_pool_and_an_untouched_one_of_any_size_is_not() {
    let allocator = still(pooled());
    drop(allocator.allocate(&caller(1), &system(1, MIB)).expect("served"));
    use_up(allocator.allocate(&caller(1), &system(1, PAGE)).expect("served").remove(0));
    settle_and_scrub(&allocator, 1);
    let view = stats(&allocator);
    assert_eq!((view.pool.pooled_bytes, view.counters.buffers), (PAGE, 0));
    assert_eq!((view.pool.discarded.of(Discard::Untouched), view.pool.discarded.total()), (1, 1));
    let again = allocator.allocate(&caller(1), &system(1, PAGE)).expect("served").remove(0);
    assert_eq!((stats(&allocator).pool.hits, stats(&allocator).pool.pooled_bytes), (1, 0));
    drop(again);
}

#[test]
fn heaps_take_turns_at_being_scrubbed() {
    let allocator = still(pooled());
    for heap in ["camera", "system"] {
        let asked = Request { selection: names(&[heap]), ..request(0, 2, MIB) };
        allocator.allocate(&caller(1), &asked).expect("served").into_iter().for_each(use_up);
    }
    allocator.reclaim_from(&caller(1));
    let pooled = || allocator.stats().iter().map(|view| view.pool.pooled_bytes / MIB).collect::<Vec<_>>();
    for expected in [[1, 0], [1, 1], [2, 1], [2, 2]] {
        assert!(allocator.clean_one());
        assert_eq!(pooled(), expected);
    }
    assert!(!allocator.clean_one());
}

#[test]
fn a_budget_is_not_exceeded_by_its_pool() {
    let allocator = still(pooled());
    let camera = |count, bytes| Request { selection: names(&["camera"]), ..request(0, count, bytes) };
    allocator.allocate(&caller(1), &camera(4, MIB)).expect("the whole budget").into_iter().for_each(use_up);
    settle_and_scrub(&allocator, 1);
    assert_eq!(allocator.stats()[0].pool.pooled_bytes, 4 * MIB);
    let _held = allocator.allocate(&caller(2), &camera(1, 3 * MIB)).expect("the pool makes room");
    assert_eq!(allocator.stats()[0].pool.pooled_bytes, MIB);
}

#[test]
fn deferred_frees_are_drained_before_anyone_is_refused() {
    let allocator = still(pooled());
    let camera = |count, bytes| Request { selection: names(&["camera"]), ..request(0, count, bytes) };
    allocator.allocate(&caller(1), &camera(4, MIB)).expect("the whole budget").into_iter().for_each(use_up);
    allocator.reclaim_from(&caller(1));
    assert_eq!(allocator.stats()[0].counters.deferred_bytes, 4 * MIB);
    let grants = allocator.allocate(&caller(2), &camera(1, 4 * MIB)).expect("drained");
    assert_eq!(grants[0].heap_name.as_str(), "camera");
}

#[test]
fn a_dry_run_counts_deferred_frees_as_free_and_leaves_them_alone() {
    let allocator = still(pooled());
    let camera = |count, bytes| Request { selection: names(&["camera"]), ..request(0, count, bytes) };
    allocator.allocate(&caller(1), &camera(4, MIB)).expect("the whole budget").into_iter().for_each(use_up);
    allocator.reclaim_from(&caller(1));
    let explained = allocator.explain(&caller(2), &camera(1, 4 * MIB));
    assert_eq!(explained.chosen().expect("possible").fits_bytes, 4 * MIB);
    let view = allocator.stats()[0];
    assert_eq!((view.counters.deferred_bytes, view.pool.scrubbed_bytes), (4 * MIB, 0));
    allocator.allocate(&caller(2), &camera(1, 4 * MIB)).expect("as explained");
}

#[test]
fn a_heap_that_shares_across_domains_gives_pooled_memory_to_every_client() {
    let mut config = pooled();
    config.heaps[1].shared = Some("one client, in several domains".to_owned());
    let allocator = still(config);
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    settle_and_scrub(&allocator, 1);
    let in_context = Caller { context: Some("u:r:camera:s0".to_owned()), ..caller(2) };
    let _held = allocator.allocate(&in_context, &system(1, MIB)).expect("served");
    assert_eq!(stats(&allocator).pool.hits, 1);
}

#[test]
fn trim_takes_deferred_frees_first_and_then_clean_memory() {
    let allocator = still(pooled());
    allocator.allocate(&caller(1), &system(2, MIB)).expect("served").into_iter().for_each(use_up);
    settle_and_scrub(&allocator, 1);
    use_up(allocator.allocate(&caller(2), &system(1, MIB)).expect("served").remove(0));
    allocator.reclaim_from(&caller(2));
    assert_eq!(allocator.trim(&caller(0), Some("system"), 1), Ok(MIB));
    let view = stats(&allocator);
    assert_eq!(
        (view.counters.deferred_bytes, view.pool.pooled_bytes, view.pool.scrubbed_bytes),
        (0, 2 * MIB, 2 * MIB)
    );
    assert_eq!(allocator.trim(&caller(0), None, 0), Ok(2 * MIB));
    assert_eq!(allocator.trim(&caller(0), None, 0), Ok(0));
}

/// Two threads share the work.
#[test]
fn trim_gives_all_of_much_memory_back_before_it_returns() {
    let mut config = pooled();
    config.policy.default.max_bytes = None;
    let (allocator, script) = scripted(config);
    assert_eq!(script.files(), 0);
    let grants = allocator.allocate(&caller(1), &system(5, 8 * MIB)).expect("served");
    let made = script.files();
    grants.into_iter().for_each(use_up);
    allocator.reclaim_from(&caller(1));
    for _ in 0..3 {
        assert!(allocator.clean_one());
    }
    assert_eq!(allocator.trim(&caller(0), None, 0), Ok(40 * MIB));
    assert_eq!((made, script.files()), (5, 0));
}

#[test]
fn exhaustion_gives_back_the_pooled_memory_of_every_heap() {
    let (allocator, script) = scripted(pooled());
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    settle_and_scrub(&allocator, 1);
    assert_eq!(stats(&allocator).pool.pooled_bytes, MIB);
    script.fail(0..1, libc::ENOMEM);
    let camera = Request { selection: names(&["camera"]), ..request(0, 1, PAGE) };
    allocator.allocate(&caller(2), &camera).expect("the second attempt");
    assert_eq!(stats(&allocator).pool.pooled_bytes, 0);
}

#[test]
fn pressure_takes_deferred_frees_unscrubbed_and_half_of_the_clean_memory() {
    let allocator = still(pooled());
    allocator.allocate(&caller(1), &system(4, MIB)).expect("served").into_iter().for_each(use_up);
    settle_and_scrub(&allocator, 1);
    use_up(allocator.allocate(&caller(2), &system(1, MIB)).expect("served").remove(0));
    allocator.reclaim_from(&caller(2));
    allocator.relieve(PressureLevel::Moderate);
    let HeapView { counters, pool: stock, .. } = stats(&allocator);
    assert_eq!((counters.buffers, counters.deferred_bytes), (0, 0));
    assert_eq!((stock.pooled_bytes, stock.scrubbed_bytes), (2 * MIB, 4 * MIB));
    assert_eq!(allocator.pressure(), PressureLevel::None);
}

#[test]
fn critical_pressure_takes_everything_and_is_remembered() {
    let allocator = still(pooled());
    let (_subscription, feed) = allocator.subscribe_to_pressure();
    allocator.allocate(&caller(1), &system(4, MIB)).expect("served").into_iter().for_each(use_up);
    settle_and_scrub(&allocator, 1);
    allocator.press(PressureLevel::None);
    assert_eq!(stats(&allocator).pool.pooled_bytes, 4 * MIB);
    allocator.press(PressureLevel::Critical);
    assert_eq!(stats(&allocator).pool.pooled_bytes, 0);
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    allocator.reclaim_from(&caller(1));
    let HeapView { counters, pool: stock, .. } = stats(&allocator);
    assert_eq!(
        (counters.buffers, stock.pooled_bytes, stock.discarded.of(Discard::Scarce)),
        (0, 0, 1),
        "what is released meanwhile is not kept"
    );
    assert_eq!(feed.next(Some(PressureLevel::None)), Some(PressureLevel::Critical));
    drop(allocator);
    assert_eq!(feed.next(Some(PressureLevel::Critical)), None, "the allocator is gone");
}

#[test]
fn only_calls_that_were_served_are_timed() {
    let allocator = still(pooled());
    let _held = allocator.allocate(&caller(1), &system(4, MIB)).expect("served");
    let _more = allocator.allocate(&caller(1), &system(1, MIB)).expect("served");
    allocator.allocate(&caller(1), &system(64, 1 << 40)).expect_err("more than there is");
    assert_eq!(stats(&allocator).latency.total(), 2);
    assert_eq!(allocator.stats()[0].latency, LatencyCounts::default());
}

#[test]
fn a_scrub_that_fails_leaves_nothing_behind() {
    let (allocator, script) = scripted(pooled());
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    script.fail(0..usize::MAX, libc::ENOMEM);
    allocator.reclaim_from(&caller(1));
    assert!(!allocator.clean_one());
    let view = stats(&allocator);
    assert_eq!(
        (view.pool.pooled_bytes, view.pool.discarded.of(Discard::ScrubFailed), view.counters.buffers),
        (0, 1, 0)
    );
}

#[test]
fn the_worker_cleans_in_the_background() {
    let allocator = still(pooled());
    allocator.start_reaper().expect("thread");
    allocator.start_worker().expect("thread");
    for _ in 0..20 {
        let grant = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
        assert!(SharedMap::new(grant.fd.as_fd(), 1 << 20, Access::ReadOnly).expect("mapped").is_zero());
        use_up(grant);
        await_held(&allocator, 1, 0);
        eventually("it is scrubbed", || stats(&allocator).counters.buffers == 0);
    }
    assert_eq!(stats(&allocator).pool.hits, 19);
}

#[test]
fn the_shrinker_watches_as_soon_as_memory_is_pooled() {
    let allocator = still(pooled());
    let none_left = Availability::new(1 << 30, || Ok(0));
    allocator.start_shrinker(PressureSources::default(), none_left).expect("thread");
    for _ in 0..3 {
        let grant = allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0);
        // Memory that is released while memory is known to be scarce is not pooled.
        allocator.pressure.calm();
        use_up(grant);
        allocator.reclaim_from(&caller(1));
        eventually("it is given back", || {
            let HeapView { counters, pool, .. } = stats(&allocator);
            counters.deferred_bytes + pool.pooled_bytes == 0
        });
    }
}

#[test]
fn the_shrinker_gives_back_when_little_is_left_though_no_task_waits_yet() {
    let allocator = still(pooled());
    use_up(allocator.allocate(&caller(1), &system(1, MIB)).expect("served").remove(0));
    settle_and_scrub(&allocator, 1);
    assert_eq!(stats(&allocator).pool.pooled_bytes, 1 << 20);
    let none_left = Availability::new(1 << 30, || Ok(0));
    allocator.start_shrinker(PressureSources::default(), none_left).expect("thread");
    eventually("it is given back", || stats(&allocator).pool.pooled_bytes == 0);
    assert_eq!(allocator.pressure(), PressureLevel::Critical);
}
