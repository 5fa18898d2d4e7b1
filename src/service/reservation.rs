// SPDX-License-Identifier: Apache-2.0
//! The binder object of a client's reservation. When the client drops its last reference, the
//! transport drops the object, and the reservation ends.

use crate::allocator::ReservedBuffers;
use anion_ipc::{Result, Strong, impl_interface, new_binder};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IReservation::{BnReservation, IReservation};

pub(super) struct ReservationService(ReservedBuffers);

impl ReservationService {
    pub(super) fn binder(reserved: ReservedBuffers) -> Strong<dyn IReservation> {
        new_binder!(BnReservation, Self(reserved))
    }
}

impl_interface!(ReservationService);

impl IReservation for ReservationService {
    fn ready(&self) -> Result<i32> {
        Ok(i32::try_from(self.0.ready()).unwrap_or(i32::MAX))
    }

    fn release(&self) -> Result<()> {
        self.0.release();
        Ok(())
    }
}
