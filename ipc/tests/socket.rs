// SPDX-License-Identifier: Apache-2.0
//! The serving side over a socket, with a service that does what a test needs.

use anion_ipc::{
    Connection, Endpoint, ParcelFileDescriptor, Result, SERVICE_NAME, ServiceError, SocketServer, Strong,
    calling_identity, connect, impl_interface, new_binder, service_error,
};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    Allocation::Allocation,
    AllocationRequest::AllocationRequest,
    BufferInfo::BufferInfo,
    ClientUsage::ClientUsage,
    Explanation::Explanation,
    HeapInfo::HeapInfo,
    HeapStats::HeapStats,
    IHeapAllocator::{BnHeapAllocator, IHeapAllocator},
    IReservation::IReservation,
    ReservationRequest::ReservationRequest,
};

/// Longest wait for anything that should happen at once, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers `getUsage` with who calls, blocks in `trim` until two calls are there, and panics in `getStats`.
struct Service {
    meeting: Barrier,
}

impl_interface!(Service, |_service, writer, args: &[String]| writeln!(writer, "{args:?}"));

fn refused<T>() -> Result<T> {
    Err(service_error(7, "not in this test"))
}

impl IHeapAllocator for Service {
    fn listHeaps(&self) -> Result<Vec<HeapInfo>> {
        Ok(Vec::new())
    }
    fn allocate(&self, _request: &AllocationRequest) -> Result<Allocation> {
        refused()
    }
    fn reserve(&self, _request: &ReservationRequest) -> Result<Strong<dyn IReservation>> {
        refused()
    }
    fn explain(&self, _request: &AllocationRequest) -> Result<Explanation> {
        refused()
    }
    fn describe(&self, _buffer: &ParcelFileDescriptor) -> Result<BufferInfo> {
        refused()
    }
    fn getStats(&self) -> Result<Vec<HeapStats>> {
        panic!("as the test wants")
    }
    fn getUsage(&self) -> Result<Vec<ClientUsage>> {
        let caller = calling_identity().expect("a socket's peer");
        let uid = i32::try_from(caller.uid).expect("small");
        Ok(vec![ClientUsage { uid, bytes: caller.pid.into(), ..Default::default() }])
    }
    fn trim(&self, _heap: &str, _bytes: i64) -> Result<i64> {
        self.meeting.wait();
        Ok(0)
    }
    fn dumpTo(&self, _output: &ParcelFileDescriptor, _args: &[String]) -> Result<()> {
        refused()
    }
}

/// A server with a thread that accepts; every connection holds a copy of `permits`.
struct Server {
    directory: TempDir,
    socket: Arc<SocketServer>,
    permits: Arc<()>,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("s")).expect("bound");
        let service = new_binder!(BnHeapAllocator, Service { meeting: Barrier::new(2) });
        let socket = Arc::new(SocketServer::new(SERVICE_NAME, &service).expect("set up"));
        let permits = Arc::new(());
        let (accepting, permit) = (Arc::clone(&socket), Arc::clone(&permits));
        thread::spawn(move || {
            for stream in listener.incoming() {
                accepting.serve(stream.expect("a client"), Arc::clone(&permit)).expect("served");
            }
        });
        Self { directory, socket, permits }
    }

    fn client(&self, connections: u32) -> Connection<dyn IHeapAllocator> {
        let endpoint = Endpoint::Socket(self.directory.path().join("s"));
        connect(&endpoint, SERVICE_NAME, connections).expect("connected")
    }

    fn connections(&self) -> usize {
        // One copy is the server's own, one the accepting thread's.
        Arc::strong_count(&self.permits) - 2
    }

    fn await_connections(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.connections() != count {
            assert!(Instant::now() < deadline, "{} connections, not {count}", self.connections());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn the_caller_is_who_the_kernel_says() {
    let server = Server::start();
    let usage = server.client(1).service.getUsage().expect("answered");
    let own_uid = std::fs::metadata("/proc/self").expect("there").uid();
    let caller = (i64::from(usage[0].uid), usage[0].bytes);
    assert_eq!(caller, (i64::from(own_uid), i64::from(std::process::id())));
}

#[test]
fn errors_of_the_service_keep_code_and_message() {
    let server = Server::start();
    let status = server.client(1).service.explain(&AllocationRequest::default()).expect_err("refused");
    let error = ServiceError::of(&status).expect("the service's own");
    assert_eq!((error.code, error.message.as_str()), (7, "not in this test"));
}

#[test]
fn a_panic_in_a_call_fails_that_call_alone() {
    let server = Server::start();
    let client = server.client(1);
    let status = client.service.getStats().expect_err("it panicked");
    assert_eq!(ServiceError::of(&status), None);
    client.service.listHeaps().expect("the same connection still works");
    server.client(1).service.listHeaps().expect("so do others");
}

#[test]
fn a_permit_is_held_by_every_connection_and_given_back() {
    let server = Server::start();
    let (first, second) = (server.client(1), server.client(3));
    server.await_connections(4);
    drop(second);
    server.await_connections(1);
    first.service.listHeaps().expect("not affected");
    drop(first);
    server.await_connections(0);
}

#[test]
fn calls_over_several_connections_run_at_once() {
    let server = Server::start();
    let client = server.client(2);
    thread::scope(|scope| {
        // Neither call returns unless the other is being answered too.
        scope.spawn(|| client.service.trim("", 0).expect("met"));
        client.service.trim("", 0).expect("met");
    });
}

#[test]
fn a_stop_ends_sessions_and_gives_the_permits_back() {
    let server = Server::start();
    let client = server.client(2);
    client.service.listHeaps().expect("answered");
    assert!(server.socket.stop(PATIENCE));
    assert!(client.service.listHeaps().is_err());
    server.await_connections(0);
}

#[test]
fn a_stop_does_not_wait_longer_than_it_should() {
    let server = Server::start();
    let client = server.client(1);
    thread::scope(|scope| {
        let stuck = scope.spawn(|| client.service.trim("", 0));
        server.await_connections(1);
        thread::sleep(Duration::from_millis(100));
        assert!(!server.socket.stop(Duration::from_millis(200)), "a call is being answered");
        assert!(stuck.join().expect("ended").is_err(), "the client is not left waiting");
    });
}
