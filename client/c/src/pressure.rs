// SPDX-License-Identifier: Apache-2.0
//! Memory pressure.

use crate::connection::{anion_client, client_of};
use crate::error::{anion_error, attempt, boxed, given, make};
use ::anion_client::PressureWatch;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

/// No memory pressure is known.
pub const ANION_PRESSURE_NONE: u32 = 0;
/// The service returns a part of its pooled memory to the kernel.
pub const ANION_PRESSURE_MODERATE: u32 = 1;
/// The service pools no memory.
pub const ANION_PRESSURE_CRITICAL: u32 = 2;

/// Receives the level of memory pressure.
pub struct anion_pressure(PressureWatch);

/// Returns the present level: one of ANION_PRESSURE_.
#[unsafe(no_mangle)]
pub extern "C" fn anion_get_pressure(
    client: Option<&anion_client>,
    error: Option<&mut MaybeUninit<*mut anion_error>>,
) -> c_int {
    attempt(error, || Ok(client_of(client)?.pressure()? as c_int))
}

/// Registers for pressure levels, over a connection and on a thread of its own; the first one is
/// the present level. When the service restarts, it connects to the new one. One uid may have four.
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

/// Returns a descriptor that is readable while there is a level to dispatch. It belongs to the
/// object: use it only with poll(2). -EINVAL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn anion_pressure_fd(pressure: Option<&anion_pressure>) -> c_int {
    pressure.map_or(-libc::EINVAL, |pressure| pressure.0.as_fd().as_raw_fd())
}

/// Calls `callback` on this thread with the last level and `data`, if a level arrived since the
/// last dispatch. It may skip levels in between. It does not wait. The callback may call the
/// library, and must return: it must not throw an exception or call longjmp.
///
/// Returns 1 if it called `callback`, else 0. Fails with -ECHILD in a child of fork.
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

/// Ends the registration.
#[unsafe(no_mangle)]
pub extern "C" fn anion_pressure_free(pressure: Option<Box<anion_pressure>>) {
    attempt(None, || {
        drop(pressure);
        Ok(0)
    });
}
