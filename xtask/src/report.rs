// SPDX-License-Identifier: Apache-2.0
//! Reports the results of the test command's steps.

use std::cmp::Reverse;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::tally::Tally;

/// The result of a step.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) tally: Tally,
    pub(crate) is_ok: bool,
}

impl Row {
    /// Returns its line in a table of steps that took `all` together.
    fn line(&self, all: Duration) -> String {
        let share = 100.0 * self.took.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE);
        let word = if self.is_ok { "ok" } else { "FAILED" };
        let tests = if self.tally == Tally::default() { String::new() } else { self.tally.to_string() };
        let line =
            format!("{:<13} {word:<7}{:>8.1} s{share:>5.0} %   {tests}", self.name, self.took.as_secs_f64());
        line.trim_end().to_owned()
    }
}

/// Runs a step, prints its result and adds it to the rows. Steps can run at the same time.
///
/// # Errors
/// Those of the step.
pub(crate) fn run_step(
    rows: &Mutex<Vec<Row>>,
    name: &'static str,
    run: impl FnOnce(&mut Tally) -> Result<()>,
) -> Result<()> {
    let start = Instant::now();
    let mut tally = Tally::default();
    let result = run(&mut tally);
    if result.is_err() && tally.failed == 0 {
        // The failure belongs to no single test, and must count in the sum.
        tally += Tally::one(false);
    }
    let row = Row { name, took: start.elapsed(), tally, is_ok: result.is_ok() };
    println!("==> {row}");
    rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    result
}

/// The report at the end of the step.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_ok { "ok" } else { "FAILED" };
        write!(f, "{} {word} in {:.1} s", self.name, self.took.as_secs_f64())?;
        if self.tally != Tally::default() {
            write!(f, ": {}", self.tally)?;
        }
        Ok(())
    }
}

/// Returns a table of the steps, the longest first, of which some ran at the same time; then the
/// total time; then the sum of the tests on the last line.
pub(crate) fn summary(mut rows: Vec<Row>, all: &Spent) -> String {
    let mut sum = Tally::default();
    rows.sort_by_key(|row| Reverse(row.took));
    let mut text = format!("{:<13} {:<7}{:>10}{:>7}   tests\n", "step", "result", "time", "share");
    for row in rows {
        text += &format!("{}\n", row.line(all.time));
        sum += row.tally;
    }
    text + &format!("{:<21}{all}\n\n{sum}", "all")
}

/// The time of a run.
#[derive(Debug)]
pub(crate) struct Spent {
    time: Duration,
    /// Processor time of the programs that the run started.
    processor: Duration,
    /// The number of processors.
    processors: usize,
}

impl Spent {
    /// Returns the time since `start`, at which this program had started no other.
    pub(crate) fn since(start: Instant) -> Self {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
        let micros = usage.map_or(0, |usage| (usage.user_time() + usage.system_time()).num_microseconds());
        Self {
            time: start.elapsed(),
            processor: Duration::from_micros(micros.unsigned_abs()),
            processors: available_parallelism().map_or(1, usize::from),
        }
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [time, processor] = [self.time, self.processor].map(|spent| spent.as_secs_f64());
        let busy = 100.0 * processor / (time * self.processors as f64).max(f64::MIN_POSITIVE);
        write!(f, "{time:>8.1} s; the {} processors were busy for {busy:.0} % of this time", self.processors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(millis: u64) -> Spent {
        let time = Duration::from_millis(millis);
        Spent { time, processor: time * 3 / 2, processors: 2 }
    }

    fn row(name: &'static str, millis: u64, tally: Tally, is_ok: bool) -> Row {
        Row { name, took: Duration::from_millis(millis), tally, is_ok }
    }

    #[test]
    fn a_row_tells_result_time_and_counts() {
        assert_eq!(row("fmt", 1250, Tally::default(), true).to_string(), "fmt ok in 1.2 s");
        let counted = row("tests", 90_000, Tally { passed: 3, failed: 1 }, false);
        assert_eq!(counted.to_string(), "tests FAILED in 90.0 s: 3 passed, 1 failed");
    }

    #[test]
    fn the_slowest_step_comes_first_and_the_sum_is_alone_on_the_last_line() {
        let rows = vec![
            row("fmt", 10_000, Tally::default(), true),
            row("android-check", 30_000, Tally { passed: 3, failed: 0 }, true),
            row("soak", 0, Tally { passed: 0, failed: 1 }, false),
        ];
        assert_eq!(
            summary(rows, &spent(40_000)),
            "step          result       time  share   tests\n\
             android-check ok         30.0 s   75 %   3 passed, 0 failed\n\
             fmt           ok         10.0 s   25 %\n\
             soak          FAILED      0.0 s    0 %   0 passed, 1 failed\n\
             all                      40.0 s; the 2 processors were busy for 75 % of this time\n\n\
             3 passed, 1 failed"
        );
    }

    #[test]
    fn a_step_that_fails_without_a_test_counts_as_one() {
        let rows = Mutex::default();
        run_step(&rows, "fmt", |_| anyhow::bail!("not formatted")).expect_err("it failed");
        run_step(&rows, "tests", |tally| {
            *tally += Tally { passed: 2, failed: 1 };
            anyhow::bail!("one failed")
        })
        .expect_err("it failed");
        let rows = rows.into_inner().expect("not poisoned");
        assert!(summary(rows, &spent(1)).ends_with("\n\n2 passed, 2 failed"));
    }

    #[test]
    fn steps_that_took_no_time_have_no_share() {
        assert!(summary(vec![row("fmt", 0, Tally::default(), true)], &spent(0)).contains("    0 %\n"));
    }
}
