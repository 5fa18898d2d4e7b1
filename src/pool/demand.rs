// SPDX-License-Identifier: Apache-2.0
//! Sizes that clients request repeatedly, and the number of their buffers that are worth
//! preallocating.
//!
//! Time is divided into periods. After two requests missed buffers of a size, its target is the
//! largest number of buffers that were missing in this period or the one before. So a size that is
//! requested once is not kept, and a size that is no longer requested is dropped after two periods.
//! A buffer was missing if the trust domain's own pooled memory did not serve it, even if a
//! preallocated one did: otherwise a target would vanish as soon as it is met.

use crate::units::BackedBytes;
use std::cmp::Reverse;
use std::time::Duration;

/// Seconds in one period. Two periods are shorter than the time after which unused memory is
/// returned, so that a size that is no longer requested is not preallocated again.
const PERIOD_SECONDS: u64 = 10;
/// Requests in two periods from which a size counts as requested repeatedly.
const REPEATED: u64 = 2;

/// Limit of preallocated memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemandLimits {
    /// Most sizes with a record: a client can request any number of sizes.
    pub sizes: usize,
    /// Most bytes of all targets.
    pub bytes: u64,
    /// Most buffers of all targets.
    pub buffers: usize,
}

/// The number of preallocated buffers of one size that the pool should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The size.
    pub bytes: BackedBytes,
    /// The number of buffers.
    pub buffers: usize,
}

/// Missing buffers, by size. The number of sizes is limited.
#[derive(Debug)]
pub struct Demand {
    limits: DemandLimits,
    sizes: Vec<Followed>,
}

#[derive(Debug)]
struct Followed {
    bytes: BackedBytes,
    period: u64,
    current: Missing,
    previous: Missing,
}

/// Missing buffers of one period.
#[derive(Debug, Clone, Copy, Default)]
struct Missing {
    requests: u64,
    buffers: u64,
}

impl Followed {
    /// Returns the missing buffers of `period` and of the period before.
    fn at(&self, period: u64) -> (Missing, Missing) {
        match period.saturating_sub(self.period) {
            0 => (self.current, self.previous),
            1 => (Missing::default(), self.current),
            _ => (Missing::default(), Missing::default()),
        }
    }

    fn requests(&self, period: u64) -> u64 {
        let (current, previous) = self.at(period);
        current.requests + previous.requests
    }

    fn buffers(&self, period: u64) -> u64 {
        let (current, previous) = self.at(period);
        current.buffers.max(previous.buffers)
    }
}

impl Demand {
    /// Returns the demand before any request.
    pub fn new(limits: DemandLimits) -> Self {
        Self { limits, sizes: Vec::new() }
    }

    /// Records that a request missed `buffers` buffers of this size at time `now` (since boot).
    pub fn missed(&mut self, bytes: BackedBytes, buffers: usize, now: Duration) {
        let period = period(now);
        let at = match self.sizes.iter().position(|size| size.bytes == bytes) {
            Some(at) => at,
            None => match self.admit(bytes, period) {
                Some(at) => at,
                None => return,
            },
        };
        let size = &mut self.sizes[at];
        (size.current, size.previous) = size.at(period);
        size.period = size.period.max(period);
        size.current.requests += 1;
        size.current.buffers = size.current.buffers.saturating_add(buffers as u64);
    }

    /// Adds a size. If there are too many, it replaces the least requested one.
    fn admit(&mut self, bytes: BackedBytes, period: u64) -> Option<usize> {
        let nothing = Missing::default();
        let new = Followed { bytes, period, current: nothing, previous: nothing };
        if self.sizes.len() < self.limits.sizes {
            self.sizes.push(new);
            return Some(self.sizes.len() - 1);
        }
        let sizes = self.sizes.iter().enumerate();
        let (least, _) = sizes.min_by_key(|(_, size)| (size.requests(period), size.period))?;
        self.sizes[least] = new;
        Some(least)
    }

    /// Returns the target sizes at time `now`, the most requested first, within the limits.
    pub fn targets(&self, now: Duration) -> Vec<Target> {
        let period = period(now);
        let mut repeated: Vec<_> =
            self.sizes.iter().filter(|size| size.requests(period) >= REPEATED).collect();
        repeated.sort_by_key(|size| (Reverse(size.requests(period)), size.bytes));
        let (mut bytes, mut left) = (self.limits.bytes, self.limits.buffers as u64);
        let within = |size: &Followed| {
            let fitting = size.buffers(period).min(left).min(bytes / size.bytes.get());
            left -= fitting;
            bytes -= fitting * size.bytes.get();
            Target { bytes: size.bytes, buffers: usize::try_from(fitting).unwrap_or(usize::MAX) }
        };
        repeated.into_iter().map(within).filter(|target| target.buffers > 0).collect()
    }

    /// Clears all records, because other processes need the memory.
    pub fn forget(&mut self) {
        self.sizes.clear();
    }
}

fn period(now: Duration) -> u64 {
    now.as_secs() / PERIOD_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::RequestedBytes;
    use proptest::prelude::*;

    const LIMITS: DemandLimits = DemandLimits { sizes: 4, bytes: 100, buffers: 6 };

    fn bytes(amount: u64) -> BackedBytes {
        RequestedBytes(i64::try_from(amount).expect("small")).round_up(1).expect("valid")
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn targets(demand: &Demand, seconds: u64) -> Vec<(u64, usize)> {
        demand.targets(at(seconds)).iter().map(|target| (target.bytes.get(), target.buffers)).collect()
    }

    #[test]
    fn one_request_is_no_demand_and_two_are() {
        let mut demand = Demand::new(LIMITS);
        demand.missed(bytes(10), 3, at(0));
        assert_eq!(targets(&demand, 0), []);
        demand.missed(bytes(10), 1, at(5));
        assert_eq!(targets(&demand, 5), [(10, 4)]);
    }

    #[test]
    fn demand_decays_to_nothing() {
        let mut demand = Demand::new(LIMITS);
        demand.missed(bytes(10), 2, at(9));
        demand.missed(bytes(10), 3, at(11));
        assert_eq!(targets(&demand, 19), [(10, 3)], "the most of one period");
        assert_eq!(targets(&demand, 20), [], "one request of two is forgotten");
        demand.missed(bytes(10), 1, at(20));
        assert_eq!(targets(&demand, 29), [(10, 3)]);
        assert_eq!(targets(&demand, 40), []);
    }

    #[test]
    fn all_targets_together_stay_within_the_limits() {
        let mut demand = Demand::new(LIMITS);
        for _ in 0..3 {
            demand.missed(bytes(30), 2, at(0));
        }
        for size in [40, 5, 200] {
            demand.missed(bytes(size), 9, at(0));
            demand.missed(bytes(size), 9, at(0));
        }
        assert_eq!(
            targets(&demand, 0),
            [(30, 3), (5, 2)],
            "40 does not fit any more, 200 never did, 5 twice"
        );
    }

    #[test]
    fn many_sizes_take_no_more_room_and_do_not_displace_what_is_asked_for() {
        let mut demand = Demand::new(LIMITS);
        for _ in 0..2 {
            demand.missed(bytes(7), 1, at(0));
        }
        for size in 100..10_000 {
            demand.missed(bytes(size), 1, at(1));
        }
        assert_eq!(demand.sizes.len(), LIMITS.sizes);
        assert_eq!(targets(&demand, 1), [(7, 2)]);
    }

    #[test]
    fn a_forgotten_size_has_to_be_requested_twice_again() {
        let mut demand = Demand::new(LIMITS);
        demand.missed(bytes(10), 1, at(0));
        demand.missed(bytes(10), 1, at(0));
        demand.forget();
        demand.missed(bytes(10), 1, at(0));
        assert_eq!(targets(&demand, 0), []);
    }

    proptest! {
        /// The model keeps all requests.
        #[test]
        fn every_sequence_agrees_with_a_list_of_all_requests(
            requests in prop::collection::vec((1u64..5, 1usize..6, 0u64..9), 0..60),
        ) {
            let (mut demand, mut model, mut now) = (Demand::new(LIMITS), Vec::new(), 0);
            for (size, buffers, pause) in requests {
                now += pause;
                demand.missed(bytes(size * 10), buffers, at(now));
                model.push((size * 10, buffers as u64, now / 10));
                let seen = |size: u64, period: u64| {
                    let same = model.iter().filter(move |(bytes, _, at)| (*bytes, *at) == (size, period));
                    (same.clone().count(), same.map(|(_, buffers, _)| buffers).sum::<u64>())
                };
                let mut wanted = Vec::new();
                for size in [10, 20, 30, 40] {
                    let before = (now / 10).checked_sub(1).map_or((0, 0), |period| seen(size, period));
                    let current = seen(size, now / 10);
                    if before.0 + current.0 >= 2 {
                        wanted.push((before.0 + current.0, size, before.1.max(current.1)));
                    }
                }
                wanted.sort_by_key(|(requests, size, _)| (Reverse(*requests), *size));
                let (mut expected, mut free_bytes, mut free_entries) = (Vec::new(), 100, 6);
                for (_, size, buffers) in wanted {
                    let mut buffers_made = 0;
                    while buffers_made < buffers && free_entries > 0 && size <= free_bytes {
                        buffers_made += 1;
                        free_entries -= 1;
                        free_bytes -= size;
                    }
                    if buffers_made > 0 {
                        expected.push((size, usize::try_from(buffers_made).expect("small")));
                    }
                }
                prop_assert_eq!(targets(&demand, now), expected);
            }
        }
    }
}
