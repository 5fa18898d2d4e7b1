// SPDX-License-Identifier: Apache-2.0
//! Connects to the service, and reconnects.

use super::buffer::{Buffer, Heap};
use super::error::Error;
use super::held::Held;
use super::process::OfProcess;
use super::request::Request;
use anion_ipc::{Endpoint, Found, ParcelFileDescriptor, SERVICE_NAME, Strong, find, is_lost};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{io, process, thread};
use vendor_anion_allocator::aidl::vendor::anion::allocator::Allocation::Allocation;
use vendor_anion_allocator::aidl::vendor::anion::allocator::BufferInfo::BufferInfo;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Explanation::Explanation;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// First pause between two attempts to reach a service that has ended; it doubles up to
/// [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address of the service. With `None` the client tries the same addresses as `anionctl`: the
    /// socket that `ANION_SOCKET` names, else kernel binder if the service is registered there,
    /// else `$XDG_RUNTIME_DIR/anion/allocator.sock` and `/run/anion/allocator.sock`, of which it
    /// uses the first that answers.
    pub endpoint: Option<Endpoint>,
    /// Time that a call waits for a service that has ended to start again; zero for a single
    /// attempt. A first connection does not wait.
    pub patience: Duration,
    /// Number of concurrent calls over a socket, at least 1. Kernel binder ignores it.
    pub connections: u32,
}

/// Returns no address, five seconds and one connection.
impl Default for Settings {
    fn default() -> Self {
        Self { endpoint: None, patience: Duration::from_secs(5), connections: 1 }
    }
}

type Service = OfProcess<Found<dyn IHeapAllocator>>;

/// A client of the allocator service. Threads can share it. In a child of fork(2) the first call
/// opens a separate connection, and the parent's is not used.
pub struct Client {
    settings: Settings,
    is_operator: bool,
    /// Address at which the service was found first.
    endpoint: Endpoint,
    link: Link,
}

/// The state of a client in one process.
struct Link {
    pid: u32,
    /// The last connection, which may already be lost; `None` before a child's first call. The lock
    /// is held while the connection is replaced and buffers are presented, never during a call.
    current: Mutex<Option<Arc<Service>>>,
    generation: AtomicU64,
    held: Held,
    /// The state for a child of this process, with a lock of its own: the child's copy of the other
    /// lock may be held by a thread that does not exist in the child.
    child: OnceLock<Box<Link>>,
}

impl Link {
    fn new(current: Option<Service>, generation: u64) -> Self {
        let (current, generation) = (Mutex::new(current.map(Arc::new)), AtomicU64::new(generation));
        Self { pid: process::id(), current, generation, held: Held::default(), child: OnceLock::new() }
    }
}

impl Client {
    /// Connects with the default [`Settings`].
    ///
    /// # Errors
    /// As [`Client::with`].
    pub fn connect() -> Result<Self, Error> {
        Self::with(Settings::default())
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no service answers; the message names the cause for every address
    /// that was tried, and the command that helps.
    pub fn with(settings: Settings) -> Result<Self, Error> {
        Self::open(settings, false)
    }

    /// Connects for administration, not to allocate: root and the service's own user can connect
    /// even if the service has no free connections. It opens one connection, regardless of the
    /// settings.
    ///
    /// # Errors
    /// As [`Client::with`].
    pub fn as_operator(settings: Settings) -> Result<Self, Error> {
        Self::open(settings, true)
    }

    fn open(settings: Settings, is_operator: bool) -> Result<Self, Error> {
        let service = open(settings.endpoint.clone(), settings.connections, is_operator);
        let service = service.map_err(Error::connecting)?;
        let endpoint = service.endpoint.clone();
        Ok(Self { settings, is_operator, endpoint, link: Link::new(Some(OfProcess::new(service)), 1) })
    }

    /// Returns the address of the service.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the number of services that this client was connected to so far. While the number is
    /// the same, objects that [`Client::call`] made in the service still exist. A child of fork(2)
    /// has one more than its parent.
    pub fn generation(&self) -> u64 {
        self.link().generation.load(Ordering::Acquire)
    }

    /// Allocates the buffers of `request`: one heap serves all of them, zeroed unless the heap is
    /// secure.
    ///
    /// # Errors
    /// [`Error::Refused`] with the service's reason; then nothing is allocated. Others as
    /// [`Client::call`].
    pub fn allocate(&self, request: &Request) -> Result<Vec<Buffer>, Error> {
        let Allocation { buffers, token } =
            self.call(|service| service.allocate(&request.to_aidl(version_for(request, service)?)))?;
        let wanted = request.to_aidl(1);
        if usize::try_from(wanted.count).ok() != Some(buffers.len()) {
            let (asked, got) = (wanted.count, buffers.len());
            return Err(Error::Contract(format!("the request has {asked} buffers, but the reply has {got}")));
        }
        let accept = |buffer| Buffer::accept(buffer, token.as_ref(), request.bytes());
        let buffers = buffers.into_iter().map(accept).collect::<Result<Vec<_>, _>>()?;
        self.held().add_buffers(&buffers);
        Ok(buffers)
    }

    /// Allocates one buffer, regardless of the request's count.
    ///
    /// # Errors
    /// As [`Client::allocate`].
    pub fn allocate_one(&self, request: &Request) -> Result<Buffer, Error> {
        let buffers = self.allocate(&request.clone().count(1))?;
        buffers.into_iter().next().ok_or_else(|| Error::Contract("the reply has no buffer".to_owned()))
    }

    /// Explains what [`Client::allocate`] would do, heap by heap, without changing memory or
    /// counters.
    ///
    /// # Errors
    /// As [`Client::call`]. It is no error if no heap can serve the request.
    pub fn explain(&self, request: &Request) -> Result<Explanation, Error> {
        self.call(|service| service.explain(&request.to_aidl(version_for(request, service)?)))
    }

    /// Identifies a buffer by one of its descriptors, whichever process allocated it.
    ///
    /// # Errors
    /// [`Refusal::NotOurs`](super::Refusal) if it is no live buffer of the service;
    /// [`Error::NoDescriptors`] if this process has no free descriptor for a copy. Others as
    /// [`Client::call`].
    pub fn describe(&self, fd: impl AsFd) -> Result<BufferInfo, Error> {
        let copy = fd.as_fd().try_clone_to_owned();
        let copy = copy.map_err(Error::local("cannot copy the descriptor"))?;
        let copy = ParcelFileDescriptor::new(copy);
        self.call(|service| service.describe(&copy))
    }

    /// Returns all configured heaps, also unavailable ones, in the order in which the service tries
    /// them.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn heaps(&self) -> Result<Vec<Heap>, Error> {
        Ok(self.call(|service| service.listHeaps())?.into_iter().map(Heap::from).collect())
    }

    /// Makes any call of the interface (`IHeapAllocator.aidl`).
    ///
    /// If the service has ended, the client connects again, and presents the buffers of this
    /// process that it has allocated, so that the new service counts them. Then it calls `ask` once
    /// more: memory of the first attempt ended with the service, or was released.
    ///
    /// # Errors
    /// [`Error::Refused`] if the service refuses; [`Error::Unreachable`] if it ended and does not
    /// start again within the patience, or ended twice; [`Error::NoDescriptors`] if this process
    /// has no free descriptor for the answer; [`Error::NoAnswer`] if the service runs and does not
    /// answer.
    pub fn call<T>(
        &self,
        ask: impl Fn(&Strong<dyn IHeapAllocator>) -> anion_ipc::Result<T>,
    ) -> Result<T, Error> {
        let link = self.link();
        let current = link.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The link belongs to this process, and so does its connection.
        if let Some(service) = current.as_deref().and_then(OfProcess::own) {
            match ask(service.interface()) {
                Err(status) if is_lost(&status) => {}
                answer => return Ok(answer?),
            }
        }
        // Measured from here: the call itself may have taken longer before the service ended.
        let deadline = Instant::now().checked_add(self.settings.patience);
        let service = self.replace(link, current.as_ref(), deadline).map_err(Error::connecting)?;
        let service = service.own().ok_or(Error::Inherited("connection"))?;
        Ok(ask(service.interface())?)
    }

    /// Returns the client's buffers and reservations of this process.
    pub(super) fn held(&self) -> &Held {
        &self.link().held
    }

    /// Returns the client's state of this process.
    fn link(&self) -> &Link {
        let pid = process::id();
        let mut link = &self.link;
        while link.pid != pid {
            let generation = link.generation.load(Ordering::Acquire);
            link = link.child.get_or_init(|| Box::new(Link::new(None, generation + 1)));
        }
        link
    }

    /// Returns a connection that replaces `lost`, or a child's first one. This call or another
    /// thread made it. Without a deadline it waits without a limit.
    fn replace(
        &self,
        link: &Link,
        lost: Option<&Arc<Service>>,
        deadline: Option<Instant>,
    ) -> io::Result<Arc<Service>> {
        let mut current = link.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = current.as_ref().filter(|now| lost.is_none_or(|lost| !Arc::ptr_eq(now, lost)))
        {
            return Ok(Arc::clone(service));
        }
        match lost {
            Some(_) => log::info!("the service at {} has ended; connecting again", self.endpoint),
            None => log::info!("a child of fork connects to {}", self.endpoint),
        }
        let mut pause = FIRST_PAUSE;
        loop {
            match self.reopen() {
                Ok(service) => {
                    let counted = link.held.present(service.interface());
                    log::debug!("the new service counts {counted} buffers of this process");
                    let service = Arc::new(OfProcess::new(service));
                    *current = Some(Arc::clone(&service));
                    // A child's first connection was counted when its link was made.
                    link.generation.fetch_add(u64::from(lost.is_some()), Ordering::Release);
                    return Ok(service);
                }
                // Kernel binder's device belongs to the parent.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => return Err(error),
                // A thread that waited for the lock makes this attempt even after the deadline.
                Err(error) if deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) => {
                    return Err(error);
                }
                Err(_) => thread::sleep(pause),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Connects again. A service manager may return the dead service until it has detected the
    /// death, so the new one must answer.
    fn reopen(&self) -> io::Result<Found<dyn IHeapAllocator>> {
        if let (true, Endpoint::Binder(_)) = (self.link.pid != process::id(), &self.endpoint) {
            let why = format!("{}: kernel binder serves no child of fork before exec", self.endpoint);
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let service = open(Some(self.endpoint.clone()), self.settings.connections, self.is_operator)?;
        if service.connection.answers() {
            return Ok(service);
        }
        let why = format!("{}: it is registered, but does not answer", self.endpoint);
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, why))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

fn open(
    endpoint: Option<Endpoint>,
    connections: u32,
    is_operator: bool,
) -> io::Result<Found<dyn IHeapAllocator>> {
    find(endpoint, |endpoint| {
        if is_operator {
            anion_ipc::connect_as_operator(endpoint, SERVICE_NAME)
        } else {
            anion_ipc::connect(endpoint, SERVICE_NAME, connections)
        }
    })
}

/// Returns the interface version to write `request` for. It calls the service only if the version
/// matters; the binder library caches the answer.
fn version_for(request: &Request, service: &Strong<dyn IHeapAllocator>) -> anion_ipc::Result<i32> {
    if request.version() > 1 { service.getInterfaceVersion() } else { Ok(1) }
}
