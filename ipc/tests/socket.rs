// SPDX-License-Identifier: Apache-2.0
//! The serving side over a socket, with a service that does what a test needs.

use anion_ipc::{
    Connection, DeathLink, Endpoint, Opening, ParcelFileDescriptor, Permit, Refused, Result, SERVICE_NAME,
    ServiceError, SocketServer, Strong, caller_takes_calls, calling_identity, connect, connect_for_callbacks,
    impl_interface, is_same_object, new_binder, service_error,
};
use rsbinder::rpc::RpcSession;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
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
    IPressureListener::{BnPressureListener, IPressureListener},
    IReservation::IReservation,
    PressureLevel::PressureLevel,
    ReservationRequest::ReservationRequest,
};

/// Longest wait for anything that should happen at once, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Answers `getUsage` with who calls, blocks in `trim` until two calls are there, and panics in
/// `getStats`. Keeps one listener, and calls it when it comes, comes again, or dies.
struct Service {
    meeting: Barrier,
    trims: Sender<()>,
    listener: Mutex<Option<(Strong<dyn IPressureListener>, DeathLink)>>,
    deaths: Sender<()>,
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
        self.trims.send(()).expect("the test is there");
        self.meeting.wait();
        Ok(0)
    }
    fn getPressure(&self) -> Result<PressureLevel> {
        refused()
    }
    fn registerPressureListener(&self, listener: &Strong<dyn IPressureListener>) -> Result<()> {
        if !caller_takes_calls() {
            return refused();
        }
        let deaths = self.deaths.clone();
        let link = DeathLink::new(listener, move || deaths.send(()).expect("the test waits")).expect("alive");
        listener.onPressure(PressureLevel::MODERATE)?;
        *self.listener.lock().expect("no panic") = Some((listener.clone(), link));
        Ok(())
    }
    fn unregisterPressureListener(&self, listener: &Strong<dyn IPressureListener>) -> Result<()> {
        let mut kept = self.listener.lock().expect("no panic");
        let is_kept = kept.take_if(|(known, _)| is_same_object(known, listener)).is_some();
        if is_kept { Ok(()) } else { refused() }
    }
    fn dumpTo(&self, _output: &ParcelFileDescriptor, _args: &[String]) -> Result<()> {
        refused()
    }
    fn adopt(&self, _buffer: &ParcelFileDescriptor, _id: i64) -> Result<i64> {
        refused()
    }
}

/// Sessions that a server admits.
const MOST_SESSIONS: usize = 16;

/// A client's object.
struct Listener(Sender<i32>);

impl_interface!(Listener, |_listener, _writer, _args: &[String]| Ok(()));

impl IPressureListener for Listener {
    fn onPressure(&self, level: PressureLevel) -> Result<()> {
        self.0.send(level.0).expect("the test waits");
        Ok(())
    }
}

/// Counts sessions.
struct SessionCount(Arc<AtomicUsize>);

impl Permit for SessionCount {
    fn opens(&self, opening: Opening) -> std::result::Result<(), Refused> {
        let added = usize::from(opening.founds_session);
        let before = self.0.fetch_add(added, Ordering::Relaxed);
        if before + added > MOST_SESSIONS { Err(Refused("too many sessions".to_owned())) } else { Ok(()) }
    }
}

/// A server with a thread that accepts; every connection holds a copy of `permits`, in which
/// sessions are counted.
struct Server {
    directory: TempDir,
    socket: Arc<SocketServer>,
    permits: Arc<AtomicUsize>,
    trims: Receiver<()>,
    deaths: Receiver<()>,
}

impl Server {
    fn start() -> Self {
        Self::after(0)
    }

    /// Starts a server that closes the first connections.
    fn after(closed: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("s")).expect("bound");
        let ((came, trims), (died, deaths)) = (channel(), channel());
        let (meeting, listener_kept) = (Barrier::new(2), Mutex::default());
        let service = Service { meeting, trims: came, listener: listener_kept, deaths: died };
        let service = new_binder!(BnHeapAllocator, service);
        let socket = Arc::new(SocketServer::new(&service).expect("set up"));
        let permits = Arc::new(AtomicUsize::new(0));
        let (accepting, permit) = (Arc::clone(&socket), Arc::clone(&permits));
        thread::spawn(move || {
            for stream in listener.incoming().skip(closed) {
                let permit = SessionCount(Arc::clone(&permit));
                accepting.serve(stream.expect("a client"), permit).expect("served");
            }
        });
        Self { directory, socket, permits, trims, deaths }
    }

    fn client(&self, connections: u32) -> Connection<dyn IHeapAllocator> {
        connect(&self.endpoint(), SERVICE_NAME, connections).expect("connected")
    }

    /// Returns a client that takes calls, with an object for them and what arrives there.
    fn listener(&self) -> (Connection<dyn IHeapAllocator>, Strong<dyn IPressureListener>, Receiver<i32>) {
        let (told, levels) = channel();
        let listener = new_binder!(BnPressureListener, Listener(told));
        (connect_for_callbacks(&self.endpoint(), SERVICE_NAME).expect("connected"), listener, levels)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Socket(self.directory.path().join("s"))
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

/// As a client of libbinder finds the service: it knows no names.
#[test]
fn the_root_object_is_the_service_itself() {
    let server = Server::start();
    let session = RpcSession::setup_unix_client_android13plus(server.directory.path().join("s"), 0);
    let root = session.expect("connected").get_root().expect("answered");
    let service: Strong<dyn IHeapAllocator> = Strong::try_from(root).expect("of the interface");
    assert!(service.listHeaps().expect("answered").is_empty());
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
fn a_session_with_several_connections_is_admitted_or_refused_once() {
    let server = Server::start();
    let clients: Vec<_> = (0..MOST_SESSIONS).map(|_| server.client(2)).collect();
    assert_eq!(server.permits.load(Ordering::Relaxed), MOST_SESSIONS);
    let refused = connect::<dyn IHeapAllocator>(&server.endpoint(), SERVICE_NAME, 2);
    assert!(refused.is_err(), "one more than there may be");
    server.await_connections(2 * MOST_SESSIONS);
    clients.iter().for_each(|client| drop(client.service.listHeaps().expect("not affected")));
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
fn a_client_that_takes_calls_is_called_and_its_end_is_noticed() {
    let server = Server::start();
    let (client, listener, levels) = server.listener();
    client.service.registerPressureListener(&listener).expect("it can be called");
    assert_eq!(levels.recv_timeout(PATIENCE), Ok(PressureLevel::MODERATE.0));
    server.await_connections(2);
    drop(client);
    server.deaths.recv_timeout(PATIENCE).expect("noticed, though the process lives");
    server.await_connections(0);
}

#[test]
fn a_link_that_is_dropped_tells_no_more_and_objects_are_told_apart() {
    let server = Server::start();
    let (client, listener, _levels) = server.listener();
    let other = new_binder!(BnPressureListener, Listener(channel().0));
    client.service.registerPressureListener(&listener).expect("it can be called");
    client.service.unregisterPressureListener(&other).expect_err("another object");
    client.service.unregisterPressureListener(&listener).expect("the same object");
    drop(client);
    server.await_connections(0);
    assert!(server.deaths.try_recv().is_err());
}

#[test]
fn a_client_without_a_connection_for_calls_is_recognised() {
    let server = Server::start();
    let (_, listener, _levels) = server.listener();
    server.client(3).service.registerPressureListener(&listener).expect_err("it cannot be called");
}

#[test]
fn an_own_object_cannot_be_watched() {
    let own: Strong<dyn IPressureListener> = new_binder!(BnPressureListener, Listener(channel().0));
    let error = DeathLink::new(&own, || ()).err().expect("it dies with this process");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_connection_that_the_service_closes_without_a_reason_is_made_once_more() {
    Server::after(1).client(1).service.listHeaps().expect("the second connection is served");
    let closed = connect::<dyn IHeapAllocator>(&Server::after(2).endpoint(), SERVICE_NAME, 1);
    assert_eq!(closed.err().map(|error| error.kind()), Some(std::io::ErrorKind::ConnectionReset));
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
        server.trims.recv_timeout(PATIENCE).expect("the call arrives");
        assert!(!server.socket.stop(Duration::from_millis(200)), "a call is being answered");
        assert!(stuck.join().expect("ended").is_err(), "the client is not left waiting");
    });
}
