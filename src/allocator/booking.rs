// SPDX-License-Identifier: Apache-2.0
//! Room and quota for one request, given back unless it is served.

use super::books::{Booked, Live};
use super::{Allocator, Caller};
use crate::heap::Stored;
use crate::ledger::{Claim, HeapIndex, Record, Refusal};
use crate::units::BackedBytes;

/// Given back when dropped before it is entered.
pub(super) struct Booking<'a> {
    allocator: &'a Allocator,
    claim: Claim,
    booked: Option<Booked>,
}

impl Allocator {
    /// Books room and quota, from the caller's reservations first.
    ///
    /// # Errors
    /// The limit that is met even after everything that was let go of has been taken back.
    pub(super) fn book(&self, caller: &Caller, claim: Claim) -> Result<Booking<'_>, Refusal> {
        let domain = caller.domain(&self.heaps[claim.heap]);
        let booked = self.reclaiming(caller, claim.heap, || self.books().book(claim, &domain))?;
        Ok(Booking { allocator: self, claim, booked: Some(booked) })
    }

    /// Tries, and before `caller` is refused takes back what was let go of and tries once more.
    pub(super) fn reclaiming<T>(
        &self,
        caller: &Caller,
        heap: HeapIndex,
        attempt: impl Fn() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let once_more = || {
            // Tried again even if nothing came back now: the reaper may have taken it back in between.
            self.reclaim_from(caller);
            self.drain(heap);
            attempt()
        };
        let refused = match attempt().or_else(|_| once_more()) {
            Err(refusal) => refusal,
            booked => return booked,
        };
        // What the caller let go of a moment ago may still be open here.
        if self.replies.await_sent(caller) { once_more() } else { Err(refused) }
    }
}

impl Booking<'_> {
    pub(super) fn bytes(&self) -> BackedBytes {
        self.claim.bytes
    }

    pub(super) fn heap(&self) -> HeapIndex {
        self.claim.heap
    }

    /// Memory that the caller's reservations hold ready for this request.
    pub(super) fn ready(&self) -> impl Iterator<Item = Stored> {
        let lent = self.booked.iter().flat_map(|booked| &booked.lent);
        lent.filter_map(|lent| lent.memory.clone())
    }

    /// Enters the buffers, with their lenders.
    pub(super) fn enter(mut self, mut batch: Vec<(Record, Live)>) {
        let Some(Booked { reservation, lent }) = self.booked.take() else { return };
        for ((_, live), lent) in batch.iter_mut().zip(lent) {
            live.lender = Some(lent.by);
        }
        self.allocator.books().enter(reservation, batch);
    }
}

impl Drop for Booking<'_> {
    fn drop(&mut self) {
        if let Some(booked) = self.booked.take() {
            let homeless = self.allocator.books().cancel(booked);
            drop(homeless);
            self.allocator.keeper.wake();
        }
    }
}
