// SPDX-License-Identifier: Apache-2.0
//! Reservations: buffers that are made before their owner requests them, and charged to it from the
//! reserving call on.

use super::reservations::ReservationId;
use super::{Action, Allocator, Caller, Explanation, Outcome, Request};
use crate::heap::discard;
use crate::ledger::{HeapIndex, Refusal};
use std::sync::Arc;

/// Most reservations of one uid. Each buffer of a reservation uses one of the service's
/// descriptors.
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

    /// Releases the buffers that were not drawn. Drawn buffers stay as they are. A second call does
    /// nothing.
    pub fn release(&self) {
        // A separate statement, so that the lock is released before the memory is dropped.
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
    /// Reserves `request.count` buffers of the only heap in the request for the caller. They are
    /// charged from now on, and a thread of ordinary priority makes them soon. Requests of the same
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
