// SPDX-License-Identifier: Apache-2.0
//! Reserving: buffers that are made before their owner asks for them, and are charged to it from then on.

use super::reservations::ReservationId;
use super::{Action, Allocator, Caller, Explanation, Outcome, Request};
use crate::ledger::{Claim, HeapIndex, Refusal};
use std::sync::Arc;

/// Most reservations of one uid. Each buffer of each takes one of the service's descriptors.
pub const MAX_RESERVATIONS: usize = 8;

/// A client's reservation. It ends when this is dropped.
pub struct ReservedBuffers {
    allocator: Arc<Allocator>,
    id: ReservationId,
}

impl ReservedBuffers {
    /// How many of its buffers lie ready; 0 after [`ReservedBuffers::release`].
    pub fn ready(&self) -> usize {
        self.allocator.books().reservations.ready(self.id)
    }

    /// Gives back what was not drawn. Buffers that were drawn are not touched. Does nothing the second time.
    pub fn release(&self) {
        let memory = {
            let mut books = self.allocator.books();
            let books = &mut *books;
            books.reservations.end(self.id, &mut books.ledger)
        };
        drop(memory);
    }
}

impl Drop for ReservedBuffers {
    fn drop(&mut self) {
        self.release();
    }
}

impl Allocator {
    /// Holds `request.count` buffers of the one heap that the request names ready for the caller: charged from now on,
    /// and made by the keeper soon. Requests of the same uid and trust domain for this heap and size draw them first.
    ///
    /// # Errors
    /// The heap's answer, as in [`Allocator::allocate`]. Nothing is charged then.
    pub fn reserve(
        self: &Arc<Self>,
        caller: &Caller,
        request: &Request,
    ) -> Result<ReservedBuffers, Explanation> {
        let mut verdicts = Vec::new();
        for candidate in self.candidates(&request.selection) {
            let outcome = match candidate {
                Ok(index) => match self.reserve_from(caller, request, index) {
                    Ok(id) => {
                        self.keeper.wake();
                        return Ok(ReservedBuffers { allocator: Arc::clone(self), id });
                    }
                    Err(outcome) => outcome,
                },
                Err(_) => Outcome::UnknownHeap,
            };
            verdicts.push(self.verdict(caller, request, candidate, outcome));
        }
        Err(Explanation { bytes: request.needs.bytes, count: request.count, verdicts })
    }

    fn reserve_from(
        &self,
        caller: &Caller,
        request: &Request,
        index: HeapIndex,
    ) -> Result<ReservationId, Outcome> {
        let heap = &self.heaps[index];
        self.authorize(caller, Action::Reserve(heap)).map_err(Outcome::Denied)?;
        let bytes = heap.accept(&request.needs).map_err(Outcome::Rejected)?;
        let claim = Claim { uid: caller.uid, heap: index, count: request.count.get(), bytes };
        let set_aside = || {
            let mut books = self.books();
            let held = books.reservations.count(caller.uid);
            if held >= MAX_RESERVATIONS {
                let limit = MAX_RESERVATIONS;
                return Err(Refusal::QuotaReservations { uid: caller.uid, held, limit });
            }
            books.ledger.set_aside(claim)?;
            Ok(books.reservations.add(claim, caller.domain(heap)))
        };
        let find_place = || heap.find_place(bytes, claim.count);
        find_place()
            .or_else(|_| {
                self.reclaim_from(caller);
                find_place()
            })
            .map_err(Outcome::Failed)?;
        let id = self.reclaiming(caller, index, set_aside).map_err(Outcome::Refused)?;
        self.fit_shelf(index);
        Ok(id)
    }
}
