// SPDX-License-Identifier: Apache-2.0
//! Shelves and the deferred-free list against limits, and against a slow and obvious model.

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

fn dirty(memory: Fake, size: u64, uid: u32) -> Spare<Fake, Dirty> {
    Spare::released(memory, bytes(size), TrustDomain::Uid(Uid(uid)))
}

fn zeroed(memory: Fake, size: u64, uid: u32) -> Spare<Fake, Zeroed> {
    dirty(memory, size, uid).scrub(|_| Ok::<_, ()>(())).expect("scrubbed")
}

fn fresh(memory: Fake, size: u64) -> Spare<Fake, Zeroed> {
    Spare::fresh(memory, bytes(size))
}

fn shelf() -> Shelf<Fake> {
    Shelf::new(ShelfLimits { bytes: 100, spares: 5 })
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn memories<S>(spares: &[Spare<Fake, S>]) -> Vec<Fake> {
    spares.iter().map(|spare| *spare.memory()).collect()
}

#[test]
fn a_spare_goes_only_to_its_own_domain_and_size() {
    let mut shelf = shelf();
    shelf.put(zeroed(1, 10, 1000), at(0)).expect("room");
    let context = TrustDomain::Context("u:r:camera:s0".to_owned());
    assert!(shelf.take(10, &TrustDomain::Uid(Uid(1001))).is_none());
    assert!(shelf.take(10, &context).is_none());
    assert!(shelf.take(9, &TrustDomain::Uid(Uid(1000))).is_none());
    assert_eq!(shelf.take(10, &TrustDomain::Uid(Uid(1000))).expect("its own").into_memory(), 1);
    assert!(shelf.is_empty());
}

#[test]
fn a_fresh_spare_goes_to_anyone_whose_own_have_run_out() {
    let mut shelf = shelf();
    for (since, spare) in [(0, fresh(1, 10)), (1, fresh(2, 10)), (2, zeroed(3, 10, 1000))] {
        shelf.put(spare, at(since)).expect("room");
    }
    let take = |shelf: &mut Shelf<Fake>, uid| {
        shelf.take(10, &TrustDomain::Uid(Uid(uid))).map(|spare| (*spare.memory(), spare.domain().is_none()))
    };
    assert_eq!(take(&mut shelf, 1000), Some((3, false)), "its own first, though younger");
    assert_eq!((shelf.fresh(10), shelf.fresh(11)), (2, 0));
    assert_eq!(take(&mut shelf, 1000), Some((1, true)));
    assert_eq!(take(&mut shelf, 1001), Some((2, true)));
    assert_eq!(take(&mut shelf, 1001), None);
}

#[test]
fn a_full_shelf_gives_the_spare_back() {
    let mut shelf = shelf();
    shelf.put(zeroed(1, 60, 1), at(0)).expect("room");
    assert_eq!(*shelf.put(zeroed(2, 41, 1), at(0)).expect_err("101 of 100 bytes").memory(), 2);
    for memory in 3..7 {
        shelf.put(zeroed(memory, 1, 1), at(0)).expect("room");
    }
    assert_eq!(*shelf.put(zeroed(7, 1, 1), at(0)).expect_err("six of five").memory(), 7);
}

#[test]
fn room_is_made_by_the_oldest_of_the_domain_that_has_most() {
    let mut shelf = shelf();
    for (memory, size, uid, since) in [(1, 10, 2, 1), (2, 30, 1, 2), (3, 20, 1, 3), (4, 30, 3, 4)] {
        shelf.put(zeroed(memory, size, uid), at(since)).expect("room");
    }
    assert!(shelf.make_room(10).is_empty(), "there is room");
    assert_eq!(memories(&shelf.make_room(40)), [2], "uid 1 has most");
    assert_eq!(memories(&shelf.make_room(60)), [4], "uid 3 has most now");
    assert!(shelf.make_room(101).is_empty(), "that could never have room");
    assert_eq!(memories(&shelf.make_room(100)), [3, 1]);
    assert!(shelf.is_empty());
}

#[test]
fn a_failed_scrub_leaves_no_spare() {
    assert_eq!(dirty(1, 10, 1).scrub(|_| Err("kernel")).expect_err("failed"), "kernel");
}

#[test]
fn the_oldest_of_the_largest_shrinks_first_and_overshoots() {
    let mut shelf = shelf();
    for (memory, size, uid, since) in [(1, 10, 1, 5), (2, 30, 1, 4), (3, 30, 2, 3), (4, 20, 1, 1)] {
        shelf.put(zeroed(memory, size, uid), at(since)).expect("room");
    }
    assert_eq!(memories(&shelf.shrink(31)), [3, 2]);
    assert_eq!(shelf.bytes(), 30);
    assert_eq!(memories(&shelf.shrink(0)), [4, 1]);
    assert!(shelf.shrink(1).is_empty());
}

#[test]
fn a_shelf_that_goes_away_gives_its_memory_back() {
    let memory = Arc::new(());
    let spare = Spare::released(Arc::clone(&memory), bytes(10), TrustDomain::Uid(Uid(1)));
    let mut shelf = Shelf::new(ShelfLimits { bytes: 100, spares: 5 });
    shelf.put(spare.scrub(|_| Ok::<_, ()>(())).expect("scrubbed"), at(0)).expect("room");
    assert_eq!(Arc::strong_count(&memory), 2);
    drop(shelf);
    assert_eq!(Arc::strong_count(&memory), 1);
}

#[test]
fn what_lies_too_long_expires() {
    let mut shelf = shelf();
    for (memory, since) in [(1, 1), (2, 5), (3, 9)] {
        shelf.put(zeroed(memory, 10, 1), at(since)).expect("room");
    }
    assert_eq!(memories(&shelf.expire(at(6))), [1, 2]);
    assert_eq!(shelf.bytes(), 10);
}

#[test]
fn draining_takes_the_last_first_and_whole_spares() {
    let mut deferred = Deferred::default();
    for (memory, size) in [(1, 10), (2, 20), (3, 30)] {
        deferred.push(dirty(memory, size, 1));
    }
    assert_eq!(memories(&deferred.take(31)), [3, 2]);
    assert_eq!(deferred.bytes(), 10);
    assert_eq!(memories(&deferred.take(0)), [1], "0 takes everything");
    assert!(deferred.is_empty() && deferred.take(1).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Put { size: u64, uid: u32 },
    PutFresh { size: u64 },
    Take { size: u64, uid: u32 },
    Shrink(u64),
    Expire(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1u64..5, 0u32..3).prop_map(|(size, uid)| Step::Put { size: size * 10, uid }),
        1 => (1u64..5).prop_map(|size| Step::PutFresh { size: size * 10 }),
        2 => (1u64..5, 0u32..3).prop_map(|(size, uid)| Step::Take { size: size * 10, uid }),
        1 => (0u64..60).prop_map(Step::Shrink),
        1 => (0u64..50).prop_map(Step::Expire),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// The model is a list of (memory, size, uid if not fresh, since) in the order of arrival.
    #[test]
    fn every_sequence_agrees_with_a_plain_list(steps in steps()) {
        let (mut shelf, mut model) = (shelf(), Vec::<(Fake, u64, Option<u32>, u64)>::new());
        for (now, step) in (1u32..).zip(steps) {
            match step {
                Step::Put { .. } | Step::PutFresh { .. } => {
                    let (spare, size, holder) = match step {
                        Step::Put { size, uid } => (zeroed(now, size, uid), size, Some(uid)),
                        Step::PutFresh { size } => (fresh(now, size), size, None),
                        _ => unreachable!("matched above"),
                    };
                    let held: u64 = model.iter().map(|entry| entry.1).sum();
                    let fits = held + size <= 100 && model.len() < 5;
                    prop_assert_eq!(shelf.has_room(size), fits);
                    prop_assert_eq!(shelf.put(spare, at(now.into())).is_ok(), fits);
                    if fits {
                        model.push((now, size, holder, now.into()));
                    }
                }
                Step::Take { size, uid } => {
                    let oldest = |holder| model.iter().position(|entry| entry.1 == size && entry.2 == holder);
                    let expected = oldest(Some(uid)).or_else(|| oldest(None));
                    let taken = shelf.take(size, &TrustDomain::Uid(Uid(uid))).map(Spare::into_memory);
                    prop_assert_eq!(taken, expected.map(|index| model.remove(index).0));
                }
                Step::Shrink(amount) => {
                    let (mut expected, mut total) = (Vec::new(), 0);
                    while amount == 0 || total < amount {
                        let Some(largest) = model.iter().map(|entry| entry.1).max() else { break };
                        let index = model.iter().position(|entry| entry.1 == largest).expect("the largest");
                        total += largest;
                        expected.push(model.remove(index).0);
                    }
                    prop_assert_eq!(memories(&shelf.shrink(amount)), expected);
                }
                Step::Expire(deadline) => {
                    let mut expired = memories(&shelf.expire(at(deadline)));
                    expired.sort_unstable();
                    let old: Vec<_> = model.iter().filter(|entry| entry.3 < deadline).map(|entry| entry.0).collect();
                    model.retain(|entry| entry.3 >= deadline);
                    prop_assert_eq!(expired, old);
                }
            }
            prop_assert_eq!(shelf.bytes(), model.iter().map(|entry| entry.1).sum::<u64>());
            prop_assert_eq!(shelf.is_empty(), model.is_empty());
            for size in [10, 20, 30, 40] {
                let fresh = model.iter().filter(|entry| entry.1 == size && entry.2.is_none()).count();
                prop_assert_eq!(shelf.fresh(size), fresh);
            }
        }
    }
}
