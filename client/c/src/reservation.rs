// SPDX-License-Identifier: Apache-2.0
//! Reservations.

use crate::connection::{anion_client, client_of};
use crate::error::{anion_error, attempt, boxed, given, make};
use crate::sys::Text;
use ::anion_client::Reservation;
use std::ffi::c_int;
use std::mem::MaybeUninit;

/// Buffers that the service reserves.
pub struct anion_reservation(Reservation);

/// Reserves `count` buffers of `bytes` bytes of the heap with this name or alias. The service
/// preallocates them, zeroed, with their pages present, and charges them to the caller's uid.
/// Requests for the same size draw them, and after their release the service makes the next ones.
/// The function does not wait until they are made.
///
/// Fails with the service's refusal.
#[unsafe(no_mangle)]
pub extern "C" fn anion_reserve(
    client: Option<&anion_client>,
    heap: Text<'_>,
    bytes: u64,
    count: u32,
    reservation: Option<&mut MaybeUninit<*mut anion_reservation>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(reservation, "reservation", error, || {
        let heap = given(heap.get("heap")?, "heap")?;
        Ok(boxed(anion_reservation(client_of(client)?.reserve(heap, bytes, count)?)))
    })
}

/// Returns how many of its buffers are ready now, without those that were drawn and not yet
/// released.
///
/// Fails with -ENOTCONN if the service that made it has ended, and the reservation with it.
#[unsafe(no_mangle)]
pub extern "C" fn anion_reservation_ready(
    reservation: Option<&anion_reservation>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    attempt(error, || {
        let ready = given(reservation, "reservation")?.0.ready()?;
        Ok(c_int::try_from(ready).unwrap_or(c_int::MAX))
    })
}

/// Releases the buffers that were not drawn. Drawn buffers stay with their holders.
#[unsafe(no_mangle)]
pub extern "C" fn anion_reservation_free(reservation: Option<Box<anion_reservation>>) {
    attempt(None, || {
        drop(reservation);
        Ok(0)
    });
}
