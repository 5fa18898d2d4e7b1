// SPDX-License-Identifier: Apache-2.0
//! Time since boot.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Returns the time since the machine booted, sleep included (`CLOCK_BOOTTIME`): it never runs
/// backwards before a reboot.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
