// SPDX-License-Identifier: Apache-2.0
//! Floor 6: the use cases. Start reading here.
//!
//! # Life of a buffer
//! 1. [`Allocator::allocate`] tries the selected heaps in order. The first heap that accepts the
//!    request, has room and gets memory from its source serves the whole request.
//! 2. Room and quota are booked before memory is made (`booking.rs`). Before the service refuses a
//!    caller, it checks which buffers clients have released.
//! 3. The memory comes from the heap's pool, clean or cleaned by the calling thread, or is made new
//!    (`serve.rs`).
//! 4. The client gets a descriptor with a file description of its own. The service keeps another
//!    description and watches the file.
//! 5. When the last description, mapping and in-flight copy is gone, the kernel reports it. The
//!    lease confirms it, and the buffer moves from the registry to its heap's pool (`release.rs`).
//!    Clients never call free.
//! 6. The worker cleans pooled memory while a processor is idle (`worker.rs`). The shrinker returns
//!    it to the kernel when it is unused for long or memory is scarce (`shrinker.rs`).
//! 7. Sizes that are requested repeatedly are preallocated, and so are reservations
//!    ([`Allocator::reserve`], `refill.rs`).
//!
//! # Lock rules
//! `registry` is the only lock of this module; a heap's pool may be locked while it is held. All
//! other locks are leaves, each held alone: in `liveness.rs`, `journal.rs`, `pressure.rs`,
//! `replies.rs`, `giver.rs`, `turns.rs`, and in sources. No thread makes a system call while it
//! holds any of them.
//!
//! # When a client dies
//! The kernel closes its descriptors, and step 5 follows. The transport drops its reservations, and
//! the tokens of buffers whose release the kernel does not report (`token.rs`). The service keeps
//! no other state for a client.

mod adopt;
mod authorize;
mod background;
mod booking;
#[cfg(not(soong))]
mod carry;
mod devices;
mod giver;
mod hold;
mod journal;
mod latency;
mod liveness;
mod metadata;
mod pressure;
mod query;
mod reconfigure;
mod refill;
mod registry;
mod release;
mod replies;
mod request;
mod reservations;
mod reserve;
mod serve;
mod shrinker;
mod spare;
#[cfg(test)]
pub(crate) mod tests;
mod throttle;
mod token;
mod turns;
mod verdict;
mod wake;
mod worker;

pub use adopt::NotAdopted;
pub use authorize::{Action, Denied};
#[cfg(not(soong))]
pub use carry::{Carried, Held};
#[cfg(not(soong))]
pub use hold::NotHeld;
pub use journal::{Deal, Event, What};
pub use latency::LatencyCounts;
pub use metadata::{Graphic, Metadata};
pub use pressure::{PressureFeed, PressureLevel, PressureSubscription, WatchedCgroup};
pub use query::{BufferView, HeapView, NotOurs, TrimError, UnknownHeap};
pub use registry::Record;
pub use request::{Caller, Grant, Request, Selection};
pub use reserve::ReservedBuffers;
#[cfg(not(soong))]
pub use throttle::{Throttle, Throttles};
pub use token::BufferToken;
pub use verdict::{Explanation, Failure, Outcome, Verdict};

use crate::config::spec::{Config, HeapSpec, Policy};
use crate::heap::{Heap, KernelDevices, Machine, Stored, build};
use crate::ledger::{HeapIndex, Ledger, Limits};
use crate::source::arena::KernelPages;
use crate::source::hugetlb;
use crate::source::memfd::MemfdSource;
use crate::source::release::{prove_optional, prove_release};
use crate::source::{FileSource, ReleaseMechanism};
use crate::sys::lock::{Mutex, MutexGuard};
use crate::sys::references::ReferenceCounts;
use crate::units::{Backing, Uid};
use anyhow::Context;
use giver::Giver;
use journal::Journal;
use latency::Latency;
use liveness::Liveness;
use pressure::{Availability, Pressure, PressureSources};
use refill::Refill;
use registry::Registry;
use replies::Replies;
use spare::SpareMetadata;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use turns::Turns;
use wake::Wake;

/// Descriptors reserved for connections and for replies in flight, which need two more for each
/// buffer; at most half of the process's limit.
const OTHER_DESCRIPTORS: u64 = 4096;

/// The heaps of one service and all buffers that they have allocated.
pub struct Allocator {
    /// The heaps by descending id, the order in which they are tried.
    heaps: Vec<Heap>,
    registry: Mutex<Registry>,
    spare_metadata: SpareMetadata,
    liveness: Arc<Liveness>,
    worker: Arc<Wake>,
    /// The heap to clean next. The worker cleans all heaps in turn, independently of their ids.
    turn: AtomicUsize,
    maker: Arc<Wake>,
    shrinker: Arc<Wake>,
    pressure: Arc<Pressure>,
    /// Latencies of served calls, by heap.
    latencies: Vec<Latency>,
    journal: Journal,
    refill: Refill,
    replies: Replies,
    giver: Arc<Giver>,
    turns: Turns,
    /// The next buffer id. It starts at the nanoseconds since boot and grows by one for each
    /// buffer, slower than the clock. So a restarted service begins above every id that was used
    /// before.
    next_id: AtomicU64,
    /// The first of these ids: earlier services used only lower ones.
    first_id: u64,
    own_uid: Uid,
    /// The process's limit of descriptors.
    descriptors: u64,
    /// The devices and files that sources open.
    machine: Machine,
}

impl Allocator {
    /// Returns an allocator with the heaps and limits of `config`, and starts the threads that
    /// detect releases, clean memory and make it. The process's descriptor limit determines how
    /// many buffers can be live at once; raise it before this call. The allocator returns memory to
    /// the kernel when the machine or the `watched` cgroup runs short of it.
    ///
    /// # Errors
    /// If the kernel lacks memfds or leases, if /proc is not mounted, if the kernel does not report
    /// releases as it must, or if the named cgroup cannot be watched.
    pub fn new(config: Config, watched: &WatchedCgroup) -> anyhow::Result<Arc<Self>> {
        let page = crate::sys::memory::page_size().context("cannot determine the page size")?;
        let memory_bytes =
            crate::sys::memory::total_bytes().context("cannot determine the size of the memory")?;
        let sources = PressureSources::open(watched).context("cannot watch the memory pressure")?;
        let memfd = Arc::new(MemfdSource::new(page).context("cannot prepare memory")?);
        let hugetlb = match hugetlb::connect() {
            Ok(source) => Ok(Arc::new(source) as Arc<dyn FileSource>),
            Err(error) => Err(Arc::new(error)),
        };
        let dma_heaps = PathBuf::from(crate::sys::dma_heap::DIRECTORY);
        let counts = Arc::new(ReferenceCounts::open().context("cannot count references")?);
        let machine = Machine {
            page,
            memory_bytes,
            memfd,
            file_releases: ReleaseMechanism::CloseEvents,
            hugetlb,
            huge_releases: Ok(()),
            devices: Arc::new(KernelDevices { page, dma_heaps, counts }),
            raises_limits: true,
            pages: Arc::new(KernelPages),
        };
        let allocator = Self::with_machine(config, machine)?;
        allocator.start_giver().context("cannot start the giver thread")?;
        allocator.start_reaper().context("cannot start the reaper thread")?;
        let availability = Availability::new(memory_bytes, crate::sys::memory::available_bytes);
        allocator.start_shrinker(sources, availability).context("cannot start the shrinker thread")?;
        allocator.start_worker().context("cannot start the worker thread")?;
        allocator.start_maker().context("cannot start the maker thread")?;
        Ok(allocator)
    }

    fn with_machine(config: Config, mut machine: Machine) -> anyhow::Result<Arc<Self>> {
        let liveness = Arc::new(Liveness::new().context("cannot prepare the detection of releases")?);
        machine.file_releases = prove_release(machine.memfd.as_ref(), &liveness.watcher)?;
        if machine.file_releases == ReleaseMechanism::Leases {
            liveness.lacks_watches();
        }
        if let Ok(hugetlb) = &machine.hugetlb {
            machine.huge_releases = prove_optional(hugetlb.as_ref(), &liveness.watcher).map_err(Arc::new);
        }
        let mut specs = config.heaps;
        specs.sort_by_key(|spec| std::cmp::Reverse(spec.id));
        let own_uid = Uid(nix::unistd::geteuid().as_raw());
        let limits = limits(&config.policy, &specs.iter().collect::<Vec<_>>(), own_uid);
        let with_index = specs.into_iter().enumerate();
        let heaps: Vec<_> =
            with_index.map(|(index, spec)| build(spec, limits.reserves_of(index), &machine)).collect();
        // Sources that are opened later find a service without this privilege.
        machine.raises_limits = false;
        let descriptors = crate::sys::fd::limit().context("cannot read the limit of descriptors")?;
        let max_buffers = max_buffers(&heaps, descriptors);
        let ledger = Ledger::new(limits, max_buffers).with_max_reserved(machine.memory_bytes / 2);
        let boot_nanoseconds = u64::try_from(crate::sys::clock::since_boot().as_nanos())?;
        let latencies = heaps.iter().map(|_| Latency::default()).collect();
        Ok(Arc::new(Self {
            heaps,
            registry: Mutex::new(Registry::new(ledger)),
            spare_metadata: SpareMetadata::default(),
            liveness,
            worker: Arc::new(Wake::new().context("cannot prepare the worker")?),
            turn: AtomicUsize::new(0),
            maker: Arc::new(Wake::new().context("cannot prepare the maker")?),
            shrinker: Arc::new(Wake::new().context("cannot prepare the shrinker")?),
            pressure: Arc::default(),
            latencies,
            journal: Journal::default(),
            refill: Refill::default(),
            replies: Replies::default(),
            giver: Arc::default(),
            turns: Turns::default(),
            next_id: AtomicU64::new(boot_nanoseconds),
            first_id: boot_nanoseconds,
            own_uid,
            descriptors,
            machine,
        }))
    }

    /// Returns the heaps by descending id, the order in which they are tried.
    pub fn heaps(&self) -> &[Heap] {
        &self.heaps
    }

    /// Returns the release mechanism of every kind of buffer that the heaps make, as tested at the
    /// start.
    pub fn release_mechanisms(&self) -> Vec<(Backing, ReleaseMechanism)> {
        let mut mechanisms = Vec::new();
        for found in self.heaps.iter().flat_map(Heap::release_mechanisms) {
            if !mechanisms.contains(&found) {
                mechanisms.push(found);
            }
        }
        mechanisms
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates `request.count` zeroed buffers from the first selected heap that has room for all
    /// of them, and charges them to the caller. It allocates all or none. Buffers whose release the
    /// kernel cannot report stay charged permanently, unless [`Allocator::token`] owns them.
    ///
    /// # Errors
    /// The answer of every selected heap. Nothing is held or charged then.
    pub fn allocate(&self, caller: &Caller, request: &Request) -> Result<Vec<Grant>, Explanation> {
        let start = Instant::now();
        if self.giver.is_behind(caller.uid) {
            self.giver.await_room(caller.uid);
        }
        let _turn = self.turns.take(caller.uid);
        let mut verdicts = Vec::new();
        for candidate in self.candidates(&request.selection) {
            let outcome = match candidate {
                Ok(index) => match self.serve(caller, request, index) {
                    Ok(grants) => {
                        let now = Instant::now();
                        let took = now.duration_since(start);
                        self.latencies[index].record(took);
                        let bytes = grants.iter().map(|grant| grant.bytes.get()).sum();
                        self.note_served(caller, (index, grants.len(), bytes), took);
                        self.replies.sending(caller, now);
                        return Ok(grants);
                    }
                    Err(outcome) => {
                        self.count_failure(index, &outcome);
                        self.note_refused(caller, request, index, &outcome);
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
        if matches!(outcome, Outcome::Failed(error) if error.is_fragmentation()) {
            self.heaps[index].count_fragmented();
        }
        if let Some(cause) = outcome.cause() {
            self.heaps[index].pool().account().count_failure(cause);
        }
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        self.liveness.stop();
        self.worker.stop();
        self.maker.stop();
        self.giver.stop();
        self.shrinker.stop();
        self.pressure.end();
    }
}

/// Returns the number of buffers of these heaps for which `descriptors` are enough.
fn max_buffers(heaps: &[Heap], descriptors: u64) -> u64 {
    let each = heaps.iter().map(Heap::descriptors).fold(1, u64::max);
    (descriptors - OTHER_DESCRIPTORS.min(descriptors / 2)) / each
}

/// Converts the configured policy to the ledger's limits, for these heaps.
fn limits(policy: &Policy, heaps: &[&HeapSpec], own_uid: Uid) -> Limits {
    let favoured = policy.favoured().chain([Uid(0), own_uid]);
    let mut limits =
        Limits::new(policy.default.max_bytes, policy.default.max_buffers).with_favoured(favoured);
    for client in &policy.clients {
        let quota = client.quota;
        for uid in &client.uids {
            limits =
                limits.with_client(*uid, &client.name, quota.max_bytes, quota.max_buffers, client.privileged);
            for reserve in &client.reserves {
                if let Some(heap) = heaps.iter().position(|heap| heap.name == reserve.heap) {
                    limits = limits.with_reserve(*uid, heap, reserve.bytes);
                }
            }
        }
    }
    limits
}
