// SPDX-License-Identifier: Apache-2.0
//! Detects that the machine has little memory left. The kernel's stall triggers fire when tasks
//! wait already. If a process allocates quickly or there is no swap, that is too late, so while
//! memory is pooled the service reads the available memory.

use super::PressureLevel;
use std::io;
use std::time::Duration;

/// Less than this part of the memory is moderate pressure.
const MODERATE_PART: u64 = 32;
/// Less than this part is critical.
const CRITICAL_PART: u64 = 64;
/// Below this part of the memory the service reads it more often.
const ATTENTIVE_PART: u64 = 8;
/// Pause between looks.
const CALM_PAUSE: Duration = Duration::from_secs(1);
/// Pause between looks when there is not much left.
const ATTENTIVE_PAUSE: Duration = Duration::from_millis(100);

/// Looks at the memory that is available, now and then.
pub(in crate::allocator) struct Availability {
    total_bytes: u64,
    read: fn() -> io::Result<u64>,
    next: Duration,
}

impl Availability {
    /// Watches a machine with so much memory; `read` tells how many bytes are available.
    pub(in crate::allocator) fn new(total_bytes: u64, read: fn() -> io::Result<u64>) -> Self {
        Self { total_bytes, read, next: Duration::ZERO }
    }
    /// Returns how scarce memory is, if it is time for a look, and how long until the next.
    pub(in crate::allocator) fn look(&mut self, now: Duration) -> (PressureLevel, Duration) {
        if now < self.next {
            return (PressureLevel::None, self.next - now);
        }
        // Where it cannot be read the stall triggers alone speak.
        let available = (self.read)().unwrap_or(u64::MAX);
        let is_below = |part| available < self.total_bytes / part;
        let (level, pause) = if is_below(CRITICAL_PART) {
            (PressureLevel::Critical, CALM_PAUSE)
        } else if is_below(MODERATE_PART) {
            // What is given back needs a moment to show.
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
