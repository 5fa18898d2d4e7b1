// SPDX-License-Identifier: Apache-2.0
//! Returns the time since boot.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Returns the time since the machine booted, including sleep (`CLOCK_BOOTTIME`). It never
/// decreases before a reboot.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
