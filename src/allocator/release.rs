// SPDX-License-Identifier: Apache-2.0
//! Detects released buffers: by close events, leases and reference counts, and before a call is
//! refused. A released buffer moves from the registry to its heap's pool.

use super::giver::ToDrop;
use super::registry::Removed;
use super::{Allocator, Caller, PressureLevel, Record};
use crate::heap::{Discard, Heap, Leftover, Released, Stored};
use crate::pool::TrustDomain;
use crate::source::ReleaseMechanism;
use crate::units::{BackedBytes, BufferId, Uid};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The result of checking whether a buffer was released.
enum Release {
    /// It has no holder.
    Noticed(Freed),
    /// It has a holder, or the kernel did not answer.
    Held,
    /// It left the registry before.
    Gone,
}

/// Size in bytes from which cleaning a buffer takes longer than waking a thread.
const LARGE: u64 = 256 << 10;
/// Pause of the reaper after close events of smaller buffers alone. A call that needs such a buffer
/// reads the events itself, so the pause only reduces the number of wake-ups.
const SMALL_CLOSES_REST: Duration = Duration::from_millis(1);

/// Time that a call waits, before it is refused, for other threads that read events: they may have
/// to wait for a processor. Also the pause between two checks.
const READING: Duration = Duration::from_millis(500);
const READING_LOOK: Duration = Duration::from_micros(50);

/// Result of handling releases.
#[derive(Default, Clone, Copy)]
pub(super) struct Freed {
    pub(super) bytes: u64,
    /// Bytes of the largest buffer among them.
    largest: u64,
    /// Whether some of it is in a pool now and must be cleaned.
    is_pooled: bool,
    /// Time that returning memory to the kernel took.
    took: Duration,
}

impl Freed {
    fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            largest: self.largest.max(other.largest),
            is_pooled: self.is_pooled || other.is_pooled,
            took: self.took + other.took,
        }
    }
}

impl Allocator {
    /// Handles queued close events. Any thread may call it; all threads share the queue.
    pub(super) fn work_off_events(&self) -> Freed {
        let freed = self.read_events();
        self.wake_for(freed);
        freed
    }

    /// Handles queued close events as [`Allocator::work_off_events`], but wakes no thread to clean:
    /// the caller may use the memory.
    pub(super) fn read_events(&self) -> Freed {
        let reader = self.liveness.begin_reading();
        let named = self.named_by_events();
        let now = Instant::now();
        self.liveness.end_reading(reader, &named, now);
        let mut sum = Freed::default();
        for (id, uid) in named {
            match self.look_at(id) {
                Release::Noticed(freed) => sum = sum.and(freed),
                Release::Held => self.liveness.suspect(id, uid, now),
                Release::Gone => self.liveness.gone(id, uid),
            }
        }
        sum
    }

    /// Reads the queued close events. Returns the buffers that they name, with their owners.
    fn named_by_events(&self) -> Vec<(BufferId, Uid)> {
        let closes = match self.liveness.watcher.closes() {
            Ok(closes) => closes,
            Err(error) => {
                log::error!("cannot read close events: {error}");
                return Vec::new();
            }
        };
        if closes.overflowed
            && let Some(before) = self.liveness.overflowed(Instant::now())
        {
            log::warn!(
                "the inotify queue overflowed; checking every buffer's lease instead ({before} more like it before)"
            );
        }
        if closes.watches.is_empty() {
            return Vec::new();
        }
        let registry = self.registry();
        closes.watches.iter().filter_map(|watch| registry.watched(*watch)).collect()
    }

    /// Wakes the threads that handle released memory.
    fn wake_for(&self, freed: Freed) {
        if freed.is_pooled {
            self.wake_for_pool();
        }
    }

    /// Wakes the threads that handle pooled memory.
    pub(super) fn wake_for_pool(&self) {
        self.worker.wake();
        self.shrinker.wake();
    }

    /// Detects buffers that `caller` has already released. A client that closes a buffer and
    /// allocates at once must not be refused: the close event may have come before the kernel
    /// stopped counting the holder, or another thread may be handling the event. It checks only
    /// buffers that a recent event named, and buffers without close events. So the cost does not
    /// depend on how much the caller holds.
    pub(super) fn reclaim_from(&self, caller: &Caller) {
        self.work_off_events();
        let (uid, reader, start) = (caller.uid, self.liveness.next_reader(), Instant::now());
        while self.liveness.is_being_read_before(reader) && start.elapsed() < READING {
            self.turns.without_turn(uid, || std::thread::sleep(READING_LOOK));
        }
        let own = self.liveness.likely_released(uid);
        if !own.is_empty() {
            self.wake_for(self.look_at_all(own));
        }
        while let Some(wait) = self.liveness.turn_to_look(uid, Instant::now()) {
            if wait.is_zero() {
                let began = Instant::now();
                self.wake_for(self.look_at_unreported(uid));
                self.liveness.looked_for(uid, began.elapsed(), Instant::now());
                break;
            }
            self.turns.without_turn(uid, || std::thread::sleep(wait));
        }
        if self.giver.is_busy_for(uid) {
            self.turns.without_turn(uid, || self.giver.await_all());
        }
    }

    /// Checks the buffers of `uid` whose release the kernel does not report. After the kernel
    /// dropped events, it checks all buffers of `uid` until the dropped events are made up for.
    fn look_at_unreported(&self, uid: Uid) -> Freed {
        match self.liveness.unreported(uid) {
            Some(ids) => self.look_at_all(ids),
            None => self.look_at_live(Some(uid)),
        }
    }

    /// Checks every buffer of `uid`, or of all clients for `None`.
    fn look_at_live(&self, uid: Option<Uid>) -> Freed {
        self.look_at_all(self.live(uid).flatten())
    }

    /// Checks, before `caller` gets `bytes` bytes of a heap without close events, for buffers that
    /// it has released. The caller's own calls make these checks as fast as it allocates. So memory
    /// that is charged and no longer held stays bounded.
    pub(super) fn look_for_releases(&self, caller: &Caller, heap: &Heap, bytes: u64) {
        if heap.release_mechanism() == ReleaseMechanism::CloseEvents {
            return;
        }
        let due = self.liveness.due_before(caller.uid, bytes);
        if due.ids.is_empty() {
            return;
        }
        // The bytes of this request, and as many again to catch up.
        let enough = bytes.saturating_mul(2);
        let mut sum = Freed::default();
        for id in due.ids {
            if let Release::Noticed(freed) = self.look_at(id) {
                sum = sum.and(freed);
            }
            if sum.bytes >= enough {
                break;
            }
        }
        self.wake_for(sum);
        self.liveness.found(caller.uid, due.is_all && sum.bytes < enough, sum.bytes);
    }

    fn look_at_all(&self, ids: impl IntoIterator<Item = BufferId>) -> Freed {
        ids.into_iter().fold(Freed::default(), |sum, id| match self.look_at(id) {
            Release::Noticed(freed) => sum.and(freed),
            Release::Held | Release::Gone => sum,
        })
    }

    /// Moves a buffer without holders to its heap's pool. No lock is held while it asks the kernel.
    fn look_at(&self, id: BufferId) -> Release {
        let found =
            self.registry().live(id).map(|live| (live.files(), live.domain.clone(), live.record.claim()));
        let Some(((stored, metadata), domain, claim)) = found else { return Release::Gone };
        let (index, bytes) = (claim.heap, claim.bytes);
        if ReleaseMechanism::of(stored.memory.backing()) == ReleaseMechanism::Token {
            return Release::Held;
        }
        let is_metadata_released =
            || metadata.as_ref().map_or(Ok(true), |metadata| self.is_metadata_released(id, &claim, metadata));
        match stored.memory.is_idle().and_then(|is_idle| Ok(is_idle && is_metadata_released()?)) {
            Ok(true) => {}
            Ok(false) => return Release::Held,
            Err(error) => {
                if let Some(before) = self.liveness.unanswered(Instant::now()) {
                    log::error!(
                        "cannot check whether buffer {id} is held: {error} ({before} more like it before)"
                    );
                }
                return Release::Held;
            }
        }
        let mut prepared = Some(match &domain {
            Some(domain) => self.prepare(&self.heaps[index], stored, bytes, domain.clone()),
            None => Err(None),
        });
        // Separate statements, so that the lock is released before memory is dropped.
        let removed = self.registry().remove(&self.heaps, id, |record, own| {
            self.retire(record, own, prepared.take().unwrap_or(Err(None)))
        });
        drop(prepared);
        let Some(Removed { record, leftover, metadata: of_registry, is_reserved }) = removed else {
            return Release::Gone;
        };
        drop(of_registry);
        if let Some((domain, file)) = domain.zip(metadata.and_then(Arc::into_inner)) {
            self.keep_metadata(domain, file);
        }
        let start = Instant::now();
        self.giver.give(record.uid, bytes.get(), leftover);
        let took = start.elapsed();
        self.liveness.released(id, record.uid);
        self.note_released(&record);
        log::debug!("buffer {id} of uid {} released, {} bytes", record.uid, record.bytes.get());
        if is_reserved {
            self.maker.wake();
        }
        let (bytes, is_pooled) = (record.bytes.get(), self.heaps[index].pool().is_kept());
        Release::Noticed(Freed { bytes, largest: bytes, is_pooled, took })
    }

    /// Prepares a released buffer for its pool. While memory is critically scarce, it pools
    /// nothing, since other processes wait for memory.
    fn prepare(
        &self,
        heap: &Heap,
        stored: Stored,
        bytes: BackedBytes,
        domain: TrustDomain,
    ) -> Result<Released, Option<Discard>> {
        if self.pressure() == PressureLevel::Critical && heap.pool().is_kept() {
            return Err(Some(Discard::Scarce));
        }
        heap.pool().prepare(stored, bytes, domain).map_err(|(_, cause)| cause)
    }

    /// Puts a buffer that left the registry into its heap's pool, or removes it from the heap's
    /// account. The registry is locked.
    fn retire(&self, record: &Record, own: Stored, prepared: Result<Released, Option<Discard>>) -> ToDrop {
        let pool = self.heaps[record.heap].pool();
        match prepared {
            // Does not free the memory: the pool owns it from now on.
            Ok(released) => ToDrop(pool.release(record.uid, released), None),
            Err(cause) => {
                pool.forget(record.uid, record.bytes, cause);
                ToDrop(Leftover::default(), Some(own))
            }
        }
    }

    /// Makes all checks that are due. Returns the pause before the next one; `None` if the service
    /// ends.
    fn reap(&self) -> Option<Duration> {
        let closed = self.work_off_events();
        let began = Instant::now();
        let due = self.liveness.due(began);
        let mut freed = self.look_at_all(due.buffers);
        if due.everything {
            freed = freed.and(self.look_at_live(None));
        }
        self.wake_for(freed);
        let now = Instant::now();
        // Time for returning memory does not make checks rarer.
        self.liveness.looked((now - began).saturating_sub(freed.took), now);
        let rest = if (1..LARGE).contains(&closed.largest) { SMALL_CLOSES_REST } else { Duration::ZERO };
        (!due.stopped).then_some(rest)
    }

    /// Starts the thread that detects releases. It ends when the allocator is dropped.
    pub(super) fn start_reaper(self: &Arc<Self>) -> std::io::Result<()> {
        let (liveness, allocator) = (Arc::clone(&self.liveness), Arc::downgrade(self));
        let step = move || Weak::upgrade(&allocator).and_then(|allocator| allocator.reap());
        std::thread::Builder::new().name("anion-reaper".to_owned()).spawn(move || {
            while let Some(rest) = step() {
                liveness.pulse.step();
                if !rest.is_zero() {
                    std::thread::sleep(rest);
                }
                liveness.wait();
            }
        })?;
        Ok(())
    }
}
