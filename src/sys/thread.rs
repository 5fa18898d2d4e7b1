// SPDX-License-Identifier: Apache-2.0
//! The calling thread.

use std::io;

/// Lowest priority of ordinary threads.
const NICE: libc::c_int = 19;

/// Makes the calling thread yield to all others, as ION's deferred-free thread does.
///
/// # Errors
/// As setpriority(2); lowering is always permitted.
pub fn lower_priority() -> io::Result<()> {
    // SAFETY: setpriority takes three integers and touches no memory; 0 names the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
