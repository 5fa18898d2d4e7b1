// SPDX-License-Identifier: Apache-2.0
//! Tests free lists, the released list and both together: their limits, and a comparison with a
//! slow and simple model.

use super::free_list::FreeLists;
use super::released::ReleasedList;
use super::*;
use crate::units::{BackedBytes, RequestedBytes, Uid};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Memory that is a number.
type Fake = u32;

fn bytes(amount: u64) -> BackedBytes {
    RequestedBytes(i64::try_from(amount).expect("small")).round_up(1).expect("valid")
}

fn dirty(memory: Fake, size: u64, uid: u32) -> Pooled<Fake, Dirty> {
    Pooled::released(memory, bytes(size), owner(uid))
}

fn clean(memory: Fake, size: u64, uid: u32) -> Pooled<Fake, Clean> {
    dirty(memory, size, uid).clean(Ok::<_, ()>).expect("cleaned")
}

fn fresh(memory: Fake, size: u64) -> Pooled<Fake, Clean> {
    Pooled::fresh(memory, bytes(size))
}

fn owner(uid: u32) -> TrustDomain {
    TrustDomain::Uid(Uid(uid))
}

fn contents() -> Contents<Fake, Fake> {
    Contents::new(PoolLimits { bytes: 100, entries: 5 })
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn memories<S>(pooled: &[Pooled<Fake, S>]) -> Vec<Fake> {
    pooled.iter().map(|pooled| *pooled.memory()).collect()
}

#[test]
fn clean_memory_goes_only_to_its_own_domain_and_size() {
    let mut lists = FreeLists::default();
    lists.put(clean(1, 10, 1000), at(0));
    let context = TrustDomain::Context("u:r:camera:s0".to_owned());
    assert!(lists.take(10, &owner(1001)).is_none());
    assert!(lists.take(10, &context).is_none());
    assert!(lists.take(9, &owner(1000)).is_none());
    assert_eq!(lists.take(10, &owner(1000)).expect("its own").into_memory(), 1);
    assert_eq!((lists.bytes(), lists.len()), (0, 0));
}

#[test]
fn fresh_memory_goes_to_any_domain_whose_own_has_run_out() {
    let mut lists = FreeLists::default();
    for (since, memory) in [(0, fresh(1, 10)), (1, fresh(2, 10)), (2, clean(3, 10, 1000))] {
        lists.put(memory, at(since));
    }
    let take = |lists: &mut FreeLists<Fake>, uid| {
        lists.take(10, &owner(uid)).map(|taken| (*taken.memory(), taken.domain().is_none()))
    };
    assert_eq!(take(&mut lists, 1000), Some((3, false)), "its own first, though younger");
    assert_eq!((lists.fresh(10), lists.fresh(11)), (2, 0));
    assert_eq!(take(&mut lists, 1000), Some((1, true)));
    assert_eq!(take(&mut lists, 1001), Some((2, true)));
    assert_eq!(take(&mut lists, 1001), None);
}

#[test]
fn released_memory_is_taken_newest_first_by_its_own_domain_alone() {
    let mut released = ReleasedList::default();
    for (memory, size, uid) in [(1, 10, 1), (2, 10, 1), (3, 20, 1), (4, 10, 2)] {
        released.push(dirty(memory, size, uid));
    }
    assert_eq!((released.bytes(), released.len()), (50, 4));
    let mut take = |size, uid| released.take(size, &owner(uid)).map(|taken| *taken.memory());
    assert_eq!((take(10, 3), take(30, 1)), (None, None));
    assert_eq!((take(10, 1), take(10, 1), take(10, 1)), (Some(2), Some(1), None));
    assert_eq!((released.bytes(), released.len()), (30, 2));
}

#[test]
fn an_entry_is_removed_once() {
    let mut released = ReleasedList::default();
    released.push(dirty(1, 10, 1));
    let (id, _) = released.newest(|_| true).expect("there");
    assert_eq!(released.remove(id).map(|taken| *taken.memory()), Some(1));
    assert!(released.remove(id).is_none() && released.len() == 0);
    released.push(dirty(2, 10, 1));
    assert!(released.remove(id).is_none(), "another entry");
}

#[test]
fn memory_too_large_for_the_pool_evicts_nothing() {
    let mut contents = contents();
    contents.free.put(clean(1, 60, 1), at(0));
    assert!(contents.make_room(101).is_none());
    assert!(!contents.has_room(41) && contents.has_room(40));
    for memory in 3..7 {
        contents.released.push(dirty(memory, 1, 1));
    }
    assert!(!contents.has_room(1), "six of five");
}

#[test]
fn room_is_made_by_the_domain_with_the_most_its_oldest_clean_memory_first() {
    let mut contents = contents();
    for (memory, size, uid, since) in [(1, 10, 2, 1), (2, 30, 1, 2), (3, 20, 1, 3), (4, 30, 3, 4)] {
        contents.free.put(clean(memory, size, uid), at(since));
    }
    let mut room = |size| {
        let evicted = contents.make_room(size).expect("possible");
        (memories(&evicted.free), memories(&evicted.released))
    };
    assert_eq!(room(10), (vec![], vec![]), "there is room");
    assert_eq!(room(40), (vec![2], vec![]), "uid 1 has most");
    assert_eq!(room(60), (vec![4], vec![]), "uid 3 has most now");
    assert_eq!(room(100), (vec![3, 1], vec![]));
}

#[test]
fn many_small_entries_of_one_domain_displace_no_large_one_of_another() {
    let mut contents = contents();
    contents.free.put(clean(0, 60, 1), at(0));
    for memory in 1..20 {
        let evicted = contents.make_room(1).expect("possible");
        assert!(!memories(&evicted.free).contains(&0) && evicted.len() <= 1);
        contents.released.push(dirty(memory, 1, 2));
    }
    assert_eq!(contents.free.len(), 1);
}

#[test]
fn a_domain_that_releases_a_lot_displaces_its_own_memory() {
    let mut contents = contents();
    contents.free.put(clean(1, 20, 1), at(0));
    for memory in 2..5 {
        contents.released.push(dirty(memory, 25, 2));
    }
    let evicted = contents.make_room(25).expect("possible");
    assert_eq!((memories(&evicted.free), memories(&evicted.released)), (vec![], vec![2]));
}

#[test]
fn a_failure_to_clean_leaves_nothing_clean() {
    let failed = dirty(1, 10, 1).clean(|_| Err::<Fake, _>("kernel"));
    assert_eq!(failed.expect_err("failed"), "kernel");
}

#[test]
fn released_memory_shrinks_first_and_then_the_oldest_of_the_largest() {
    let mut contents = contents();
    for (memory, size, uid, since) in [(1, 10, 1, 5), (2, 30, 1, 4), (3, 30, 2, 3)] {
        contents.free.put(clean(memory, size, uid), at(since));
    }
    contents.released.push(dirty(4, 10, 1));
    contents.released.push(dirty(5, 5, 1));
    let shrink = |contents: &mut Contents<Fake, Fake>, size| {
        let evicted = contents.shrink(size);
        assert_eq!(evicted.len(), evicted.free.len() + evicted.released.len());
        (memories(&evicted.free), memories(&evicted.released), evicted.bytes())
    };
    assert_eq!(shrink(&mut contents, 1), (vec![], vec![5], 5), "the newest");
    assert_eq!(shrink(&mut contents, 41), (vec![3, 2], vec![4], 70), "it overshoots");
    assert_eq!(shrink(&mut contents, 0), (vec![1], vec![], 10));
    assert_eq!(contents.shrink(0).len(), 0);
}

#[test]
fn lists_that_go_away_give_their_memory_back() {
    let memory = Arc::new(());
    let released = Pooled::released(Arc::clone(&memory), bytes(10), owner(1));
    let mut lists = FreeLists::default();
    lists.put(released.clean(Ok::<_, ()>).expect("cleaned"), at(0));
    assert_eq!(Arc::strong_count(&memory), 2);
    drop(lists);
    assert_eq!(Arc::strong_count(&memory), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Release(u64, u32),
    Preallocate(u64),
    CleanNewest,
    Take(u64, u32),
    TakeReleased(u64, u32),
    Shrink(u64),
    Expire(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (size, uid) = (1u64..6, 0u32..3);
    let step = prop_oneof![
        4 => (size.clone(), uid.clone()).prop_map(|(size, uid)| Step::Release(10 * size, uid)),
        1 => size.clone().prop_map(|size| Step::Preallocate(10 * size)),
        3 => Just(Step::CleanNewest),
        2 => (size.clone(), uid.clone()).prop_map(|(size, uid)| Step::Take(10 * size, uid)),
        2 => (size, uid).prop_map(|(size, uid)| Step::TakeReleased(10 * size, uid)),
        1 => (0u64..60).prop_map(Step::Shrink),
        1 => (0u64..60).prop_map(Step::Expire),
    ];
    prop::collection::vec(step, 0..150)
}

/// One entry of the model: number, size, uid, and the time when it became clean.
type Entry = (Fake, u64, u32, Option<u64>);

/// The uid of fresh memory in the model.
const NONE: u32 = 3;

proptest! {
    #[test]
    fn every_sequence_agrees_with_the_naive_model(steps in steps()) {
        let mut contents = contents();
        let mut naive: Vec<Entry> = Vec::new();
        let mut next = 0;
        for (step, now) in steps.into_iter().zip(0..) {
            match step {
                Step::Release(size, uid) => {
                    let evicted = contents.make_room(size).expect("smaller than the pool");
                    let before = naive.clone();
                    let gone: Vec<_> =
                        memories(&evicted.free).into_iter().chain(memories(&evicted.released)).collect();
                    naive.retain(|entry| !gone.contains(&entry.0));
                    let of = |entries: &[Entry], uid: u32, measure: fn(&Entry) -> u64| -> u64 {
                        entries.iter().filter(|entry| entry.2 == uid).map(measure).sum()
                    };
                    for lost in before.iter().filter(|entry| gone.contains(&entry.0)).map(|entry| entry.2) {
                        let has_most = |measure| {
                            let most = (0..=NONE).map(|uid| of(&naive, uid, measure)).max().expect("four");
                            of(&before, lost, measure) >= most
                        };
                        prop_assert!(has_most(|entry| entry.1) || has_most(|_| 1), "it had less than others");
                    }
                    prop_assert!(contents.has_room(size));
                    contents.released.push(dirty(next, size, uid));
                    naive.push((next, size, uid, None));
                    next += 1;
                }
                Step::Preallocate(size) => {
                    if contents.has_room(size) {
                        contents.free.put(fresh(next, size), at(now));
                        naive.push((next, size, NONE, Some(now)));
                        next += 1;
                    }
                }
                Step::CleanNewest => {
                    let newest = naive.iter_mut().rev().find(|entry| entry.3.is_none());
                    let found = contents.released.newest(|_| true).map(|(id, memory)| (id, *memory));
                    prop_assert_eq!(found.map(|(_, memory)| memory), newest.as_ref().map(|entry| entry.0));
                    if let (Some((id, _)), Some(entry)) = (found, newest) {
                        let released = contents.released.remove(id).expect("there");
                        contents.free.put(released.clean(Ok::<_, ()>).expect("cleaned"), at(now));
                        entry.3 = Some(now);
                    }
                }
                Step::Take(size, uid) => {
                    let oldest = |uid| {
                        let fits = |entry: &&Entry| entry.1 == size && entry.2 == uid && entry.3.is_some();
                        naive.iter().filter(fits).min_by_key(|entry| entry.3).map(|entry| entry.0)
                    };
                    let oldest = oldest(uid).or_else(|| oldest(NONE));
                    let taken = contents.free.take(size, &owner(uid)).map(Pooled::into_memory);
                    prop_assert_eq!(taken, oldest);
                    naive.retain(|entry| Some(entry.0) != oldest);
                }
                Step::TakeReleased(size, uid) => {
                    let newest = naive
                        .iter()
                        .rfind(|entry| entry.1 == size && entry.2 == uid && entry.3.is_none())
                        .map(|entry| entry.0);
                    let taken = contents.released.take(size, &owner(uid)).map(|taken| *taken.memory());
                    prop_assert_eq!(taken, newest);
                    naive.retain(|entry| Some(entry.0) != newest);
                }
                Step::Shrink(size) => {
                    let all: u64 = naive.iter().map(|entry| entry.1).sum();
                    let evicted = contents.shrink(size);
                    prop_assert!(evicted.bytes() >= size.min(all));
                    let is_left = naive.iter().any(|entry| {
                        entry.3.is_none() && !memories(&evicted.released).contains(&entry.0)
                    });
                    prop_assert!(evicted.free.is_empty() || !is_left, "released memory goes first");
                    let gone: Vec<_> =
                        memories(&evicted.free).into_iter().chain(memories(&evicted.released)).collect();
                    naive.retain(|entry| !gone.contains(&entry.0));
                }
                Step::Expire(deadline) => {
                    let mut gone = memories(&contents.free.expire(at(deadline)));
                    gone.sort_unstable();
                    let is_old = |entry: &Entry| entry.3.is_some_and(|since| since < deadline);
                    let mut expected: Vec<_> =
                        naive.iter().filter(|entry| is_old(entry)).map(|entry| entry.0).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(gone, expected);
                    naive.retain(|entry| !is_old(entry));
                }
            }
            prop_assert_eq!(contents.bytes(), naive.iter().map(|entry| entry.1).sum::<u64>());
            prop_assert!(contents.bytes() <= 100 && naive.len() <= 5);
            for size in [10, 20, 30, 40, 50] {
                let fresh = naive.iter().filter(|entry| entry.1 == size && entry.2 == NONE).count();
                prop_assert_eq!(contents.free.fresh(size), fresh);
            }
        }
    }
}
