// SPDX-License-Identifier: Apache-2.0
//! Limits log lines that a client can cause, or that a lasting failure would repeat: at most one a
//! second for each cause.

#[cfg(not(soong))]
use std::collections::HashMap;
#[cfg(not(soong))]
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Minimum time between two lines about one cause.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts the lines that it suppresses, and logs the number with the next line.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Logs `message` as a warning, unless one was logged less than a second ago. Threads that
    /// accept connections use it; a service on a device has none.
    #[cfg(not(soong))]
    pub fn warn(&mut self, message: impl Display) {
        match self.admit(Instant::now()) {
            Some(0) => log::warn!("{message}"),
            Some(suppressed) => log::warn!("{message} ({suppressed} more like it since the last line)"),
            None => {}
        }
    }

    /// Returns whether a line at `now` is suppressed.
    #[cfg(not(soong))]
    fn is_closed(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.duration_since(last) < INTERVAL)
    }

    /// Returns the number of lines suppressed before if a line is due at `now`, else `None`.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// A [`Throttle`] for each client that causes lines, and one for all further clients if they are
/// many.
#[cfg(not(soong))]
#[derive(Debug, Default)]
pub struct Throttles {
    of_uids: HashMap<u32, Throttle>,
    others: Throttle,
}

#[cfg(not(soong))]
impl Throttles {
    /// Most clients that are counted separately.
    const MAX_UIDS: usize = 64;

    /// Logs `message`, which `uid` caused, as a warning, unless one of its lines was logged less
    /// than a second ago.
    pub fn warn(&mut self, uid: u32, message: impl Display) {
        self.of(uid, Instant::now()).warn(message);
    }

    /// Returns as [`Throttle::admit`] for a line that `uid` caused.
    pub fn admit(&mut self, uid: u32, now: Instant) -> Option<u64> {
        self.of(uid, now).admit(now)
    }

    fn of(&mut self, uid: u32, now: Instant) -> &mut Throttle {
        let is_new = !self.of_uids.contains_key(&uid);
        if is_new && self.of_uids.len() >= Self::MAX_UIDS {
            self.of_uids.retain(|_, throttle| throttle.is_closed(now));
        }
        if is_new && self.of_uids.len() >= Self::MAX_UIDS {
            return &mut self.others;
        }
        self.of_uids.entry(uid).or_default()
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

    #[cfg(not(soong))]
    #[test]
    fn each_client_has_lines_of_its_own_up_to_a_number() {
        let (mut throttles, start) = (Throttles::default(), Instant::now());
        let mut admitted = |uid, at| throttles.of(uid, at).admit(at);
        let all = u32::try_from(Throttles::MAX_UIDS).expect("small");
        assert!((0..all).all(|uid| admitted(uid, start) == Some(0)));
        assert_eq!(admitted(0, start), None);
        assert_eq!(admitted(all, start), Some(0));
        assert_eq!(admitted(all + 1, start), None, "the others share one");
        assert_eq!(admitted(all + 1, start + INTERVAL), Some(0), "those that were silent make room");
    }
}
