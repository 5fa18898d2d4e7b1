// SPDX-License-Identifier: Apache-2.0
//! Tests the service when resources run out: descriptors, inotify watches. It refuses cleanly or
//! falls back, its accounts stay exact, and it recovers when resources are free.

mod common;

use anion_ipc::{Connection, Endpoint, SERVICE_NAME, ServiceError, connect};
use common::{Daemon, eventually};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::collections::BTreeSet;
use std::fs;
use std::sync::{Mutex, PoisonError};
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    Allocation::Allocation, AllocationRequest::AllocationRequest, ErrorCode::ErrorCode,
    IHeapAllocator::IHeapAllocator,
};

/// One test at a time: a program that another test starts has copies of this test's descriptors
/// until it is executed.
static ALONE: Mutex<()> = Mutex::new(());

/// Connects to a daemon.
fn client(daemon: &Daemon) -> Connection<dyn IHeapAllocator> {
    connect(&Endpoint::Socket(daemon.socket()), SERVICE_NAME, 1).expect("the daemon serves")
}

fn allocate(service: &dyn IHeapAllocator, count: i32) -> anion_ipc::Result<Allocation> {
    service.allocate(&AllocationRequest { size: 4096, count, heapIdMask: -1, ..Default::default() })
}

fn buffers_held(service: &dyn IHeapAllocator) -> i64 {
    service.getUsage().expect("usage").iter().map(|usage| usage.buffers).sum()
}

#[test]
fn running_out_of_descriptors_is_no_memory_and_passes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let daemon = Daemon::start_under(&["sh", "-c", "ulimit -n 100; exec \"$@\"", "sh"], &[]);
    let connection = client(&daemon);
    let service = connection.service.as_ref();
    let mut held = Vec::new();
    let status = loop {
        match allocate(service, 4) {
            Ok(allocation) => held.push(allocation),
            Err(status) => break status,
        }
        assert!(held.len() < 100, "400 buffers cannot fit 100 descriptors");
    };
    let error = ServiceError::of(&status).expect("the service answers");
    assert_eq!(error.code, ErrorCode::NO_MEMORY.0, "{error}");
    assert!(held.len() > 10, "only {} batches", held.len());
    assert_eq!(
        buffers_held(service),
        4 * i64::try_from(held.len()).expect("few"),
        "nothing leaks into the books"
    );
    held.pop();
    assert!(allocate(service, 4).is_ok(), "released memory is used again at once");
    drop(held);
    eventually("all buffers are released", || buffers_held(service) == 0);
}

/// Each limit permits one descriptor more, so that each step of the call has none in turn.
#[test]
fn a_buffer_that_is_presented_without_free_descriptors_is_refused_for_lack_of_them() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut daemon = Daemon::start(&[]);
    let mut allocation = allocate(client(&daemon).service.as_ref(), 1).expect("served");
    let file = allocation.buffers.remove(0).fd.expect("a descriptor");
    daemon.kill();
    daemon.start_again();
    eventually("the next service serves", || {
        connect::<dyn IHeapAllocator>(&Endpoint::Socket(daemon.socket()), SERVICE_NAME, 1).is_ok()
    });
    let connection = client(&daemon);
    let service = connection.service.as_ref();
    service.getUsage().expect("it serves");
    let numbers = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("it runs").flatten();
    let used: BTreeSet<u64> = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let lowest = (0..).find(|number| !used.contains(number)).expect("a free number");
    let (mut refusals, maximum) = (0, getrlimit(Resource::Nofile).maximum);
    let id = (lowest..lowest + 40).find_map(|most| {
        let limit = Rlimit { current: Some(most), maximum };
        prlimit(Pid::from_raw(daemon.pid().as_raw()), Resource::Nofile, limit).expect("our child");
        let status = match service.adopt(&file, 0) {
            Ok(id) => return Some(id),
            Err(status) => status,
        };
        assert_eq!(buffers_held(service), 0, "nothing is charged");
        // The transport refuses a descriptor that it cannot receive.
        if let Some(error) = ServiceError::of(&status) {
            assert_eq!(error.code, ErrorCode::NO_MEMORY.0, "{error}");
            refusals += 1;
        }
        None
    });
    assert!(id.is_some() && refusals > 0, "{id:?} after {refusals} refusals");
    assert_eq!(buffers_held(service), 1);
}

#[test]
fn running_out_of_inotify_watches_is_survived_by_asking_leases() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The limit of watches applies to each user namespace, so the test has its own, with a limit of
    // ten.
    let limited = "echo 10 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
    let daemon =
        Daemon::start_under(&["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh"], &[]);
    let connection = client(&daemon);
    let service = connection.service.as_ref();
    let held: Vec<_> = (0..5).map(|_| allocate(service, 8).expect("watches are not needed")).collect();
    assert_eq!(buffers_held(service), 40);
    drop(held);
    eventually("unwatched buffers are released", || buffers_held(service) == 0);
    assert!(allocate(service, 8).is_ok());
}
