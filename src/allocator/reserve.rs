// SPDX-License-Identifier: Apache-2.0
//! Reserving: buffers that are made before their owner asks for them, and are charged to it from
//! the call on.

use super::reservations::ReservationId;
use super::{Action, Allocator, Caller, Explanation, Outcome, Request};
use crate::heap::discard;
use crate::ledger::{HeapIndex, Refusal};
use std::sync::Arc;

/// Most reservations of one uid. Each buffer of each takes one of the service's descriptors.
pub const MAX_RESERVATIONS: usize = 8;

/// A client's reservation. It ends when this is dropped.
pub struct ReservedBuffers {
    allocator: Arc<Allocator>,
    id: ReservationId,
}

impl ReservedBuffers {
    /// Returns how many of its buffers are ready; 0 after [`ReservedBuffers::release`].
    pub fn ready(&self) -> usize {
        self.allocator.registry().reservations().ready(self.id)
    }

    /// Gives back what was not drawn. Buffers that were drawn are not touched. Does nothing the
    /// second time.
    pub fn release(&self) {
        // A statement of its own, so that the lock is gone when the memory is dropped.
        let memory = self.allocator.registry().end_reservation(&self.allocator.heaps, self.id);
        drop(memory);
    }
}

impl Drop for ReservedBuffers {
    fn drop(&mut self) {
        self.release();
    }
}

impl Allocator {
    /// Reserves `request.count` buffers of the one heap that the request names for the caller:
    /// charged from now on, and made soon by a thread of ordinary priority. Requests of the same
    /// uid and trust domain for this heap and size draw them first.
    ///
    /// # Errors
    /// The heap's answer, as in [`Allocator::allocate`]. Nothing is charged then.
    pub fn reserve(
        self: &Arc<Self>,
        caller: &Caller,
        request: &Request,
    ) -> Result<ReservedBuffers, Explanation> {
        let _turn = self.turns.take(caller.uid);
        let mut verdicts = Vec::new();
        for candidate in self.candidates(&request.selection) {
            let outcome = match candidate {
                Ok(index) => match self.reserve_from(caller, request, index) {
                    Ok(id) => {
                        self.maker.wake();
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
        let claim = request.claim(caller, index, bytes);
        let reserve = || {
            let mut registry = self.registry();
            let held = registry.reservations().count(caller.uid);
            if held >= MAX_RESERVATIONS {
                let limit = MAX_RESERVATIONS;
                return Err(Refusal::QuotaReservations { uid: caller.uid, held, limit });
            }
            registry.reserve(heap, claim, caller.domain(heap))
        };
        let find_place = || heap.find_place(bytes, claim.count);
        find_place()
            .or_else(|_| {
                self.reclaim_from(caller);
                find_place()
            })
            .map_err(Outcome::Failed)?;
        let id = self.reclaiming(caller, reserve).map_err(Outcome::Refused)?;
        discard(heap.pool().fit());
        Ok(id)
    }
}
