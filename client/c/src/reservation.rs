// SPDX-License-Identifier: Apache-2.0
//! Reservations.

use crate::connection::{anion_client, client_of};
use crate::error::{anion_error, attempt, boxed, given, make};
use crate::sys::Text;
use ::anion_client::Reservation;
use std::ffi::c_int;
use std::mem::MaybeUninit;

/// Buffers that the service holds ready.
pub struct anion_reservation(Reservation);

/// Has `count` buffers of `bytes` bytes of the heap with this name or alias held ready: made, with
/// their pages present, zero, and charged to the caller's uid. Requests for the same size draw
/// them, and when those are released, the next ones are made. Does not wait until they are made.
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

/// Returns how many of its buffers lie ready now: those that were drawn and not yet released do not
/// count.
///
/// Fails with -ENOTCONN if the service that it was made in is gone, and the reservation with it.
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

/// Gives back what was not drawn. Buffers that were drawn stay with their holders.
#[unsafe(no_mangle)]
pub extern "C" fn anion_reservation_free(reservation: Option<Box<anion_reservation>>) {
    attempt(None, || {
        drop(reservation);
        Ok(0)
    });
}
