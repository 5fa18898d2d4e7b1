// SPDX-License-Identifier: Apache-2.0
//! Buffers that clients present after the service that made them has ended without passing them on.

use super::*;
use crate::allocator::NotAdopted;
use crate::sys::memfd::{MemfdFactory, close_seals};
use crate::units::BufferId;

#[test]
fn a_presented_buffer_has_its_id_heap_label_and_size_and_is_released_as_before() {
    let first = still(config());
    let grants = first.allocate(&caller(1), &request(4, 2, MIB)).expect("camera");
    drop(first);
    let second = still(config());
    for grant in &grants {
        assert_eq!(second.adopt(&caller(1), &grant.fd, grant.id).expect("ours"), grant.id);
        let record = second.describe(&grant.fd).expect("live").record;
        assert_eq!((record.id, record.bytes, record.uid), (grant.id, grant.bytes, Uid(1)));
        assert_eq!((record.heap, record.label.as_str()), (0, "test"));
    }
    assert_eq!(charged(&second, 1), (2 * MIB, 2));
    assert_eq!(second.stats()[0].counters.bytes, 2 * MIB);
    drop(grants);
    second.start_reaper().expect("thread");
    await_held(&second, 1, 0);
}

#[test]
fn a_buffer_is_charged_once_to_the_first_who_presents_it() {
    let first = still(config());
    let grants = first.allocate(&caller(1), &request(1, 1, PAGE)).expect("room");
    let (fd, id) = (&grants[0].fd, grants[0].id);
    let second = still(config());
    for _ in 0..2 {
        assert_eq!(second.adopt(&caller(1), fd, id).expect("ours"), id);
    }
    let refused = second.adopt(&caller(2), fd, id).expect_err("charged to another");
    assert!(matches!(refused, NotAdopted::OfAnother), "{refused}");
    assert_eq!((charged(&second, 1), charged(&second, 2)), ((PAGE, 1), (0, 0)));
    // A live buffer of a service that still runs is known, too.
    let own = second.allocate(&caller(1), &request(1, 1, PAGE)).expect("room");
    assert_eq!(second.adopt(&caller(1), &own[0].fd, BufferId(7)).expect("live"), own[0].id);
}

#[test]
fn an_id_that_no_earlier_service_can_have_given_is_replaced() {
    let first = still(config());
    let grants = first.allocate(&caller(1), &request(1, 3, PAGE)).expect("room");
    let second = still(config());
    let [a, b, c] = [0, 1, 2].map(|index: usize| &grants[index].fd);
    let kept = second.adopt(&caller(1), a, BufferId(5)).expect("ours");
    assert_eq!(kept, BufferId(5), "an id of before");
    let taken = second.adopt(&caller(1), b, BufferId(5)).expect("ours");
    let future = second.adopt(&caller(1), c, BufferId(u64::MAX)).expect("ours");
    assert!(kept < taken && taken < future && future < BufferId(u64::MAX), "{taken} {future}");
    let next = second.allocate(&caller(1), &request(1, 1, PAGE)).expect("room");
    assert!(future < next[0].id);
}

#[test]
fn only_files_that_a_service_made_are_accepted_by_seals_name_and_heap() {
    let allocator = still(config());
    let factory = MemfdFactory::probe().expect("memfd");
    let refused = |fd: &OwnedFd| match allocator.adopt(&caller(1), fd, BufferId(1)) {
        Err(NotAdopted::NotOurs(why)) => why,
        other => panic!("not refused: {other:?}"),
    };
    for (name, why) in [
        ("frames", "its name is not that of a buffer"),
        ("anion:nowhere", "no heap is called nowhere"),
        ("anion:", "heap name is"),
        ("anion:system:label\nbreak", "name is"),
    ] {
        let file = factory.create(name, PAGE).expect("made");
        assert!(refused(&file).contains(why), "{name}: {}", refused(&file));
    }
    let unsealed = nix::sys::memfd::memfd_create(c"anion:system", nix::sys::memfd::MFdFlags::empty());
    assert_eq!(refused(&unsealed.expect("made")), "it is no memfd with the seals of a buffer");
    let null: OwnedFd = std::fs::File::open("/dev/null").expect("opened").into();
    assert_eq!(refused(&null), "it is no memfd with the seals of a buffer");
    assert_eq!(charged(&allocator, 1), (0, 0));
    // A client's seals do not prevent it.
    let sealed = factory.create("anion:system:a:b", PAGE).expect("made");
    close_seals(&sealed).expect("open before");
    allocator.adopt(&caller(1), &sealed, BufferId(1)).expect("as an earlier service makes it");
}

#[test]
fn buffers_beyond_the_descriptors_of_the_service_are_refused() {
    let first = still(config());
    let grants = first.allocate(&caller(1), &request(1, 1, PAGE)).expect("room");
    let second = still(config());
    second.registry().ledger.set_max_files(0);
    let refused = second.adopt(&caller(1), &grants[0].fd, grants[0].id).expect_err("full");
    assert!(matches!(refused, NotAdopted::Full(_)), "{refused}");
    assert_eq!(charged(&second, 1), (0, 0));
}
