// SPDX-License-Identifier: Apache-2.0
//! Durations of allocations, in the interface's classes of powers of two.

use serde::Serialize;
use std::time::Duration;

/// Counts of calls by class: class 0 is below 1 µs, class n below 2^n µs; the last class has no
/// upper bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Latency(pub(crate) Vec<i64>);

impl Latency {
    /// Returns the counts of the calls since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.0.iter().chain(std::iter::repeat(&0));
        Self(self.0.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect())
    }

    /// Returns the class within which `percent` of the calls ended; `None` without calls.
    fn class(&self, percent: i128) -> Option<usize> {
        let total: i128 = self.0.iter().copied().map(i128::from).sum();
        let rank = (total * percent).div_euclid(100) + i128::from((total * percent).rem_euclid(100) > 0);
        let mut counted = 0;
        self.0.iter().position(|count| {
            counted += i128::from(*count);
            counted > 0 && counted >= rank
        })
    }

    /// Returns the microseconds below which `percent` of the calls ended; `None` without calls, or
    /// without such a bound.
    pub(crate) fn below_us(&self, percent: u8) -> Option<u64> {
        let class = self.class(percent.into()).filter(|class| class + 1 < self.0.len())?;
        1_u64.checked_shl(u32::try_from(class).ok()?)
    }

    /// Returns the same bound as text: `<16µs`, or `≥4s` if the last class has to be counted to
    /// reach `percent`.
    pub(crate) fn bound(&self, percent: u8) -> String {
        let show = |micros| format!("{:.0?}", Duration::from_micros(micros));
        match (self.class(percent.into()), self.below_us(percent)) {
            (None, _) => "-".to_owned(),
            (_, Some(micros)) => format!("<{}", show(micros)),
            (Some(class), None) => {
                let from =
                    u32::try_from(class.saturating_sub(1)).ok().and_then(|bits| 1_u64.checked_shl(bits));
                format!("≥{}", show(from.unwrap_or(u64::MAX)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(classes: &[(usize, i64)]) -> Latency {
        let mut counts = vec![0; 24];
        for (class, count) in classes {
            counts[*class] = *count;
        }
        Latency(counts)
    }

    #[test]
    fn bounds_are_the_ends_of_classes() {
        let mostly_fast = latency(&[(4, 98), (10, 1), (23, 1)]);
        assert_eq!([50, 99, 100].map(|percent| mostly_fast.bound(percent)), ["<16µs", "<1ms", "≥4s"]);
        assert_eq!([50, 99, 100].map(|percent| mostly_fast.below_us(percent)), [Some(16), Some(1024), None]);
        assert_eq!(latency(&[(0, 1)]).bound(0), "<1µs");
    }

    #[test]
    fn without_calls_there_is_no_bound() {
        assert_eq!((latency(&[]).bound(99), latency(&[]).below_us(99)), ("-".to_owned(), None));
        assert_eq!(Latency(Vec::new()).bound(99), "-");
    }

    #[test]
    fn an_interval_has_its_own_calls_alone() {
        let (before, now) = (latency(&[(4, 90)]), latency(&[(4, 90), (12, 1)]));
        assert_eq!(now.since(&before), latency(&[(12, 1)]));
        assert_eq!(now.since(&Latency(Vec::new())), now);
    }
}
