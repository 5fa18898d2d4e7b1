// SPDX-License-Identifier: Apache-2.0
//! Serves a request from one heap: from the caller's reservations, from the heap's pool, or with
//! new memory.

use super::booking::Booking;
use super::metadata::MetadataFile;
use super::registry::{Live, Record};
use super::{Action, Allocator, Caller, Grant, Outcome, Request};
use crate::heap::{Discard, Heap, Served, Stored, Taken, Wanted, discard};
use crate::ledger::HeapIndex;
use crate::pool::{Clean, Pooled, TrustDomain};
use crate::source::{Memory, ReleaseMechanism, SourceError};
use crate::sys::clock::since_boot;
use crate::sys::inotify::Watch;
use crate::units::{Access, BackedBytes, BufferId, Label};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longest wait for memory that is set aside for a heap and charged to no account, since threads of
/// the same priority are moving it. They need half a second to exchange the pages of 48 MiB if
/// every processor has four other threads to run.
const IN_TRANSIT: Duration = Duration::from_secs(2);
/// Pause between two checks for this memory.
const LOOK: Duration = Duration::from_millis(1);

/// Memory for a client, before it is in the registry.
struct Made {
    // Fields are dropped in this order: the descriptor is closed before the memory is returned.
    fd: OwnedFd,
    stored: Stored,
    metadata: Option<(OwnedFd, MetadataFile)>,
}

impl Allocator {
    /// Serves a request from one heap.
    pub(super) fn serve(
        &self,
        caller: &Caller,
        request: &Request,
        index: HeapIndex,
    ) -> Result<Vec<Grant>, Outcome> {
        let heap = &self.heaps[index];
        self.authorize(caller, Action::UseHeap(heap)).map_err(Outcome::Denied)?;
        let bytes = request.accepted_by(heap).map_err(Outcome::Rejected)?;
        self.look_for_releases(caller, heap, bytes.get() * request.count.get() as u64);
        let claim = request.claim(caller, index, bytes);
        let booking = self.book(caller, claim).map_err(Outcome::Refused)?;
        let make = || self.make(caller, request, heap, &booking);
        let made = make().or_else(|error| {
            if !error.is_exhaustion() {
                return Err(error);
            }
            // The pool may get the missing memory or descriptors.
            self.reclaim_from(caller);
            self.turns.without_turn(caller.uid, || self.giver.await_all());
            if error.is_fragmentation() || (error.is_out_of_memory() && !heap.is_machine_memory()) {
                // Only this heap's pooled memory can be the obstacle; other processes are not short
                // of memory.
                heap.pool().shrink(0);
            } else {
                self.refill.hold_off(since_boot());
                self.shrink_all();
            }
            make()
        });
        let made = made.or_else(|error| self.await_transit(heap, &booking, error, make));
        Ok(self.hand_out(caller, request, index, booking, made.map_err(Outcome::Failed)?))
    }

    /// Retries for a short time if memory that is set aside for the heap is in neither the pool nor
    /// a buffer: a thread of the same priority is about to return it.
    fn await_transit(
        &self,
        heap: &Heap,
        booking: &Booking<'_>,
        first: SourceError,
        make: impl Fn() -> Result<Vec<Made>, SourceError>,
    ) -> Result<Vec<Made>, SourceError> {
        let (start, own) = (Instant::now(), booking.bytes_to_make());
        let mut error = first;
        while error.is_exhaustion() && start.elapsed() < IN_TRANSIT && heap.has_memory_in_transit(own) {
            self.turns.without_turn(booking.uid(), || std::thread::sleep(LOOK));
            heap.pool().shrink(0);
            match make() {
                Err(again) => error = again,
                made => return made,
            }
        }
        Err(error)
    }

    /// Makes all buffers of a request. On failure it drops the buffers that it made.
    fn make(
        &self,
        caller: &Caller,
        request: &Request,
        heap: &Heap,
        booking: &Booking<'_>,
    ) -> Result<Vec<Made>, SourceError> {
        let (bytes, count) = (booking.bytes(), request.count.get());
        let mut memory: Vec<_> = booking.ready().collect();
        let missing = count - memory.len();
        let domain = caller.domain(heap);
        let pooled = self.take_pooled(request, heap, (bytes, missing), &domain, &mut memory);
        let made =
            pooled.and_then(|served| Ok((self.open_all(request, heap, bytes, &domain, memory)?, served)));
        // Buffers whose release this call detected are in the pool, even if it fails.
        let pool = heap.pool();
        let has_work =
            made.as_ref().map_or(true, |(_, served)| pool.served(bytes, *served, &domain, since_boot()));
        if has_work {
            self.wake_for_pool();
        }
        made.map(|(made, _)| made)
    }

    /// Opens all buffers of a request for the client: `memory`, and new memory for the rest.
    fn open_all(
        &self,
        request: &Request,
        heap: &Heap,
        bytes: BackedBytes,
        domain: &TrustDomain,
        memory: Vec<Stored>,
    ) -> Result<Vec<Made>, SourceError> {
        let count = request.count.get();
        let mut made = Vec::with_capacity(count);
        for stored in memory {
            made.push(self.open(request, heap, bytes, domain, stored)?);
        }
        while made.len() < count {
            let stored = self.create(heap, bytes, request.needs.access, Some(&request.label))?;
            made.push(self.open(request, heap, bytes, domain, stored)?);
        }
        Ok(made)
    }

    /// Takes up to `count` buffers from a heap's pool, cleaned, or joined from its blocks, and adds
    /// them to `memory`.
    fn take_pooled(
        &self,
        request: &Request,
        heap: &Heap,
        (bytes, count): (BackedBytes, usize),
        domain: &TrustDomain,
        memory: &mut Vec<Stored>,
    ) -> Result<Served, SourceError> {
        let pool = heap.pool();
        let mut served = Served { hits: 0, fresh: 0, misses: count };
        let mut wanted = Wanted { bytes, count, domain, unzeroed: request.unzeroed };
        let is_untouched = self.take_whole(heap, &wanted, memory, &mut served);
        if served.misses > 0 && pool.is_kept() && !is_untouched && self.read_events().bytes > 0 {
            // A buffer that was just released may be enough.
            wanted.count = served.misses;
            self.take_whole(heap, &wanted, memory, &mut served);
        }
        let mut left = served.misses;
        while left > 0
            && let Some(joined) = heap.join(bytes, domain, since_boot())
        {
            let joined = joined?;
            memory.push(Stored { memory: joined.memory.into(), watch: None });
            left -= 1;
            if joined.is_pooled {
                served.hits += 1;
                served.misses -= 1;
            }
        }
        // The booking took room from the pool, and the buffers for this request have left it.
        discard(pool.fit());
        if served.misses > 0 {
            self.fit_entries();
        }
        Ok(served)
    }

    /// Takes whole buffers of the wanted size from the pool. Returns whether the caller's domain
    /// does not touch such buffers.
    fn take_whole(
        &self,
        heap: &Heap,
        wanted: &Wanted<'_>,
        memory: &mut Vec<Stored>,
        served: &mut Served,
    ) -> bool {
        let pool = heap.pool();
        let Taken { clean, released, as_is, is_untouched } = pool.take(wanted);
        let mut hand_over = |stored: Option<Stored>, is_fresh: bool| {
            if let Some(stored) = stored {
                memory.push(stored);
                served.hits += 1;
                served.fresh += usize::from(is_fresh);
                served.misses -= 1;
            }
        };
        for released in as_is {
            hand_over(pool.reuse(released).and_then(|stored| self.unless_held(heap, stored)), false);
        }
        for released in released {
            let clean = pool.clean(released).ok();
            hand_over(clean.and_then(|clean| self.handed_over(heap, clean)), false);
        }
        for clean in clean {
            let is_fresh = clean.domain().is_none();
            hand_over(self.handed_over(heap, clean), is_fresh);
        }
        is_untouched
    }

    /// Returns clean memory for its next client; `None` if another process has opened it since it
    /// was released.
    pub(super) fn handed_over(&self, heap: &Heap, clean: Pooled<Stored, Clean>) -> Option<Stored> {
        let is_fresh = clean.domain().is_none();
        let stored = clean.into_memory();
        if is_fresh { Some(stored) } else { self.unless_held(heap, stored) }
    }

    /// Returns pooled memory; `None` if another process has opened it since it was released, and
    /// may have written to it.
    fn unless_held(&self, heap: &Heap, stored: Stored) -> Option<Stored> {
        stored.memory.cleaned();
        // A dma-buf has no path: once only the service holds it, no other process can open it.
        let can_be_opened = ReleaseMechanism::of(stored.memory.backing()) == ReleaseMechanism::CloseEvents;
        if !can_be_opened || stored.memory.is_idle().unwrap_or(false) {
            return Some(stored);
        }
        heap.pool().count_discarded(Discard::Busy);
        None
    }

    /// Opens a descriptor of a buffer for the client, and watches for its release.
    fn open(
        &self,
        request: &Request,
        heap: &Heap,
        bytes: BackedBytes,
        domain: &TrustDomain,
        mut stored: Stored,
    ) -> Result<Made, SourceError> {
        let access = request.needs.access;
        if !heap.makes(stored.memory.backing()) {
            // Its source made or pooled it and no longer serves the heap.
            stored = self.create(heap, bytes, access, Some(&request.label))?;
        }
        let fd = match stored.memory.open(access) {
            // It was preallocated for another access.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                stored = self.create(heap, bytes, access, Some(&request.label))?;
                stored.memory.open(access)?
            }
            opened => opened?,
        };
        if stored.watch.is_none() {
            stored.watch = self.watch(stored.memory.as_ref())?;
        }
        let metadata_file = |metadata| self.metadata_file(metadata, domain, stored.watch.is_none());
        let metadata = request.metadata.as_ref().map(metadata_file).transpose()?;
        Ok(Made { fd, stored, metadata })
    }

    /// Creates memory that no client has held.
    pub(super) fn create(
        &self,
        heap: &Heap,
        bytes: BackedBytes,
        access: Access,
        label: Option<&Label>,
    ) -> Result<Stored, SourceError> {
        let memory: Arc<dyn Memory> = heap.create(bytes, access, label)?.into();
        Ok(Stored { memory, watch: None })
    }

    pub(super) fn watch(&self, memory: &dyn Memory) -> io::Result<Option<Watch>> {
        match memory.watch(&self.liveness.watcher) {
            // No watches are left: leases and reference counts alone show the release.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                self.liveness.lacks_watches();
                Ok(None)
            }
            watched => watched,
        }
    }

    /// Inserts the buffers into the registry. From then on, closing the descriptors releases them.
    fn hand_out(
        &self,
        caller: &Caller,
        request: &Request,
        index: HeapIndex,
        booking: Booking<'_>,
        made: Vec<Made>,
    ) -> Vec<Grant> {
        let (heap, created, now) = (&self.heaps[index], since_boot(), Instant::now());
        let domain: TrustDomain = caller.domain(heap);
        let mut grants = Vec::with_capacity(made.len());
        let mut batch = Vec::with_capacity(made.len());
        let mut unwatched = Vec::new();
        let bytes = booking.bytes();
        let graphic = request.metadata.as_ref().map(|metadata| (metadata.graphic, metadata.bytes));
        for Made { fd, stored, metadata } in made {
            let id = BufferId(self.next_id.fetch_add(1, Ordering::Relaxed));
            stored.memory.handed_out(&request.label);
            let backing = stored.memory.backing();
            let (metadata_fd, metadata) = metadata.unzip();
            if stored.watch.is_none() && ReleaseMechanism::of(backing) != ReleaseMechanism::Token {
                unwatched.push(id);
            }
            let inode = stored.memory.inode();
            let record = Record {
                id,
                heap: index,
                bytes,
                uid: caller.uid,
                pid: caller.pid,
                label: request.label.clone(),
                graphic,
                inode: inode.number,
                created,
            };
            let (heap_id, heap_name) = (heap.id(), heap.name().clone());
            grants.push(Grant { fd, metadata: metadata_fd, id, bytes, heap_id, heap_name, backing });
            let (domain, metadata) = (Some(domain.clone()), metadata.map(Arc::new));
            batch.push(Live { record, stored, metadata, inode, domain, lender: None });
        }
        booking.insert(batch);
        self.liveness.unwatched(caller.uid, &unwatched, bytes.get(), now);
        grants
    }
}
