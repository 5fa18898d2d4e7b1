// SPDX-License-Identifier: Apache-2.0
//! How scarce memory is.

use crate::connection::{anion_client, client_of};
use crate::error::{anion_error, attempt, boxed, given, make};
use ::anion_client::PressureWatch;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

/// Nothing is known to be scarce.
pub const ANION_PRESSURE_NONE: u32 = 0;
/// The service gives back what it keeps for reuse, in part.
pub const ANION_PRESSURE_MODERATE: u32 = 1;
/// The service keeps nothing for reuse.
pub const ANION_PRESSURE_CRITICAL: u32 = 2;

/// Hears of the pressure level.
pub struct anion_pressure(PressureWatch);

/// Returns the level now: one of ANION_PRESSURE_.
#[unsafe(no_mangle)]
pub extern "C" fn anion_get_pressure(
    client: Option<&anion_client>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    attempt(error, || Ok(client_of(client)?.pressure()? as c_int))
}

/// Begins to listen, over a connection and on a thread of its own: the level now is the first that
/// is told. When the service restarts, it listens to the new one. One uid may have four.
///
/// Fails with the service's refusal; -ENOTCONN if no service answers.
#[unsafe(no_mangle)]
pub extern "C" fn anion_watch_pressure(
    client: Option<&anion_client>,
    pressure: Option<&mut MaybeUninit<*mut anion_pressure>>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    make(pressure, "pressure", error, || Ok(boxed(anion_pressure(client_of(client)?.watch_pressure()?))))
}

/// Returns a descriptor that is readable while there is something to dispatch. It stays the
/// object's: poll(2) it, and do nothing else with it. -EINVAL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn anion_pressure_fd(pressure: Option<&anion_pressure>) -> c_int {
    pressure.map_or(-libc::EINVAL, |pressure| pressure.0.as_fd().as_raw_fd())
}

/// Calls `callback` on this thread with the last level that was told since the last dispatch, and
/// `data`, if any was. Levels in between may be missed. Does not wait. The callback may call the
/// library, and must return: it throws no exception and does not longjmp.
///
/// Returns 1 if it called, else 0. Fails with -ECHILD in a child of fork.
#[unsafe(no_mangle)]
pub extern "C" fn anion_pressure_dispatch(
    pressure: Option<&anion_pressure>,
    callback: Option<extern "C" fn(level: u32, data: *mut c_void)>,
    data: *mut c_void,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    attempt(error, || {
        let callback = given(callback, "callback")?;
        let Some(level) = given(pressure, "pressure")?.0.next()? else { return Ok(0) };
        callback(level as u32, data);
        Ok(1)
    })
}

/// Ends listening.
#[unsafe(no_mangle)]
pub extern "C" fn anion_pressure_free(pressure: Option<Box<anion_pressure>>) {
    attempt(None, || {
        drop(pressure);
        Ok(0)
    });
}
