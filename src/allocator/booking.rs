// SPDX-License-Identifier: Apache-2.0
//! Room and quota for one request. They are returned unless the request is served.

use super::registry::{Booked, Live};
use super::{Allocator, Caller};
use crate::heap::Stored;
use crate::ledger::{Claim, Refusal};
use crate::units::{BackedBytes, Uid};

/// Booked room and quota. Its drop returns them unless the buffers were inserted.
pub(super) struct Booking<'a> {
    allocator: &'a Allocator,
    claim: Claim,
    booked: Option<Booked>,
}

impl Allocator {
    /// Books room and quota, from the caller's reservations first.
    ///
    /// # Errors
    /// The limit that is exceeded even after all released buffers were detected.
    pub(super) fn book(&self, caller: &Caller, claim: Claim) -> Result<Booking<'_>, Refusal> {
        let heap = &self.heaps[claim.heap];
        let domain = caller.domain(heap);
        let booked = self.reclaiming(caller, || self.registry().book(heap, claim, &domain))?;
        Ok(Booking { allocator: self, claim, booked: Some(booked) })
    }

    /// Tries `attempt`. If it is refused, detects released buffers and tries again.
    pub(super) fn reclaiming<T>(
        &self,
        caller: &Caller,
        attempt: impl Fn() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let once_more = || {
            // Tries again even if this found nothing: the reaper may have detected it in between.
            self.reclaim_from(caller);
            attempt()
        };
        let refused = match attempt().or_else(|_| once_more()) {
            Err(refusal) => refusal,
            booked => return booked,
        };
        // A reply's copies of the caller's descriptors may still be open here.
        let await_sent = || self.replies.await_sent(caller);
        if self.turns.without_turn(caller.uid, await_sent) { once_more() } else { Err(refused) }
    }
}

impl Booking<'_> {
    pub(super) fn uid(&self) -> Uid {
        self.claim.uid
    }

    pub(super) fn bytes(&self) -> BackedBytes {
        self.claim.bytes
    }

    /// Returns the bytes of the request for which no reservation has ready memory.
    pub(super) fn bytes_to_make(&self) -> u64 {
        self.claim.of(self.claim.count - self.ready().count()).total()
    }

    /// Returns the memory that the caller's reservations have ready for this request.
    pub(super) fn ready(&self) -> impl Iterator<Item = Stored> {
        let lent = self.booked.iter().flat_map(|booked| &booked.lent);
        lent.filter_map(|lent| lent.memory.clone())
    }

    /// Inserts the buffers into the registry, with their lenders. No other thread has their ids
    /// before.
    pub(super) fn insert(mut self, batch: Vec<Live>) {
        let Some(booked) = self.booked.take() else { return };
        let heap = &self.allocator.heaps[self.claim.heap];
        self.allocator.registry().allocated(heap, &booked.claim);
        let lenders = booked.lent.into_iter().map(|lent| Some(lent.by)).chain(std::iter::repeat(None));
        for (live, lender) in batch.into_iter().zip(lenders) {
            let live = Box::new(Live { lender, ..live });
            self.allocator.registry().insert(live);
        }
    }
}

impl Drop for Booking<'_> {
    fn drop(&mut self) {
        if let Some(booked) = self.booked.take() {
            let heap = &self.allocator.heaps[self.claim.heap];
            let homeless = self.allocator.registry().cancel(heap, booked);
            drop(homeless);
            self.allocator.maker.wake();
        }
    }
}
