// SPDX-License-Identifier: Apache-2.0
//! Detects that the machine has little memory left. The kernel's stall triggers fire when tasks
//! already wait. If a process allocates quickly or there is no swap, that is too late. So the
//! service reads the available memory while memory is pooled.

use super::PressureLevel;
use std::io;
use std::time::Duration;

/// Available memory below this part of the total is moderate pressure.
const MODERATE_PART: u64 = 32;
/// Available memory below this part of the total is critical pressure.
const CRITICAL_PART: u64 = 64;
/// Below this part of the total, the service reads the available memory more often.
const ATTENTIVE_PART: u64 = 8;
/// Pause between readings.
const CALM_PAUSE: Duration = Duration::from_secs(1);
/// Pause between readings when little memory is left.
const ATTENTIVE_PAUSE: Duration = Duration::from_millis(100);

/// Reads the available memory at intervals.
pub(in crate::allocator) struct Availability {
    total_bytes: u64,
    read: fn() -> io::Result<u64>,
    next: Duration,
}

impl Availability {
    /// Returns a reader for a machine with `total_bytes` bytes; `read` returns the available bytes.
    pub(in crate::allocator) fn new(total_bytes: u64, read: fn() -> io::Result<u64>) -> Self {
        Self { total_bytes, read, next: Duration::ZERO }
    }
    /// Returns the level of pressure, if a reading is due, and the time until the next one.
    pub(in crate::allocator) fn look(&mut self, now: Duration) -> (PressureLevel, Duration) {
        if now < self.next {
            return (PressureLevel::None, self.next - now);
        }
        // Without a reading, only the stall triggers report pressure.
        let available = (self.read)().unwrap_or(u64::MAX);
        let is_below = |part| available < self.total_bytes / part;
        let (level, pause) = if is_below(CRITICAL_PART) {
            (PressureLevel::Critical, CALM_PAUSE)
        } else if is_below(MODERATE_PART) {
            // Returned memory needs a moment to become available.
            (PressureLevel::Moderate, CALM_PAUSE)
        } else if is_below(ATTENTIVE_PART) {
            (PressureLevel::None, ATTENTIVE_PAUSE)
        } else {
            (PressureLevel::None, CALM_PAUSE)
        };
        self.next = now + pause;
        (level, pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn little_memory_left_is_pressure_before_anyone_waits() {
        let look = |read| Availability::new(6400, read).look(seconds(5)).0;
        assert_eq!(look(|| Ok(200)), PressureLevel::None);
        assert_eq!(look(|| Ok(199)), PressureLevel::Moderate);
        assert_eq!(look(|| Ok(100)), PressureLevel::Moderate);
        assert_eq!(look(|| Ok(99)), PressureLevel::Critical);
        assert_eq!(look(|| Err(io::ErrorKind::NotFound.into())), PressureLevel::None);
    }

    #[test]
    fn looks_are_more_frequent_when_there_is_not_much_left() {
        let mut plenty = Availability::new(6400, || Ok(6000));
        assert_eq!(plenty.look(seconds(5)), (PressureLevel::None, CALM_PAUSE));
        let mut less = Availability::new(6400, || Ok(700));
        assert_eq!(less.look(seconds(5)), (PressureLevel::None, ATTENTIVE_PAUSE));
    }

    #[test]
    fn between_two_looks_nothing_is_read() {
        let mut availability = Availability::new(6400, || Ok(0));
        assert_eq!(availability.look(seconds(5)).0, PressureLevel::Critical);
        let soon = seconds(5) + CALM_PAUSE / 4;
        assert_eq!(availability.look(soon), (PressureLevel::None, CALM_PAUSE * 3 / 4));
        assert_eq!(availability.look(seconds(5) + CALM_PAUSE).0, PressureLevel::Critical);
    }
}
