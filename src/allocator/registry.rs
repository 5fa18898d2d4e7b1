// SPDX-License-Identifier: Apache-2.0
//! The registry of live buffers. One lock protects it, with all state that must change together
//! when a buffer is allocated or released.
//!
//! A heap's pool may be locked while the registry is, never the reverse. Room and quota are booked
//! together, and a released buffer moves from here to its pool without a moment in which it is in
//! neither.
//!
//! All allocations of all heaps share the lock, so it is held for the accounts of one buffer at a
//! time, for any number of live buffers. The maps are B-trees, which never grow all at once as hash
//! tables do, and many buffers are visited in steps of [`STEP`].

use super::metadata::{Graphic, MetadataFile};
use super::reservations::{Lent, Missing, ReservationId, Reservations};
use crate::heap::{Heap, Stored};
use crate::ledger::{Claim, HeapIndex, Ledger, Refusal};
use crate::pool::TrustDomain;
use crate::sys::fd::Inode;
use crate::sys::inotify::Watch;
use crate::units::{BackedBytes, BufferId, Label, Uid};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// Most buffers that are visited in one hold of the lock.
const STEP: usize = 64;

/// The record of a live buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its identity.
    pub id: BufferId,
    /// The heap that made it.
    pub heap: HeapIndex,
    /// Its size.
    pub bytes: BackedBytes,
    /// The uid that is charged.
    pub uid: Uid,
    /// The process that allocated it, for display.
    pub pid: i32,
    /// Its label.
    pub label: Label,
    /// The image of the buffer, with the bytes of its metadata; `None` for other buffers.
    pub graphic: Option<(Graphic, BackedBytes)>,
    /// Inode number of its file.
    pub inode: u64,
    /// Time since boot when it was allocated.
    pub created: Duration,
}

impl Record {
    /// Returns the claim that was booked for it.
    pub(super) fn claim(&self) -> Claim {
        let metadata = self.graphic.map_or(0, |(_, bytes)| bytes.get());
        Claim { uid: self.uid, heap: self.heap, count: 1, bytes: self.bytes, metadata }
    }
}

/// A live buffer.
pub(super) struct Live {
    pub(super) record: Record,
    pub(super) stored: Stored,
    /// The metadata file of an image's buffer.
    pub(super) metadata: Option<Arc<MetadataFile>>,
    /// Identity of the client's file.
    pub(super) inode: Inode,
    /// The domain of the client that holds it. `None` for a buffer of an earlier service, which is
    /// never pooled: the heap may have another configuration, and other clients may have held it.
    pub(super) domain: Option<TrustDomain>,
    /// The reservation that lent it.
    pub(super) lender: Option<ReservationId>,
}

impl Live {
    /// Returns its files.
    pub(super) fn files(&self) -> (Stored, Option<Arc<MetadataFile>>) {
        (self.stored.clone(), self.metadata.clone())
    }

    /// Returns the watches of its files.
    fn watches(&self) -> impl Iterator<Item = Watch> + use<> {
        let of_metadata = self.metadata.as_ref().and_then(|metadata| metadata.watch());
        self.stored.watch.into_iter().chain(of_metadata)
    }
}

/// Booked room and quota for a request, and the buffers that the caller's reservations lend to it.
pub(super) struct Booked {
    pub(super) claim: Claim,
    /// At most as many as the request's count.
    pub(super) lent: Vec<Lent>,
}

/// Live buffers, the accounts of uids, and reservations.
pub(super) struct Registry {
    pub(super) ledger: Ledger,
    reservations: Reservations,
    live: BTreeMap<BufferId, Box<Live>>,
    by_watch: BTreeMap<Watch, BufferId>,
    by_inode: BTreeMap<Inode, BufferId>,
    /// Ids grow with time, so the oldest buffer of a uid comes first.
    by_owner: HashMap<Uid, BTreeSet<BufferId>>,
}

impl Registry {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            reservations: Reservations::default(),
            live: BTreeMap::new(),
            by_watch: BTreeMap::new(),
            by_inode: BTreeMap::new(),
            by_owner: HashMap::new(),
        }
    }

    /// Books room and quota for `claim`. It first draws from the reservations of this uid and
    /// domain, which are booked already.
    ///
    /// # Errors
    /// The first limit that the rest would exceed, the heap's before the client's. Nothing is
    /// booked then.
    pub(super) fn book(
        &mut self,
        heap: &Heap,
        claim: Claim,
        domain: &TrustDomain,
    ) -> Result<Booked, Refusal> {
        let drawn = self.reservations.available(&claim, domain);
        let rest = claim.of(claim.count - drawn);
        if rest.count > 0 {
            heap.pool().account().book(rest.uid, rest.total())?;
            if let Err(refusal) = self.ledger.book(&rest) {
                heap.pool().account().unbook(rest.uid, rest.total());
                return Err(refusal);
            }
        }
        if drawn > 0 {
            heap.pool().account().draw(claim.of(drawn).total());
            self.ledger.draw(&claim.of(drawn));
        }
        Ok(Booked { claim, lent: self.reservations.lend(&claim, domain, drawn) })
    }

    /// Returns whether `claim` could be booked now.
    ///
    /// # Errors
    /// As [`Registry::book`].
    pub(super) fn check(&self, heap: &Heap, claim: Claim, domain: &TrustDomain) -> Result<(), Refusal> {
        match claim.count - self.reservations.available(&claim, domain) {
            0 => Ok(()),
            rest => {
                heap.pool().account().check(claim.uid, claim.of(rest).total())?;
                self.ledger.check(&claim.of(rest))
            }
        }
    }

    /// Undoes [`Registry::book`]. Returns memory whose reservation has ended meanwhile; the caller
    /// drops it after it releases the lock.
    #[must_use = "the memory is to be dropped outside of the lock"]
    pub(super) fn cancel(&mut self, heap: &Heap, booked: Booked) -> Vec<Lent> {
        let (claim, lent) = (booked.claim, booked.lent.len());
        let homeless = self.reservations.take_back(booked.lent);
        let again = claim.of(lent - homeless.len());
        let rest = claim.of(claim.count - again.count);
        heap.pool().account().mark_reserved(again.total());
        self.ledger.mark_reserved(&again);
        heap.pool().account().unbook(rest.uid, rest.total());
        self.ledger.unbook(&rest);
        homeless
    }

    /// Counts the buffers of a request as allocated. [`Registry::insert`] inserts each.
    pub(super) fn allocated(&mut self, heap: &Heap, claim: &Claim) {
        heap.pool().account().allocated(claim.count as u64, claim.total());
        self.ledger.allocated(claim.uid);
    }

    /// Inserts a buffer whose room and quota are booked.
    pub(super) fn insert(&mut self, live: Box<Live>) {
        let id = live.record.id;
        for watch in live.watches() {
            self.by_watch.insert(watch, id);
        }
        self.by_inode.insert(live.inode, id);
        self.by_owner.entry(live.record.uid).or_default().insert(id);
        self.live.insert(id, live);
    }

    /// Inserts a buffer that clients hold already, and charges it even beyond the limits. Returns
    /// it if a buffer with this id or file is in the registry.
    pub(super) fn insert_held(&mut self, heap: &Heap, live: Box<Live>) -> Option<Box<Live>> {
        if self.live.contains_key(&live.record.id) || self.by_inode.contains_key(&live.inode) {
            return Some(live);
        }
        let claim = live.record.claim();
        heap.pool().account().book_held(claim.uid, claim.total());
        self.ledger.book_held(&claim);
        self.allocated(heap, &claim);
        self.insert(live);
        None
    }

    /// Stores the watch for the closes of a live buffer's metadata file.
    pub(super) fn watch_metadata(&mut self, id: BufferId, watch: Watch) {
        if self.live.contains_key(&id) {
            self.by_watch.insert(watch, id);
        }
    }

    /// Removes a buffer and uncharges its owner; `None` if it was removed before. While the
    /// registry is locked, `retire` puts the buffer into its pool or removes it from the heap's
    /// account, and returns the memory to drop.
    pub(super) fn remove<T>(
        &mut self,
        heaps: &[Heap],
        id: BufferId,
        retire: impl FnOnce(&Record, Stored) -> T,
    ) -> Option<Removed<T>> {
        let live = *self.live.remove(&id)?;
        for watch in live.watches() {
            self.by_watch.remove(&watch);
        }
        let Live { record, stored, metadata, inode, lender, .. } = live;
        self.by_inode.remove(&inode);
        if let Some(ids) = self.by_owner.get_mut(&record.uid) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_owner.remove(&record.uid);
            }
        }
        self.ledger.unbook(&record.claim());
        let leftover = retire(&record, stored);
        if let Some(lender) = lender {
            // Its reservation gets the next buffer from the room and quota that just became free.
            self.reservations.came_back(lender);
            self.top_up(heaps, lender);
        }
        Some(Removed { record, leftover, metadata, is_reserved: lender.is_some() })
    }

    /// Reserves `claim` for a client.
    ///
    /// # Errors
    /// The first limit that it would exceed, the heap's before the client's. Nothing is booked
    /// then.
    pub(super) fn reserve(
        &mut self,
        heap: &Heap,
        claim: Claim,
        domain: TrustDomain,
    ) -> Result<ReservationId, Refusal> {
        self.book_reserved(heap, &claim)?;
        Ok(self.reservations.add(claim, domain))
    }

    fn book_reserved(&mut self, heap: &Heap, claim: &Claim) -> Result<(), Refusal> {
        heap.pool().account().book(claim.uid, claim.total())?;
        if let Err(refusal) = self.ledger.reserve(claim) {
            heap.pool().account().unbook(claim.uid, claim.total());
            return Err(refusal);
        }
        heap.pool().account().mark_reserved(claim.total());
        Ok(())
    }

    /// Books one more buffer for a reservation that lacks one, if there is room and quota now.
    fn top_up(&mut self, heaps: &[Heap], id: ReservationId) {
        let Some(lacking) = self.reservations.lacking(id) else { return };
        if self.book_reserved(&heaps[lacking.heap], &lacking).is_ok() {
            self.reservations.booked_one(id);
        }
    }

    /// Returns the next reserved buffer to make at time `now` (since boot), from the oldest
    /// reservation first.
    pub(super) fn missing(&mut self, heaps: &[Heap], now: Duration) -> Option<Missing> {
        for id in self.reservations.incomplete(now) {
            self.top_up(heaps, id);
            if let Some(missing) = self.reservations.missing(id, now) {
                return Some(missing);
            }
        }
        None
    }

    /// Ends a reservation and cancels the booking of buffers that were not drawn. Returns their
    /// memory; the caller drops it after it releases the lock.
    #[must_use = "the memory is to be dropped outside of the lock"]
    pub(super) fn end_reservation(&mut self, heaps: &[Heap], id: ReservationId) -> Vec<Stored> {
        let Some((rest, ready)) = self.reservations.end(id) else { return Vec::new() };
        let pool = heaps[rest.heap].pool();
        pool.account().draw(rest.total());
        pool.account().unbook(rest.uid, rest.total());
        self.ledger.unreserve(&rest);
        ready
    }

    pub(super) fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    pub(super) fn reservations_mut(&mut self) -> &mut Reservations {
        &mut self.reservations
    }

    pub(super) fn live(&self, id: BufferId) -> Option<&Live> {
        self.live.get(&id).map(Box::as_ref)
    }

    /// Returns the next few live buffers with ids above `last`, the oldest first: those of `uid`,
    /// or of all clients for `None`. It returns an empty list after the last one.
    pub(super) fn next_live(&self, uid: Option<Uid>, last: Option<BufferId>) -> Vec<BufferId> {
        let range = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        match uid {
            Some(uid) => {
                let own = self.by_owner.get(&uid).into_iter().flat_map(|ids| ids.range(range));
                own.take(STEP).copied().collect()
            }
            None => self.live.range(range).take(STEP).map(|(id, _)| *id).collect(),
        }
    }

    /// Returns the buffer with this watch, and its owner.
    pub(super) fn watched(&self, watch: Watch) -> Option<(BufferId, Uid)> {
        let id = *self.by_watch.get(&watch)?;
        Some((id, self.live.get(&id)?.record.uid))
    }

    pub(super) fn with_inode(&self, inode: Inode) -> Option<BufferId> {
        self.by_inode.get(&inode).copied()
    }
}

/// A buffer that was removed.
#[must_use = "the rest is to be dropped outside of the lock"]
pub(super) struct Removed<T> {
    pub(super) record: Record,
    /// Memory to drop.
    pub(super) leftover: T,
    /// Its metadata file, to drop.
    pub(super) metadata: Option<Arc<MetadataFile>>,
    /// Whether its reservation now lacks a buffer.
    pub(super) is_reserved: bool,
}
