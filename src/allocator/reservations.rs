// SPDX-License-Identifier: Apache-2.0
//! What clients reserved: how many buffers of which size each wants to find ready, and those that are. Part of the
//! books, under their lock.
//!
//! # Life of a reserved buffer
//! It is *set aside* in the ledger: charged, but not yet made. The keeper makes its memory, and it is *ready*. A request
//! draws it: it is *lent*, a buffer as any other. When the client lets go of it, the next one is set aside in its
//! place, as room and quota permit, and the keeper makes that one ready, too. So a reservation of eight frames is one
//! of eight frames again after they were used.

use crate::heap::Stored;
use crate::ledger::{Claim, HeapIndex, Ledger};
use crate::pool::TrustDomain;
use crate::units::{BackedBytes, Uid};
use std::collections::BTreeMap;
use std::time::Duration;

/// Pause after a failure before a reservation's next buffer is tried.
const RETRY: Duration = Duration::from_secs(5);

/// A reservation's identity, never given twice; those of one uid are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ReservationId(Uid, u64);

/// All reservations.
#[derive(Default)]
pub(super) struct Reservations {
    by_id: BTreeMap<ReservationId, Reserved>,
    last: u64,
}

/// One reservation.
struct Reserved {
    /// As asked for: `claim.count` buffers, charged to `claim.uid`.
    claim: Claim,
    domain: TrustDomain,
    /// Set aside in the ledger: ready, or to be made.
    aside: usize,
    /// Drawn, and not yet let go of. With `aside` never more than `claim.count`.
    lent: usize,
    /// Those of `aside` whose memory is there.
    ready: Vec<Stored>,
    /// Not before this time after a failure.
    retry: Option<Duration>,
}

/// A buffer that a reservation lends to a request.
pub(super) struct Lent {
    pub(super) by: ReservationId,
    /// Its memory if it is ready; else it is charged, and the request makes it.
    pub(super) memory: Option<Stored>,
}

/// A reserved buffer to be made.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) id: ReservationId,
    pub(super) heap: HeapIndex,
    pub(super) bytes: BackedBytes,
    pub(super) domain: TrustDomain,
}

impl Reserved {
    fn matches(&self, claim: &Claim, domain: &TrustDomain) -> bool {
        (self.claim.heap, self.claim.bytes) == (claim.heap, claim.bytes) && self.domain == *domain
    }

    fn part(&self, count: usize) -> Claim {
        Claim { count, ..self.claim }
    }

    /// Sets one more aside if some came back for which there was no room then.
    fn top_up(&mut self, ledger: &mut Ledger) {
        if self.aside + self.lent < self.claim.count && ledger.set_aside(self.part(1)).is_ok() {
            self.aside += 1;
        }
    }

    fn is_complete(&self) -> bool {
        self.ready.len() + self.lent == self.claim.count
    }
}

impl Reservations {
    /// How many `uid` has.
    pub(super) fn count(&self, uid: Uid) -> usize {
        self.by_id.range(Self::all_of(uid)).count()
    }

    fn all_of(uid: Uid) -> std::ops::RangeInclusive<ReservationId> {
        ReservationId(uid, 0)..=ReservationId(uid, u64::MAX)
    }

    /// Enters a reservation of what was set aside in the ledger.
    pub(super) fn add(&mut self, claim: Claim, domain: TrustDomain) -> ReservationId {
        self.last += 1;
        let id = ReservationId(claim.uid, self.last);
        let reserved =
            Reserved { claim, domain, aside: claim.count, lent: 0, ready: Vec::new(), retry: None };
        self.by_id.insert(id, reserved);
        id
    }

    /// Ends a reservation and gives up what is set aside for it. What it lent stays as it is. The memory is returned,
    /// to be dropped after the lock.
    #[must_use = "the memory is to be dropped outside of the lock"]
    pub(super) fn end(&mut self, id: ReservationId, ledger: &mut Ledger) -> Vec<Stored> {
        let Some(reserved) = self.by_id.remove(&id) else { return Vec::new() };
        ledger.give_up(reserved.part(reserved.aside));
        reserved.ready
    }

    /// How many of its buffers lie ready; 0 after its end.
    pub(super) fn ready(&self, id: ReservationId) -> usize {
        self.by_id.get(&id).map_or(0, |reserved| reserved.ready.len())
    }

    /// How many buffers of `claim` can be drawn.
    pub(super) fn available(&self, claim: &Claim, domain: &TrustDomain) -> usize {
        self.drawable(claim, domain, |reserved| reserved.aside)
    }

    /// How many buffers of `claim` are made already and can be drawn.
    pub(super) fn made(&self, claim: &Claim, domain: &TrustDomain) -> usize {
        self.drawable(claim, domain, |reserved| reserved.ready.len())
    }

    fn drawable(&self, claim: &Claim, domain: &TrustDomain, of: impl Fn(&Reserved) -> usize) -> usize {
        let own = self.by_id.range(Self::all_of(claim.uid)).map(|(_, reserved)| reserved);
        let matching = own.filter(|reserved| reserved.matches(claim, domain));
        matching.map(of).sum::<usize>().min(claim.count)
    }

    /// Draws `count` buffers, at most as many as are available, ready ones first.
    pub(super) fn lend(&mut self, claim: &Claim, domain: &TrustDomain, count: usize) -> Vec<Lent> {
        let mut drawn = Vec::with_capacity(count);
        if count == 0 {
            return drawn;
        }
        for only_ready in [true, false] {
            for (id, reserved) in self.by_id.range_mut(Self::all_of(claim.uid)) {
                if !reserved.matches(claim, domain) {
                    continue;
                }
                while drawn.len() < count && reserved.aside > 0 && !(only_ready && reserved.ready.is_empty())
                {
                    reserved.aside -= 1;
                    reserved.lent += 1;
                    drawn.push(Lent { by: *id, memory: reserved.ready.pop() });
                }
            }
        }
        drawn
    }

    /// Undoes [`Reservations::lend`]. Returns what belongs to reservations that ended meanwhile.
    #[must_use = "the memory is to be dropped outside of the lock"]
    pub(super) fn take_back(&mut self, lent: Vec<Lent>) -> Vec<Lent> {
        let mut homeless = Vec::new();
        for buffer in lent {
            let Some(reserved) = self.by_id.get_mut(&buffer.by) else {
                homeless.push(buffer);
                continue;
            };
            reserved.lent -= 1;
            reserved.aside += 1;
            reserved.ready.extend(buffer.memory);
        }
        homeless
    }

    /// A client let go of a buffer that was drawn from this reservation.
    pub(super) fn came_back(&mut self, id: ReservationId, ledger: &mut Ledger) {
        if let Some(reserved) = self.by_id.get_mut(&id) {
            reserved.lent -= 1;
            reserved.top_up(ledger);
        }
    }

    /// The next buffer to be made at time `now`, the oldest reservation's first.
    pub(super) fn missing(&mut self, ledger: &mut Ledger, now: Duration) -> Option<Missing> {
        self.by_id.iter_mut().find_map(|(id, reserved)| {
            if reserved.is_complete() || reserved.retry.is_some_and(|retry| retry > now) {
                return None;
            }
            reserved.top_up(ledger);
            if reserved.ready.len() == reserved.aside {
                // No room for what came back.
                reserved.retry = Some(now + RETRY);
                return None;
            }
            let Claim { heap, bytes, .. } = reserved.claim;
            Some(Missing { id: *id, heap, bytes, domain: reserved.domain.clone() })
        })
    }

    /// Adds what was made for a reservation; returned if it is not missing any more.
    pub(super) fn add_ready(&mut self, id: ReservationId, memory: Stored) -> Option<Stored> {
        match self.by_id.get_mut(&id) {
            Some(reserved) if reserved.ready.len() < reserved.aside => {
                reserved.ready.push(memory);
                reserved.retry = None;
                None
            }
            _ => Some(memory),
        }
    }

    /// Making a buffer failed at time `now`: not at once again.
    pub(super) fn failed(&mut self, id: ReservationId, now: Duration) {
        if let Some(reserved) = self.by_id.get_mut(&id) {
            reserved.retry = Some(now + RETRY);
        }
    }

    /// Ends all pauses after failures.
    #[cfg(test)]
    pub(super) fn retry_now(&mut self) {
        self.by_id.values_mut().for_each(|reserved| reserved.retry = None);
    }

    /// When the next buffer is to be tried; `None` if none is missing.
    pub(super) fn next_try(&self, now: Duration) -> Option<Duration> {
        let incomplete = self.by_id.values().filter(|reserved| !reserved.is_complete());
        incomplete.map(|reserved| reserved.retry.unwrap_or(now)).min()
    }
}
