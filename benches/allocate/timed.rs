// SPDX-License-Identifier: Apache-2.0
//! Times variants in turn, so that a noisy machine disturbs them equally.

use anyhow::Context;
use hdrhistogram::Histogram;
use std::any::Any;
use std::time::{Duration, Instant};

/// A floor whose median moved by more than this between the halves of a run is not used.
const STEADY: f64 = 0.20;

/// A value that is dropped after the time was taken.
pub(crate) type Held = Box<dyn Any>;

/// One timed variant.
pub(crate) struct Timed<'a> {
    pub(crate) name: String,
    rounds: usize,
    work: Box<dyn Fn() -> anyhow::Result<Held> + 'a>,
    /// Nanoseconds, in the first and second half of the run.
    halves: [Histogram<u64>; 2],
}

impl<'a> Timed<'a> {
    /// Prepares to time `work`. The time excludes the drop of its result.
    pub(crate) fn new<T: 'static>(
        name: impl Into<String>,
        rounds: usize,
        work: impl Fn() -> anyhow::Result<T> + 'a,
    ) -> anyhow::Result<Self> {
        let halves = [Histogram::new(3)?, Histogram::new(3)?];
        let work = Box::new(move || Ok(Box::new(work()?) as Held));
        Ok(Self { name: name.into(), rounds, work, halves })
    }

    /// Returns the time in µs that this share of all runs did not exceed.
    pub(crate) fn micros(&self, share: f64) -> f64 {
        let mut all = self.halves[0].clone();
        // The halves have the same parameters, so adding them cannot fail.
        let _ = all.add(&self.halves[1]);
        in_micros(all.value_at_quantile(share))
    }

    /// Returns the median in µs.
    pub(crate) fn p50(&self) -> f64 {
        self.micros(0.5)
    }

    /// Returns `value` of this and of `floor`; `None` if the floor moved during the run.
    pub(crate) fn beside(&self, floor: &Self, value: impl Fn(f64, f64) -> f64) -> Option<f64> {
        let [first, second] = [0, 1].map(|half: usize| in_micros(floor.halves[half].value_at_quantile(0.5)));
        let is_steady = (first - second).abs() / first.min(second) <= STEADY;
        is_steady.then(|| value(self.p50(), floor.p50()))
    }

    /// Returns the median as a multiple of the floor's; `None` if the floor moved.
    pub(crate) fn ratio_to(&self, floor: &Self) -> Option<f64> {
        self.beside(floor, |own, floor| own / floor)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time that is shown")]
fn in_micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

/// Runs all variants in turn; calls `before` before each, with the numbers of round and turn.
pub(crate) fn run(
    timed: &mut [Timed<'_>],
    mut before: impl FnMut(usize, usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let rounds = timed.iter().map(|one| one.rounds).max().context("nothing to time")?;
    for round in 0..rounds {
        for (turn, one) in timed.iter_mut().filter(|one| round < one.rounds).enumerate() {
            before(round, turn)?;
            let start = Instant::now();
            let held = (one.work)()?;
            let elapsed: Duration = start.elapsed();
            drop(held);
            let half = usize::from(round * 2 >= one.rounds);
            one.halves[half].record(u64::try_from(elapsed.as_nanos())?)?;
        }
    }
    Ok(())
}

/// Returns a ratio as text, or that the floor moved.
pub(crate) fn text(ratio: Option<f64>) -> String {
    ratio.map_or("moved".to_owned(), |ratio| format!("{ratio:.2}"))
}
