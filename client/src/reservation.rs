// SPDX-License-Identifier: Apache-2.0
//! Reservations.

use super::connection::Client;
use super::error::Error;
use super::process::OfProcess;
use anion_ipc::Strong;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IReservation::IReservation;
use vendor_anion_allocator::aidl::vendor::anion::allocator::ReservationRequest::ReservationRequest;

/// Buffers that the service charges to this process's uid and preallocates, until this is dropped.
/// After a restart of the service, the client reserves them again when it connects again.
pub struct Reservation(Arc<Reserved>);

/// The state that a reservation shares with its client.
pub(super) struct Reserved {
    request: ReservationRequest,
    /// The last one that a service made. The lock is not held during a call.
    object: OfProcess<Mutex<Strong<dyn IReservation>>>,
}

impl Client {
    /// Reserves `count` buffers of `bytes` bytes of the heap with this name or alias; requests for
    /// the same size use them. Does not wait until they are made ([`Reservation::ready`]).
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn reserve(&self, heap: &str, bytes: u64, count: u32) -> Result<Reservation, Error> {
        let request = ReservationRequest {
            size: i64::try_from(bytes).unwrap_or(i64::MAX),
            count: i32::try_from(count).unwrap_or(i32::MAX),
            heapName: heap.to_owned(),
        };
        let object = Mutex::new(self.call(|service| service.reserve(&request))?);
        let reserved = Arc::new(Reserved { request, object: OfProcess::new(object) });
        self.held().add_reservation(&reserved);
        Ok(Reservation(reserved))
    }
}

impl Reservation {
    /// Returns how many of its buffers are ready now, without those that are in use.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the service has ended and the client has not connected again, or
    /// the new service refused the reservation; [`Error::Inherited`] in a child of fork(2).
    pub fn ready(&self) -> Result<u32, Error> {
        let object = self.0.object.get().ok_or(Error::Inherited("reservation"))?;
        let object = lock(object).clone();
        Ok(u32::try_from(object.ready()?).unwrap_or(0))
    }
}

fn lock(object: &Mutex<Strong<dyn IReservation>>) -> MutexGuard<'_, Strong<dyn IReservation>> {
    object.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reserved {
    /// Reserves the same from another service, and logs its refusal.
    pub(super) fn make_again(&self, service: &Strong<dyn IHeapAllocator>) {
        let Some(object) = self.object.get() else { return };
        match service.reserve(&self.request) {
            Ok(new) => {
                let before = std::mem::replace(&mut *lock(object), new);
                drop(before);
            }
            Err(status) => {
                let ReservationRequest { size, count, heapName } = &self.request;
                log::warn!(
                    "the new service refuses the reservation of {count} buffers of {size} bytes of \
                     heap {heapName}: {status}"
                );
            }
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").finish_non_exhaustive()
    }
}
