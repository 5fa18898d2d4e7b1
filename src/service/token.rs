// SPDX-License-Identifier: Apache-2.0
//! The binder object of buffers whose release the kernel does not report. When the client drops its
//! last reference, the transport drops the object, and the buffers are released.

use super::{convert, status};
use crate::allocator::BufferToken;
use anion_ipc::{Result, Strong, impl_interface, new_binder};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IBufferToken::{BnBufferToken, IBufferToken};

pub(super) struct TokenService(BufferToken);

impl TokenService {
    pub(super) fn binder(token: BufferToken) -> Strong<dyn IBufferToken> {
        new_binder!(BnBufferToken, Self(token))
    }
}

impl_interface!(TokenService);

impl IBufferToken for TokenService {
    fn release(&self, ids: &[i64]) -> Result<()> {
        let ids = convert::buffer_ids(ids).map_err(status::bad_request)?;
        self.0.release(&ids).map_err(status::bad_request)
    }
}

// Over a socket, which Android's builds do not serve.
#[cfg(all(test, not(soong)))]
mod tests {
    use crate::allocator::Allocator;
    use crate::allocator::tests::token::with_regions;
    use crate::service::HeapAllocatorService;
    use anion_ipc::{Connection, Endpoint, SERVICE_NAME, ServiceError, SocketServer, connect};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};
    use tempfile::TempDir;
    use vendor_anion_allocator::aidl::vendor::anion::allocator::{
        Allocation::Allocation, AllocationRequest::AllocationRequest, ErrorCode::ErrorCode,
        IHeapAllocator::IHeapAllocator, ReleaseMechanism::ReleaseMechanism,
    };

    const PATIENCE: Duration = Duration::from_secs(120);

    /// A service at a socket with a heap of ashmem regions and one of files.
    struct Served {
        directory: TempDir,
        allocator: Arc<Allocator>,
        server: Arc<SocketServer>,
    }

    impl Served {
        fn start() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let listener = UnixListener::bind(directory.path().join("socket")).expect("bound");
            let allocator = with_regions();
            let service = HeapAllocatorService::binder(Arc::clone(&allocator), "test".to_owned());
            let server = Arc::new(SocketServer::new(&service).expect("a server"));
            let accepting = Arc::clone(&server);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    accepting.serve(stream.expect("a client"), ()).expect("served");
                }
            });
            Self { directory, allocator, server }
        }

        fn client(&self) -> Connection<dyn IHeapAllocator> {
            let endpoint = Endpoint::Socket(self.directory.path().join("socket"));
            connect(&endpoint, SERVICE_NAME, 1).expect("connected")
        }

        /// Returns the number of buffers of the ashmem heap that are held.
        fn held(&self) -> u64 {
            self.allocator.stats()[0].counters.buffers
        }

        fn await_none(&self) {
            let start = Instant::now();
            while self.held() > 0 {
                assert!(start.elapsed() < PATIENCE, "{} are still held", self.held());
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn allocate(connection: &Connection<dyn IHeapAllocator>, heap: &str) -> Allocation {
        let names = vec![heap.to_owned()];
        let request =
            AllocationRequest { size: 4096, count: 2, heapNames: names, ..AllocationRequest::default() };
        connection.service.allocate(&request).expect("served")
    }

    #[test]
    fn dropping_the_last_reference_gives_up_what_a_token_holds() {
        let served = Served::start();
        let owner = served.client();
        let Allocation { buffers, token } = allocate(&owner, "regions");
        drop(buffers);
        assert_eq!(served.held(), 2, "closing says nothing");
        drop(token);
        served.await_none();
    }

    #[test]
    fn the_end_of_a_session_gives_up_what_its_tokens_hold() {
        let served = Served::start();
        let owner = served.client();
        let kept = allocate(&owner, "regions");
        assert!(kept.token.is_some() && served.held() == 2);
        assert!(served.server.stop(PATIENCE), "the session ends while its client keeps the reference");
        served.await_none();
    }

    #[test]
    fn a_token_releases_by_id_and_refuses_ids_of_others() {
        let served = Served::start();
        let owner = served.client();
        let (one, other) = (allocate(&owner, "regions"), allocate(&owner, "regions"));
        let token = one.token.as_ref().expect("a token");
        let foreign = token.release(&[other.buffers[0].id]).expect_err("another allocation's");
        assert_eq!(ServiceError::of(&foreign).expect("of the service").code, ErrorCode::BAD_REQUEST.0);
        token.release(&[one.buffers[1].id]).expect("its own");
        assert_eq!(served.held(), 3);
    }

    #[test]
    fn heaps_tell_whether_there_is_a_token() {
        let served = Served::start();
        let owner = served.client();
        for heap in owner.service.listHeaps().expect("heaps") {
            let by_token = heap.releaseMechanism == ReleaseMechanism::TOKEN;
            assert_eq!(allocate(&owner, &heap.name).token.is_some(), by_token, "{}", heap.name);
        }
    }
}
