// SPDX-License-Identifier: Apache-2.0
//! Everything that must change together when a buffer comes or goes, under one lock.

use super::reservations::{Lent, ReservationId, Reservations};
use crate::heap::Stored;
use crate::ledger::{Claim, Ledger, Record, Refusal, Reservation};
use crate::pool::TrustDomain;
use crate::sys::fd::Inode;
use crate::sys::inotify::Watch;
use crate::units::{BufferId, Uid};
use std::collections::{HashMap, HashSet};

/// The ledger, and the memory behind its entries.
pub(super) struct Books {
    pub(super) ledger: Ledger,
    pub(super) reservations: Reservations,
    live: HashMap<BufferId, Live>,
    by_watch: HashMap<Watch, BufferId>,
    by_inode: HashMap<Inode, BufferId>,
    by_owner: HashMap<Uid, HashSet<BufferId>>,
}

/// A live buffer's memory.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) stored: Stored,
    /// Of the file that the client has.
    pub(super) inode: Inode,
    /// Who holds it, as far as reuse is concerned.
    pub(super) domain: TrustDomain,
    /// Whose reservation it was drawn from.
    pub(super) lender: Option<ReservationId>,
}

/// Room and quota for a request, and what the caller's reservations lend to it.
pub(super) struct Booked {
    pub(super) reservation: Reservation,
    /// At most as many as the request has buffers.
    pub(super) lent: Vec<Lent>,
}

impl Books {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            reservations: Reservations::default(),
            live: HashMap::new(),
            by_watch: HashMap::new(),
            by_inode: HashMap::new(),
            by_owner: HashMap::new(),
        }
    }

    /// Books `claim`, from what is set aside for this uid and domain first: that is charged already.
    ///
    /// # Errors
    /// As [`Ledger::reserve`], for the others.
    pub(super) fn book(&mut self, claim: Claim, domain: &TrustDomain) -> Result<Booked, Refusal> {
        let drawn = self.reservations.available(&claim, domain);
        let reservation = self.ledger.reserve_drawing(claim, drawn)?;
        Ok(Booked { reservation, lent: self.reservations.lend(&claim, domain, drawn) })
    }

    /// Whether `claim` could be booked, once deferred frees are worked off.
    ///
    /// # Errors
    /// As [`Books::book`].
    pub(super) fn check(&self, claim: Claim, domain: &TrustDomain) -> Result<(), Refusal> {
        match claim.count - self.reservations.available(&claim, domain) {
            0 => Ok(()),
            rest => self.ledger.check_drained(&Claim { count: rest, ..claim }),
        }
    }

    /// Undoes [`Books::book`]. Memory whose reservation has gone meanwhile is returned, to be dropped after the lock.
    #[must_use = "the memory is to be dropped outside of the lock"]
    pub(super) fn cancel(&mut self, booked: Booked) -> Vec<Lent> {
        let lent = booked.lent.len();
        let homeless = self.reservations.take_back(booked.lent);
        self.ledger.cancel_drawing(booked.reservation, lent - homeless.len());
        homeless
    }

    /// Enters a whole batch.
    pub(super) fn enter(&mut self, reservation: Reservation, batch: Vec<(Record, Live)>) {
        let mut records = Vec::with_capacity(batch.len());
        for (record, live) in batch {
            if let Some(watch) = live.stored.watch {
                self.by_watch.insert(watch, record.id);
            }
            self.by_inode.insert(live.inode, record.id);
            self.by_owner.entry(record.uid).or_default().insert(record.id);
            self.live.insert(record.id, live);
            records.push(record);
        }
        self.ledger.commit(reservation, records);
    }

    /// Strikes a buffer out. The memory is returned so that the caller drops it after the lock; `None` if the
    /// buffer was struck out before.
    #[must_use = "the memory is to be dropped outside of the lock"]
    pub(super) fn strike(&mut self, id: BufferId) -> Option<(Record, Live)> {
        let record = self.ledger.release(id)?;
        let live = self.live.remove(&id)?;
        if let Some(watch) = live.stored.watch {
            self.by_watch.remove(&watch);
        }
        self.by_inode.remove(&live.inode);
        if let Some(ids) = self.by_owner.get_mut(&record.uid) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_owner.remove(&record.uid);
            }
        }
        // Its reservation holds the next one ready, in the room and quota that just came free.
        if let Some(lender) = live.lender {
            self.reservations.came_back(lender, &mut self.ledger);
        }
        Some((record, live))
    }

    pub(super) fn live(&self, id: BufferId) -> Option<&Live> {
        self.live.get(&id)
    }

    pub(super) fn owned_by(&self, uid: Uid) -> impl Iterator<Item = BufferId> {
        self.by_owner.get(&uid).into_iter().flatten().copied()
    }

    pub(super) fn watched(&self, watch: Watch) -> Option<BufferId> {
        self.by_watch.get(&watch).copied()
    }

    pub(super) fn with_inode(&self, inode: Inode) -> Option<BufferId> {
        self.by_inode.get(&inode).copied()
    }
}
