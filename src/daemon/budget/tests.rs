// SPDX-License-Identifier: Apache-2.0

use super::*;
use anion_ipc::Permit as _;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

const ROOT: u32 = 0;
const PRIVILEGED: u32 = 990;
/// A number that is no descriptor.
const NONE: RawFd = -1;

fn limits(connections: usize, connections_per_uid: usize, sessions_per_uid: usize) -> Limits {
    let held = Held { bytes: 4000, descriptors: 40 };
    Limits { connections, connections_per_uid, sessions_per_uid, held }
}

fn budget(limits: Limits) -> Arc<Budget> {
    Budget::new(limits, HashSet::from([ROOT, PRIVILEGED]))
}

const CLIENT: Opening = Opening { founds_session: true, is_operator: false };
const OPERATOR: Opening = Opening { founds_session: true, is_operator: true };

fn admit(budget: &Arc<Budget>, uid: u32) -> Result<Permit, OverBudget> {
    budget.admit(uid, 1, NONE)
}

#[test]
fn one_uid_cannot_take_the_share_of_another() {
    let budget = budget(limits(5, 3, 2));
    let held = [(); 3].map(|()| admit(&budget, 1000).expect("within"));
    assert_eq!(admit(&budget, 1000).err(), Some(OverBudget::Connections { uid: 1000, limit: 3 }));
    let others = [1001, 1002].map(|uid| admit(&budget, uid).expect("within"));
    assert_eq!(admit(&budget, 1003).err(), Some(OverBudget::Total { uid: 1003, limit: 5 }));
    drop((held, others));
    assert!(admit(&budget, 1000).is_ok());
}

#[test]
fn places_are_kept_for_who_has_none_and_for_who_is_privileged() {
    let budget = budget(limits(16, 16, 16));
    let crowd: Vec<_> = (0..12).map(|_| admit(&budget, 1000).expect("within")).collect();
    let full = |uid| Some(OverBudget::Total { uid, limit: 16 });
    assert_eq!(admit(&budget, 1000).err(), full(1000));
    let newcomers = [1001, 1002].map(|uid| admit(&budget, uid).expect("a place is kept"));
    assert_eq!(admit(&budget, 1003).err(), full(1003), "nobody was silent for long");
    let privileged = [(); 2].map(|()| admit(&budget, PRIVILEGED).expect("a place is kept"));
    assert_eq!(admit(&budget, PRIVILEGED).err(), full(PRIVILEGED));
    drop((crowd, newcomers, privileged));
    assert!(budget.lock().total == 0 && budget.lock().by_uid.is_empty());
}

#[test]
fn the_user_with_the_most_connections_loses_a_silent_one_to_a_newcomer() {
    let budget = budget(limits(3, 3, 3));
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let mut crowd = vec![budget.admit(1000, 1, ours.as_raw_fd()).expect("within")];
    crowd.extend((0..2).map(|_| admit(&budget, 1000).expect("within")));
    let silent_since = |permit: &Permit, millis| permit.last.store(millis, Ordering::Relaxed);
    let now = u64::try_from(IDLE.as_millis()).expect("small");
    crowd.iter().zip([0, 5, 5]).for_each(|(permit, millis)| silent_since(permit, millis));
    assert_eq!(budget.lock().evict_for(2, now), None, "who has about as many gets none");
    assert_eq!(budget.lock().evict_for(0, now - 1), None, "it was not silent for long");
    assert_eq!(budget.lock().evict_for(0, now), Some((1000, 1)));
    assert_eq!(theirs.read(&mut [0]).expect("the end"), 0);
    let newcomer = admit(&budget, 1001).expect("there is room");
    assert!(admit(&budget, 1002).is_err());
    drop((crowd, newcomer));
    assert_eq!(budget.lock().total, 0, "the one that made room is counted once");
}

#[test]
fn a_socket_that_is_about_to_be_closed_is_left_alone() {
    let budget = budget(limits(3, 3, 3));
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let permits = [(); 3].map(|()| budget.admit(1000, 1, ours.as_raw_fd()).expect("within"));
    permits.iter().for_each(anion_ipc::Permit::closing);
    assert!(budget.lock().evict_for(0, u64::MAX).is_some());
    ours.set_nonblocking(true).expect("set");
    assert_eq!((&ours).read(&mut [0]).expect_err("it is open").kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_uid_opens_only_as_many_sessions_as_its_limit_permits() {
    let budget = budget(limits(5, 3, 2));
    let [first, second, third] = [(); 3].map(|()| admit(&budget, 1000).expect("within"));
    assert!(first.opens(CLIENT).is_ok() && second.opens(CLIENT).is_ok());
    assert!(third.opens(CLIENT).is_err());
    assert!(admit(&budget, 1001).expect("within").opens(CLIENT).is_ok(), "another uid has its own");
    drop(first);
    assert!(third.opens(CLIENT).is_ok());
}

#[test]
fn held_bytes_and_descriptors_are_limited_for_each_uid_and_in_total() {
    let budget = budget(limits(16, 16, 16));
    let bytes = |bytes| Held { bytes, descriptors: 0 };
    let [first, second] = [(); 2].map(|()| admit(&budget, 1).expect("within"));
    assert!(first.admits(bytes(1000)), "a quarter of all");
    assert!(!second.admits(bytes(1)));
    assert!(second.admits(bytes(0)) && first.admits(bytes(10)), "less is always admitted");
    assert!(!second.admits(Held { bytes: 0, descriptors: 11 }));
    drop(second);
    let others: Vec<_> = (2..4).map(|uid| admit(&budget, uid).expect("within")).collect();
    assert!(others.iter().all(|permit| permit.admits(bytes(1000))) && first.admits(bytes(1000)));
    assert!(!admit(&budget, 4).expect("within").admits(bytes(1)), "the rest is kept");
    assert!(admit(&budget, ROOT).expect("within").admits(bytes(1000)));
    drop((first, others));
    assert_eq!(budget.lock().held, Held::default());
}

#[test]
fn root_looks_after_a_service_whose_places_are_taken_and_allocates_nothing_there() {
    let budget = budget(limits(5, 3, 2));
    let held = [(); 3].map(|()| admit(&budget, ROOT).expect("within"));
    let beside = [(); OPERATORS].map(|()| admit(&budget, ROOT).expect("beside"));
    assert_eq!(beside[0].opens(OPERATOR), Ok(()));
    assert!(beside[0].admits(Held { bytes: 100, descriptors: 0 }), "its calls have room");
    let Refused(refused) = beside[1].opens(CLIENT).expect_err("no place for it");
    assert!(refused.contains("uid 0 has 3 connections already"), "{refused}");
    let joining = Opening { founds_session: false, ..CLIENT };
    assert!(beside[2].opens(joining).is_err(), "nor for a connection that joins a session");
    assert_eq!(admit(&budget, ROOT).err(), Some(OverBudget::Connections { uid: ROOT, limit: 3 }));
    assert!(admit(&budget, 1001).is_ok(), "places beside the budget are not of it");
    drop((held, beside));
    let open = budget.lock();
    assert_eq!((open.total, open.operators, open.by_uid.len()), (0, 0, 0));
}

#[test]
fn an_operator_of_root_has_a_session_beyond_the_limit() {
    let budget = budget(limits(5, 3, 2));
    let [first, second, third] = [(); 3].map(|()| admit(&budget, ROOT).expect("within"));
    assert!(first.opens(CLIENT).is_ok() && second.opens(CLIENT).is_ok());
    assert!(third.opens(CLIENT).is_err());
    assert!(third.opens(OPERATOR).is_ok());
    drop((first, second, third));
    let [first, second, third] = [(); 3].map(|()| admit(&budget, 4000).expect("within"));
    assert!(first.opens(CLIENT).is_ok() && second.opens(CLIENT).is_ok());
    assert!(third.opens(OPERATOR).is_err(), "who only says so is a client");
}
