// SPDX-License-Identifier: Apache-2.0
//! Reservations of clients: the number of buffers of each size, and the buffers that are ready. A
//! part of the registry, under its lock.
//!
//! # Life of a reserved buffer
//! It is *booked*: charged, and not yet made. The maker thread makes its memory, and it is *ready*.
//! A request draws it: it is *lent*, a live buffer like any other. When the client releases it, the
//! next one is booked for the reservation, as room and quota permit, and made ready, too. So a
//! reservation of eight frames has eight frames again after use.

use crate::heap::Stored;
use crate::ledger::{Claim, HeapIndex};
use crate::pool::TrustDomain;
use crate::units::{BackedBytes, Uid};
use std::collections::BTreeMap;
use std::time::Duration;

/// Pause after a failure before the reservation's next buffer is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A reservation's identity, never reused. Identities of one uid are adjacent in order.
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
    /// The request: `claim.count` buffers, charged to `claim.uid`.
    claim: Claim,
    domain: TrustDomain,
    /// Number of buffers booked and not drawn: ready, or still to be made.
    booked: usize,
    /// Number of drawn buffers that are not yet released. Its sum with `booked` never exceeds
    /// `claim.count`.
    lent: usize,
    /// The memory of `booked` buffers that is made.
    ready: Vec<Stored>,
    /// After a failure, the time before which no buffer is tried.
    retry: Option<Duration>,
}

/// A buffer that a reservation lends to a request.
pub(super) struct Lent {
    pub(super) by: ReservationId,
    /// Its memory if it is ready. Otherwise the buffer is charged only, and the request makes it.
    pub(super) memory: Option<Stored>,
}

/// A reserved buffer that must be made.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) id: ReservationId,
    pub(super) heap: HeapIndex,
    pub(super) bytes: BackedBytes,
    pub(super) domain: TrustDomain,
}

impl Reserved {
    fn matches(&self, claim: &Claim, domain: &TrustDomain) -> bool {
        // Reservations are charged without metadata, so they serve no buffers that have metadata.
        let of = |claim: &Claim| (claim.heap, claim.bytes, claim.metadata);
        of(&self.claim) == of(claim) && self.domain == *domain
    }

    fn is_complete(&self) -> bool {
        self.ready.len() + self.lent == self.claim.count
    }
}

impl Reservations {
    /// Returns the number of reservations of `uid`.
    pub(super) fn count(&self, uid: Uid) -> usize {
        self.by_id.range(Self::all_of(uid)).count()
    }

    fn all_of(uid: Uid) -> std::ops::RangeInclusive<ReservationId> {
        ReservationId(uid, 0)..=ReservationId(uid, u64::MAX)
    }

    /// Adds a reservation whose buffers were booked.
    pub(super) fn add(&mut self, claim: Claim, domain: TrustDomain) -> ReservationId {
        self.last += 1;
        let id = ReservationId(claim.uid, self.last);
        let reserved =
            Reserved { claim, domain, booked: claim.count, lent: 0, ready: Vec::new(), retry: None };
        self.by_id.insert(id, reserved);
        id
    }

    /// Ends a reservation. Returns the claim of the buffers that were not drawn, whose booking the
    /// caller cancels, and their memory; `None` if it ended before. Drawn buffers stay as they are.
    #[must_use = "the memory is to be dropped outside of the lock"]
    pub(super) fn end(&mut self, id: ReservationId) -> Option<(Claim, Vec<Stored>)> {
        let reserved = self.by_id.remove(&id)?;
        Some((reserved.claim.of(reserved.booked), reserved.ready))
    }

    /// Returns the number of its buffers that are ready; 0 after its end.
    pub(super) fn ready(&self, id: ReservationId) -> usize {
        self.by_id.get(&id).map_or(0, |reserved| reserved.ready.len())
    }

    /// Returns the number of buffers of `claim` that can be drawn.
    pub(super) fn available(&self, claim: &Claim, domain: &TrustDomain) -> usize {
        self.drawable(claim, domain, |reserved| reserved.booked)
    }

    /// Returns the number of buffers of `claim` that are ready and can be drawn.
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
                while drawn.len() < count && reserved.booked > 0 && !(only_ready && reserved.ready.is_empty())
                {
                    reserved.booked -= 1;
                    reserved.lent += 1;
                    drawn.push(Lent { by: *id, memory: reserved.ready.pop() });
                }
            }
        }
        drawn
    }

    /// Undoes [`Reservations::lend`]. Returns the buffers of reservations that ended meanwhile.
    #[must_use = "the memory is to be dropped outside of the lock"]
    pub(super) fn take_back(&mut self, lent: Vec<Lent>) -> Vec<Lent> {
        let mut homeless = Vec::new();
        for buffer in lent {
            let Some(reserved) = self.by_id.get_mut(&buffer.by) else {
                homeless.push(buffer);
                continue;
            };
            reserved.lent -= 1;
            reserved.booked += 1;
            reserved.ready.extend(buffer.memory);
        }
        homeless
    }

    /// Counts a buffer of this reservation as released.
    pub(super) fn came_back(&mut self, id: ReservationId) {
        if let Some(reserved) = self.by_id.get_mut(&id) {
            reserved.lent -= 1;
        }
    }

    /// Returns the claim for one more buffer if the reservation has fewer than requested.
    pub(super) fn lacking(&self, id: ReservationId) -> Option<Claim> {
        let reserved = self.by_id.get(&id)?;
        (reserved.booked + reserved.lent < reserved.claim.count).then(|| reserved.claim.of(1))
    }

    /// Counts one more buffer as booked for a reservation that lacked one.
    pub(super) fn booked_one(&mut self, id: ReservationId) {
        if let Some(reserved) = self.by_id.get_mut(&id) {
            reserved.booked += 1;
        }
    }

    /// Returns the reservations that lack ready buffers and may be tried at time `now`, the oldest
    /// of each uid first.
    pub(super) fn incomplete(&self, now: Duration) -> Vec<ReservationId> {
        let is_due =
            |reserved: &Reserved| !reserved.is_complete() && reserved.retry.is_none_or(|retry| retry <= now);
        self.by_id.iter().filter(|(_, reserved)| is_due(reserved)).map(|(id, _)| *id).collect()
    }

    /// Returns the next buffer of a reservation to make; `None`, for now, if there is no room to
    /// replace released buffers.
    pub(super) fn missing(&mut self, id: ReservationId, now: Duration) -> Option<Missing> {
        let reserved = self.by_id.get_mut(&id)?;
        if reserved.ready.len() == reserved.booked {
            reserved.retry = Some(now + RETRY);
            return None;
        }
        let Claim { heap, bytes, .. } = reserved.claim;
        Some(Missing { id, heap, bytes, domain: reserved.domain.clone() })
    }

    /// Adds memory that was made for a reservation. Returns it if the reservation no longer lacks
    /// it.
    pub(super) fn add_ready(&mut self, id: ReservationId, memory: Stored) -> Option<Stored> {
        match self.by_id.get_mut(&id) {
            Some(reserved) if reserved.ready.len() < reserved.booked => {
                reserved.ready.push(memory);
                reserved.retry = None;
                None
            }
            _ => Some(memory),
        }
    }

    /// Records that making a buffer failed at time `now`: the next try comes after a pause.
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

    /// Returns the time of the next try (since boot); `None` if no buffer is missing.
    pub(super) fn next_try(&self, now: Duration) -> Option<Duration> {
        let incomplete = self.by_id.values().filter(|reserved| !reserved.is_complete());
        incomplete.map(|reserved| reserved.retry.unwrap_or(now)).min()
    }
}
