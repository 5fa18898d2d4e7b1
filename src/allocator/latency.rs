// SPDX-License-Identifier: Apache-2.0
//! Durations of allocations: counts by powers of two, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Classes of durations. Class 0 is below a microsecond, class n at least 2^(n-1) and less than 2^n
/// microseconds. The last class begins at 4 s and has no end.
pub const LATENCY_CLASSES: usize = 24;

/// Counts of calls by duration.
#[derive(Debug, Default)]
pub(super) struct Latency([AtomicU64; LATENCY_CLASSES]);

impl Latency {
    /// Counts one call.
    pub(super) fn record(&self, took: Duration) {
        self.0[class(took)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> LatencyCounts {
        LatencyCounts(std::array::from_fn(|class| self.0[class].load(Ordering::Relaxed)))
    }
}

fn class(took: Duration) -> usize {
    let bits = u128::BITS - took.as_micros().leading_zeros();
    (bits as usize).min(LATENCY_CLASSES - 1)
}

/// Counts of calls by duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LatencyCounts(pub [u64; LATENCY_CLASSES]);

impl LatencyCounts {
    /// Returns the number of all calls.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the microseconds below which `percent` of all calls (0 to 100) stayed: the end of
    /// their class. `None` without calls; [`u64::MAX`] for the last class.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let total = u128::from(self.total());
        let rank = (total * u128::from(percent)).div_ceil(100).max(1);
        let mut counted = 0;
        let class = self.0.iter().position(|count| {
            counted += u128::from(*count);
            counted >= rank
        })?;
        Some(if class == LATENCY_CLASSES - 1 { u64::MAX } else { 1 << class })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_powers_of_two_of_microseconds() {
        let of = |micros| class(Duration::from_micros(micros));
        assert_eq!(class(Duration::from_nanos(999)), 0);
        assert_eq!([1, 2, 3, 4, 1023, 1024].map(of), [1, 2, 2, 3, 10, 11]);
        assert_eq!([(1 << 22) - 1, 1 << 22, u64::MAX].map(of), [22, 23, 23]);
        assert_eq!(class(Duration::MAX), LATENCY_CLASSES - 1);
    }

    #[test]
    fn percentiles_are_the_ends_of_classes() {
        let latency = Latency::default();
        assert_eq!(latency.counts().percentile(50), None);
        for micros in [0, 3, 3, 9] {
            latency.record(Duration::from_micros(micros));
        }
        let counts = latency.counts();
        assert_eq!(counts.total(), 4);
        assert_eq!(
            [0, 25, 50, 75, 76, 100].map(|percent| counts.percentile(percent)),
            [Some(1), Some(1), Some(4), Some(4), Some(16), Some(16)]
        );
        latency.record(Duration::from_secs(60));
        assert_eq!(latency.counts().percentile(100), Some(u64::MAX));
    }
}
