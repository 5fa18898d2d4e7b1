// SPDX-License-Identifier: Apache-2.0
//! Reservations.

use super::connection::Client;
use super::error::Error;
use super::process::OfProcess;
use anion_ipc::Strong;
use std::fmt;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IReservation::IReservation;
use vendor_anion_allocator::aidl::vendor::anion::allocator::ReservationRequest::ReservationRequest;

/// Buffers that the service charges to this process's uid and preallocates, until this is dropped
/// or the service ends.
pub struct Reservation(OfProcess<Strong<dyn IReservation>>);

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
        Ok(Reservation(OfProcess::new(self.call(|service| service.reserve(&request))?)))
    }
}

impl Reservation {
    /// Returns how many of its buffers are ready now, without those that are in use.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if the service that made it has ended; [`Error::Inherited`] in a
    /// child of fork(2).
    pub fn ready(&self) -> Result<u32, Error> {
        let object = self.0.get().ok_or(Error::Inherited("reservation"))?;
        Ok(u32::try_from(object.ready()?).unwrap_or(0))
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").finish_non_exhaustive()
    }
}
