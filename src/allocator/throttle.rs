// SPDX-License-Identifier: Apache-2.0
//! Log lines that a client can provoke, or that a lasting failure would repeat: at most one a
//! second for each cause.

#[cfg(not(soong))]
use std::collections::HashMap;
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

    /// Returns whether a line at `now` would be left out.
    #[cfg(not(soong))]
    fn is_closed(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.duration_since(last) < INTERVAL)
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

/// A [`Throttle`] for each of the clients that provoke lines, and one for all others while many do.
#[cfg(not(soong))]
#[derive(Debug, Default)]
pub struct Throttles {
    of_uids: HashMap<u32, Throttle>,
    others: Throttle,
}

#[cfg(not(soong))]
impl Throttles {
    /// Limit of the clients that are counted separately.
    const MAX_UIDS: usize = 64;

    /// Logs `message`, which `uid` provoked, as a warning, unless one of its lines was logged less
    /// than a second ago.
    pub fn warn(&mut self, uid: u32, message: impl Display) {
        self.of(uid, Instant::now()).warn(message);
    }

    /// Returns as [`Throttle::admit`] for a line that `uid` provoked.
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
