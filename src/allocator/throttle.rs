// SPDX-License-Identifier: Apache-2.0
//! Log lines that a client can provoke, or that a lasting failure would repeat: at most one a
//! second for each cause.

#[cfg(not(soong))]
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Least time between two lines about one cause.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts what it does not log, and says so with the next line.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Logs `message` as a warning, unless one was logged less than a second ago. For the
    /// threads that accept connections, of which a device has none.
    #[cfg(not(soong))]
    pub fn warn(&mut self, message: impl Display) {
        match self.admit(Instant::now()) {
            Some(0) => log::warn!("{message}"),
            Some(suppressed) => log::warn!("{message} ({suppressed} more like it since the last line)"),
            None => {}
        }
    }

    /// Returns whether a line is due at `now`, and how many were left out before it.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_and_the_rest_is_counted() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let admitted = [0, 10, 999, 1000, 1500, 2000].map(|millis| throttle.admit(at(millis)));
        assert_eq!(admitted, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
