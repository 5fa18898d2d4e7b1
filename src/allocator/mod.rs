// SPDX-License-Identifier: Apache-2.0
//! Floor 6: the use cases. Read this to understand Anion.
//!
//! # Life of a buffer
//! 1. [`Allocator::allocate`] walks the selected heaps; the first that accepts the request, has room and whose
//!    source delivers, serves all of it.
//! 2. Room and quota are booked before memory is touched. Before anyone is refused, what clients have already let
//!    go of is taken back.
//! 3. The client gets a descriptor with a description of its own; the service keeps another and watches the file.
//! 4. When the last description, mapping and in-flight copy is gone, the kernel says so; the lease confirms it, and
//!    the buffer leaves its owner's account (`release.rs`). Clients never call free.
//! 5. Its memory is scrubbed in the background and kept for the same trust domain, or goes back to the kernel
//!    (`keeper.rs`).
//! 6. Sizes that are asked for again and again, and what clients reserved ([`Allocator::reserve`]), are made before
//!    they are asked for (`refill.rs`).
//!
//! # Who may hold which lock
//! `books` is the only lock here. Those in `liveness.rs`, in `pressure.rs`, in a heap's stock and in sources are leaves, and never
//! held together with it or each other. No system call is made while any is held.
//!
//! # What happens when a client dies
//! The kernel closes its descriptors, and step 4 follows. The transport drops its reservations, and the tokens of buffers
//! whose release the kernel does not tell (`token.rs`). Nothing else is kept for a client.

mod authorize;
mod booking;
mod books;
mod keeper;
mod latency;
mod liveness;
mod pressure;
mod query;
mod refill;
mod release;
mod replies;
mod request;
mod reservations;
mod reserve;
#[cfg(test)]
pub(crate) mod tests;
mod throttle;
mod token;
mod verdict;

pub use authorize::{Action, Denied};
pub use latency::{LATENCY_CLASSES, LatencyCounts};
pub use pressure::{PressureFeed, PressureLevel, PressureSubscription, WatchedCgroup};
pub use query::{BufferView, HeapView, NotOurs, TrimError, UnknownHeap};
pub use request::{Caller, Grant, Request, Selection};
pub use reserve::{MAX_RESERVATIONS, ReservedBuffers};
pub use throttle::Throttle;
pub use token::BufferToken;
pub use verdict::{Explanation, Failure, Outcome, Verdict};

use crate::config::spec::{Config, Policy};
use crate::heap::{Heap, KernelDevices, Machine, Stored, build};
use crate::ledger::{Claim, HeapIndex, Ledger, Limits, Record};
use crate::source::arena::KernelPages;
use crate::source::hugetlb::HugetlbSource;
use crate::source::memfd::MemfdSource;
use crate::source::release::{prove_optional, prove_release};
use crate::source::{
    FileSource, Memory, ReleaseMechanism, is_exhaustion, is_fragmentation, is_out_of_memory,
};
use crate::sys::inotify::Watch;
use crate::sys::references::ReferenceCounts;
use crate::units::{Access, BackedBytes, Backing, BufferId, Uid};
use anyhow::Context;
use booking::Booking;
use books::{Books, Live};
use keeper::Keeper;
use latency::Latency;
use liveness::Liveness;
use pressure::{Availability, Pressure, PressureSources};
use refill::Refill;
use replies::Replies;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Descriptors kept for connections, and for replies in flight, which carry two more for each buffer; but at most
/// half of what the process may have.
const OTHER_DESCRIPTORS: u64 = 4096;

/// The heaps of one service and all that they have handed out.
pub struct Allocator {
    /// By descending id, the order in which they are tried.
    heaps: Vec<Heap>,
    books: Mutex<Books>,
    liveness: Arc<Liveness>,
    keeper: Arc<Keeper>,
    pressure: Arc<Pressure>,
    /// Of calls that were served, by heap.
    latencies: Vec<Latency>,
    refill: Refill,
    replies: Replies,
    /// Starts at the nanoseconds since boot and grows by one a buffer, slower than the clock: a later service starts
    /// above every id that was ever given.
    next_id: AtomicU64,
    own_uid: Uid,
}

/// Memory made for a client, before it is in the books.
struct Made {
    // The order of the fields is that of their drops: memory that goes back has no descriptor in the way.
    fd: OwnedFd,
    stored: Stored,
}

impl Allocator {
    /// Heaps and limits as configured, and the threads that take released buffers back and clean them. The process's descriptor
    /// limit decides how many buffers can live at once; raise it before. Memory is given back when the machine or the
    /// `watched` cgroup runs short.
    ///
    /// # Errors
    /// If the kernel lacks memfds, leases or inotify, or does not report releases as it must; if a cgroup was named
    /// that cannot be watched.
    pub fn new(config: Config, watched: &WatchedCgroup) -> anyhow::Result<Arc<Self>> {
        let page = crate::sys::memory::page_size().context("asking for the page size")?;
        let memory_bytes = crate::sys::memory::total_bytes().context("asking for the size of the memory")?;
        let sources = PressureSources::open(watched).context("watching for memory pressure")?;
        let memfd = Arc::new(MemfdSource::new(page).context("preparing memfds")?);
        let hugetlb = match HugetlbSource::connect() {
            Ok(source) => Ok(Arc::new(source) as Arc<dyn FileSource>),
            Err(error) => Err(format!("{:#}", anyhow::Error::from(error))),
        };
        let dma_heaps = PathBuf::from(crate::sys::dma_heap::DIRECTORY);
        let counts = Arc::new(ReferenceCounts::open().context("reading /proc/self/fdinfo")?);
        let devices = Arc::new(KernelDevices { page, dma_heaps, raises_limits: true, counts });
        let (file_releases, pages) = (ReleaseMechanism::CloseEvents, Arc::new(KernelPages));
        let huge_releases = Ok(());
        let machine =
            Machine { page, memory_bytes, memfd, file_releases, hugetlb, huge_releases, devices, pages };
        let allocator = Self::with_machine(config, machine)?;
        allocator.start_reaper().context("starting the reaper thread")?;
        let availability = Availability::new(memory_bytes, crate::sys::memory::available_bytes);
        allocator.start_keeper(sources, availability).context("starting the keeper thread")?;
        Ok(allocator)
    }

    fn with_machine(config: Config, mut machine: Machine) -> anyhow::Result<Arc<Self>> {
        let liveness = Arc::new(Liveness::new().context("creating an inotify queue")?);
        machine.file_releases = prove_release(machine.memfd.as_ref(), &liveness.watcher)?;
        if let Ok(hugetlb) = &machine.hugetlb {
            machine.huge_releases = prove_optional(hugetlb.as_ref(), &liveness.watcher);
        }
        let mut heaps: Vec<_> = config.heaps.into_iter().map(|spec| build(spec, &machine)).collect();
        heaps.sort_by_key(|heap| std::cmp::Reverse(heap.id()));
        let descriptors = crate::sys::fd::limit().context("asking for the descriptor limit")?;
        let each = heaps.iter().map(Heap::descriptors).fold(1, u64::max);
        let max_buffers = (descriptors - OTHER_DESCRIPTORS.min(descriptors / 2)) / each;
        let ledger =
            Ledger::new(heaps.iter().map(Heap::capacity), limits(&config.policy, &heaps), max_buffers)
                .with_max_reserved(machine.memory_bytes / 2);
        let boot_nanoseconds = u64::try_from(crate::sys::clock::since_boot().as_nanos())?;
        let latencies = heaps.iter().map(|_| Latency::default()).collect();
        Ok(Arc::new(Self {
            heaps,
            books: Mutex::new(Books::new(ledger)),
            liveness,
            keeper: Arc::new(Keeper::new().context("preparing the keeper")?),
            pressure: Arc::default(),
            latencies,
            refill: Refill::default(),
            replies: Replies::default(),
            next_id: AtomicU64::new(boot_nanoseconds),
            own_uid: Uid(nix::unistd::geteuid().as_raw()),
        }))
    }

    /// By descending id, the order in which they are tried.
    pub fn heaps(&self) -> &[Heap] {
        &self.heaps
    }

    /// How releases are noticed on this machine, as proved at the start: for every kind of buffer that its heaps give.
    pub fn release_mechanisms(&self) -> Vec<(Backing, ReleaseMechanism)> {
        let mut mechanisms = Vec::new();
        for found in self.heaps.iter().flat_map(Heap::release_mechanisms) {
            if !mechanisms.contains(&found) {
                mechanisms.push(found);
            }
        }
        mechanisms
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates `request.count` zeroed buffers from the first selected heap that can hold them all, and charges
    /// them to the caller. All or none. Those whose releases the kernel does not tell are the caller's for ever, unless
    /// [`Allocator::token`] holds them.
    ///
    /// # Errors
    /// Every selected heap's answer. Nothing is held or charged then.
    pub fn allocate(&self, caller: &Caller, request: &Request) -> Result<Vec<Grant>, Explanation> {
        let start = Instant::now();
        let mut verdicts = Vec::new();
        for candidate in self.candidates(&request.selection) {
            let outcome = match candidate {
                Ok(index) => match self.serve(caller, request, index) {
                    Ok(grants) => {
                        let now = Instant::now();
                        self.latencies[index].record(now.duration_since(start));
                        self.replies.sending(caller, now);
                        return Ok(grants);
                    }
                    Err(outcome) => {
                        self.count_failure(index, &outcome);
                        outcome
                    }
                },
                Err(_) => Outcome::UnknownHeap,
            };
            verdicts.push(self.verdict(caller, request, candidate, outcome));
        }
        Err(Explanation { bytes: request.needs.bytes, count: request.count, verdicts })
    }

    fn count_failure(&self, index: HeapIndex, outcome: &Outcome) {
        if matches!(outcome, Outcome::Failed(error) if is_fragmentation(error)) {
            self.heaps[index].count_fragmented();
        }
        if let Some(cause) = outcome.cause() {
            self.books().ledger.count_failure(index, cause);
        }
    }

    /// Serves a request from one heap.
    fn serve(&self, caller: &Caller, request: &Request, index: HeapIndex) -> Result<Vec<Grant>, Outcome> {
        let heap = &self.heaps[index];
        self.authorize(caller, Action::UseHeap(heap)).map_err(Outcome::Denied)?;
        let bytes = heap.accept(&request.needs).map_err(Outcome::Rejected)?;
        let claim = Claim { uid: caller.uid, heap: index, count: request.count.get(), bytes };
        let booking = self.book(caller, claim).map_err(Outcome::Refused)?;
        let made = self.make(caller, request, heap, &booking).or_else(|error| {
            if !is_exhaustion(&error) {
                return Err(error);
            }
            // Descriptors and memory that nobody holds may be all that is missing.
            self.reclaim_from(caller);
            if is_fragmentation(&error) || (is_out_of_memory(&error) && !heap.is_machine_memory()) {
                // Only what the heap itself keeps can be in the way, and nobody else is short of memory.
                self.shrink(index, 0);
            } else {
                self.refill.hold_off(crate::sys::clock::since_boot());
                self.shrink_all();
            }
            self.make(caller, request, heap, &booking)
        });
        Ok(self.hand_out(caller, request, index, booking, made.map_err(Outcome::Failed)?))
    }

    /// Makes all buffers of a request: what its reservations hold ready, then from the heap's shelf, then anew. On
    /// failure those made so far are dropped again.
    fn make(
        &self,
        caller: &Caller,
        request: &Request,
        heap: &Heap,
        booking: &Booking<'_>,
    ) -> io::Result<Vec<Made>> {
        let (bytes, count) = (booking.bytes(), request.count.get());
        let mut memory: Vec<_> = booking.ready().collect();
        if let Some(stock) = heap.stock() {
            let (now, domain) = (crate::sys::clock::since_boot(), caller.domain(heap));
            let taken = stock.take(bytes, count - memory.len(), &domain, now);
            memory.extend(taken.spares);
            if taken.refill {
                self.keeper.wake();
            }
            while memory.len() < count
                && let Some(joined) = heap.join(bytes, &domain, now)
            {
                memory.push(Stored { memory: joined?.into(), watch: None });
            }
            // What was booked has the shelf's room, and what served the request is no longer there.
            self.fit_shelf(booking.heap());
        }
        let missing = count - memory.len();
        let made = memory
            .into_iter()
            .map(Ok)
            .chain((0..missing).map(|_| self.create(heap, bytes, request.needs.access)));
        made.map(|stored| {
            let mut stored = stored?;
            let fd = match stored.memory.open(request.needs.access) {
                // Made ahead, for another access.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    stored = self.create(heap, bytes, request.needs.access)?;
                    stored.memory.open(request.needs.access)?
                }
                opened => opened?,
            };
            if stored.watch.is_none() {
                stored.watch = self.watch(stored.memory.as_ref())?;
            }
            Ok(Made { fd, stored })
        })
        .collect()
    }

    /// Memory that no client has held.
    fn create(&self, heap: &Heap, bytes: BackedBytes, access: Access) -> io::Result<Stored> {
        let memory: Arc<dyn Memory> = heap.create(bytes, access)?.into();
        Ok(Stored { memory, watch: None })
    }

    fn watch(&self, memory: &dyn Memory) -> io::Result<Option<Watch>> {
        match memory.watch(&self.liveness.watcher) {
            // Watches are used up; asking alone will tell.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => Ok(None),
            watched => watched,
        }
    }

    /// Enters what was made into the books. From here on closing the descriptors releases the buffers.
    fn hand_out(
        &self,
        caller: &Caller,
        request: &Request,
        index: HeapIndex,
        booking: Booking<'_>,
        made: Vec<Made>,
    ) -> Vec<Grant> {
        let (heap, created, now) = (&self.heaps[index], crate::sys::clock::since_boot(), Instant::now());
        let mut grants = Vec::with_capacity(made.len());
        let mut batch = Vec::with_capacity(made.len());
        let bytes = booking.bytes();
        for Made { fd, stored } in made {
            let id = BufferId(self.next_id.fetch_add(1, Ordering::Relaxed));
            stored.memory.handed_out(&request.label);
            let mechanism = ReleaseMechanism::of(stored.memory.backing());
            if stored.watch.is_none() && mechanism != ReleaseMechanism::Token {
                self.liveness.unwatched(id, now);
            }
            let inode = stored.memory.inode();
            let record = Record {
                id,
                heap: index,
                bytes,
                uid: caller.uid,
                pid: caller.pid,
                label: request.label.clone(),
                inode: inode.number,
                created,
            };
            let (heap_id, heap_name, backing) = (heap.id(), heap.name().clone(), stored.memory.backing());
            grants.push(Grant { fd, id, bytes, heap_id, heap_name, backing });
            batch.push((record, Live { stored, inode, domain: caller.domain(heap), lender: None }));
        }
        booking.enter(batch);
        grants
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        self.liveness.stop();
        self.keeper.stop();
        self.pressure.end();
    }
}

/// The configured policy in the ledger's terms.
fn limits(policy: &Policy, heaps: &[Heap]) -> Limits {
    let mut limits = Limits::new(policy.default.max_bytes, policy.default.max_buffers);
    for client in &policy.clients {
        let quota = client.quota;
        for uid in &client.uids {
            limits =
                limits.with_client(*uid, &client.name, quota.max_bytes, quota.max_buffers, client.privileged);
            for reserve in &client.reserves {
                if let Some(heap) = heaps.iter().position(|heap| *heap.name() == reserve.heap) {
                    limits = limits.with_reserve(*uid, heap, reserve.bytes);
                }
            }
        }
    }
    limits
}
