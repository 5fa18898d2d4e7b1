// SPDX-License-Identifier: Apache-2.0
//! Evaluates the serial logs of guests.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::guest::{Course, Step};
use crate::tally::Tally;

/// The number of the kernel's messages before a panic that are part of the fault: an oops with its
/// registers, its trace and the list of modules.
const MESSAGES: usize = 60;

/// The observed progress of a guest's run.
#[derive(Debug)]
pub(super) struct Progress {
    /// The expected steps.
    pub(super) expected: Vec<&'static Step>,
    /// The present step, and its start.
    running: Option<(String, Instant)>,
    /// Summaries of the suite within the running step.
    summaries: Vec<Tally>,
    done: Vec<Outcome>,
    verdict: Option<String>,
    /// The kernel's last messages, at most [`MESSAGES`].
    messages: VecDeque<String>,
    panic: Option<String>,
}

#[derive(Debug)]
struct Outcome {
    name: String,
    /// The first fault, if any.
    fault: Option<String>,
    tests: Tally,
}

impl Progress {
    pub(super) fn of(course: &Course) -> Self {
        Self {
            expected: course.steps(),
            running: None,
            summaries: Vec::new(),
            done: Vec::new(),
            verdict: None,
            messages: VecDeque::new(),
            panic: None,
        }
    }

    /// Evaluates one line of the serial log. Returns a message for the user when a step has ended.
    pub(super) fn feed(&mut self, line: &str, now: Instant) -> Option<String> {
        if self.panic.is_none() && is_of_kernel(line) {
            if self.messages.len() == MESSAGES {
                self.messages.pop_front();
            }
            self.messages.push_back(line.trim().to_owned());
        }
        // A program may have left its last line incomplete, so a marker can be anywhere in a line.
        let after = |marker: &str| line.find(marker).map(|at| line[at + marker.len()..].trim());
        if let Some(name) = after("ANION-BEGIN ") {
            self.running = Some((name.to_owned(), now));
            self.summaries.clear();
        } else if let Some(rest) = after("ANION-STEP ") {
            return Some(self.end_step(rest, now));
        } else if let Some(verdict) = after("ANION-VERDICT ") {
            self.verdict = Some(verdict.to_owned());
        } else if line.contains("Kernel panic") {
            self.panic.get_or_insert_with(|| line.trim().to_owned());
        } else if let Some(summary) = Tally::from_line(line) {
            self.summaries.push(summary);
        }
        None
    }

    fn end_step(&mut self, rest: &str, now: Instant) -> String {
        let (name, result) = rest.split_once(' ').unwrap_or((rest, "without result"));
        let begun = self.running.take().filter(|(running, _)| running == name);
        let took = begun.as_ref().map_or(Duration::ZERO, |(_, since)| now.duration_since(*since));
        let suites = self.expected.iter().find(|step| step.name == name).map_or(0, |step| step.suites);
        let mut tests = Tally::default();
        for summary in &self.summaries {
            tests += *summary;
        }
        let fault = if result != "ok" {
            Some(result.to_owned())
        } else if begun.is_none() {
            Some("ended before it began".into())
        } else if self.summaries.len() != suites {
            Some(format!("{} suite summaries instead of {suites}", self.summaries.len()))
        } else if !self.summaries.iter().all(|summary| summary.is_success()) {
            Some(format!("suites: {tests}"))
        } else {
            None
        };
        let counts = if suites > 0 { format!(", {tests}") } else { String::new() };
        let text =
            format!("{name}: {} ({:.1} s{counts})", fault.as_deref().unwrap_or("ok"), took.as_secs_f64());
        // The step itself counts as a test, too.
        tests += Tally::one(fault.is_none());
        self.done.push(Outcome { name: name.to_owned(), fault, tests });
        text
    }

    /// Returns whether the guest's kernel has panicked.
    pub(super) fn has_panicked(&self) -> bool {
        self.panic.is_some()
    }

    /// Returns the last step, for a guest that did not finish.
    pub(super) fn place(&self) -> String {
        match (&self.running, self.done.last()) {
            (Some((name, _)), _) => format!("in step {name}"),
            (None, Some(outcome)) => format!("after step {}", outcome.name),
            (None, None) => "before the first step".into(),
        }
    }

    /// Returns the tests that were counted so far, including steps.
    pub(super) fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for outcome in &self.done {
            sum += outcome.tests;
        }
        sum
    }

    /// Evaluates a guest that has ended.
    ///
    /// # Errors
    /// All faults, one in each line: a panic, a missing verdict, failed steps, missing steps.
    pub(super) fn judge(&self) -> Result<()> {
        let mut faults = Vec::new();
        if let Some(panic) = &self.panic {
            faults.push(format!("the guest's kernel panicked {}: {panic}", self.place()));
            // The last message is the panic itself.
            let before = self.messages.iter().take(self.messages.len().saturating_sub(1));
            faults.extend(before.map(|message| format!("    {message}")));
        }
        let mut unseen = Vec::new();
        for step in &self.expected {
            match self.done.iter().filter(|outcome| outcome.name == step.name).collect::<Vec<_>>().as_slice()
            {
                [] => unseen.push(step.name),
                [outcome] => {
                    faults.extend(outcome.fault.as_ref().map(|fault| format!("step {}: {fault}", step.name)));
                }
                _ => faults.push(format!("step {} ended more than once", step.name)),
            }
        }
        let is_expected = |name: &str| self.expected.iter().any(|step| step.name == name);
        faults.extend(
            self.done
                .iter()
                .filter(|outcome| !is_expected(&outcome.name))
                .map(|outcome| format!("step {} ran, but is not in the list of this kernel", outcome.name)),
        );
        if !unseen.is_empty() {
            faults.push(format!("steps whose end is not in the log: {}", unseen.join(", ")));
        }
        match self.verdict.as_deref() {
            Some("passed") => {}
            Some(other) => faults.push(format!("the guest's verdict is {other}")),
            None => faults.push(format!("the guest ended without a verdict, {}", self.place())),
        }
        anyhow::ensure!(faults.is_empty(), "{}", faults.join("\n"));
        Ok(())
    }
}

/// Returns whether a line of the serial log is a message of the kernel, with its time in brackets.
fn is_of_kernel(line: &str) -> bool {
    let time = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'));
    time.is_some_and(|(time, _)| time.contains('.') && time.trim().parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Course = Course::AllBut(&[]);

    /// Returns the log of a successful run.
    fn good_log() -> Vec<String> {
        let mut log = vec!["SeaBIOS (version 1)".to_owned()];
        for step in ALL.steps() {
            log.push(format!("ANION-BEGIN {}", step.name));
            log.extend((0..step.suites).map(|_| "test result: ok. 7 passed; 0 failed; 1 ignored".to_owned()));
            log.push(format!("ANION-STEP {} ok", step.name));
        }
        log.push("ANION-VERDICT passed".into());
        log
    }

    fn judged(log: &[String]) -> Result<Tally> {
        let mut progress = Progress::of(&ALL);
        for line in log {
            progress.feed(line, Instant::now());
        }
        progress.judge().map(|()| progress.tally())
    }

    fn fault_of(log: &[String]) -> String {
        judged(log).expect_err("not all is well").to_string()
    }

    #[test]
    fn a_good_run_passes_and_counts_tests_and_steps() {
        let suites: usize = ALL.steps().iter().map(|step| step.suites).sum();
        let expected = u64::try_from(7 * suites + ALL.steps().len()).expect("small");
        assert_eq!(judged(&good_log()).expect("all is well"), Tally { passed: expected, failed: 0 });
    }

    #[test]
    fn every_missing_line_is_a_fault() {
        // All except the firmware's.
        for at in 1..good_log().len() {
            let mut log = good_log();
            let removed = log.remove(at);
            assert!(judged(&log).is_err(), "{removed}");
        }
    }

    #[test]
    fn failed_steps_and_tests_are_named() {
        let replaced = |from: &str, to: &str| -> Vec<String> {
            good_log().iter().map(|line| line.replace(from, to)).collect()
        };
        assert_eq!(fault_of(&replaced("dump ok", "dump FAILED (2)")), "step dump: FAILED (2)");
        assert_eq!(fault_of(&replaced("VERDICT passed", "VERDICT FAILED")), "the guest's verdict is FAILED");
        assert!(
            fault_of(&replaced("7 passed; 0 failed", "6 passed; 1 failed")).contains("6 passed, 1 failed")
        );
        assert!(fault_of(&replaced("7 passed", "0 passed")).contains("0 passed, 0 failed"));
    }

    #[test]
    fn a_panic_tells_where() {
        let mut log = good_log();
        log.truncate(log.iter().position(|line| line == "ANION-STEP dump ok").expect("there"));
        log.push("[    3.1] Kernel panic - not syncing: Attempted to kill init!".into());
        let fault = fault_of(&log);
        assert!(
            fault.starts_with("the guest's kernel panicked in step dump: [    3.1] Kernel panic"),
            "{fault}"
        );
        assert!(fault.contains("without a verdict"), "{fault}");
    }

    #[test]
    fn a_panic_is_shown_with_the_last_messages_of_the_kernel() {
        let mut log = vec!["ANION-BEGIN dump".to_owned()];
        log.extend((0..100).map(|at| format!("[   17.{at:06}] line {at} of an oops")));
        log.insert(90, "[2 tests of 4] is a program's".into());
        log.push("[   18.1] Kernel panic - not syncing: Fatal exception in interrupt".into());
        log.push("[   18.2] Kernel Offset: disabled".into());
        let fault = fault_of(&log);
        let lines: Vec<&str> = fault.lines().take(MESSAGES).collect();
        assert!(lines[0].ends_with("Fatal exception in interrupt"), "{fault}");
        assert_eq!(lines[1], "    [   17.000041] line 41 of an oops");
        assert_eq!(lines[MESSAGES - 1], "    [   17.000099] line 99 of an oops");
        assert!(!fault.contains("2 tests of 4") && !fault.contains("Offset"), "{fault}");
    }

    #[test]
    fn a_marker_behind_an_unfinished_line_counts() {
        let mut progress = Progress::of(&ALL);
        progress.feed("ANION-BEGIN hub", Instant::now());
        let told = progress.feed("no newline hereANION-STEP hub ok", Instant::now());
        assert_eq!(told.as_deref(), Some("hub: ok (0.0 s)"));
    }

    #[test]
    fn a_step_of_another_kernel_is_a_fault() {
        let mut progress = Progress::of(&Course::Only(&[&["devices"], &["hub"]]));
        for step in ["devices", "hub", "dump"] {
            progress.feed(&format!("ANION-BEGIN {step}"), Instant::now());
            progress.feed(&format!("ANION-STEP {step} ok"), Instant::now());
        }
        progress.feed("ANION-VERDICT passed", Instant::now());
        let fault = progress.judge().expect_err("the step did not ask for a dump").to_string();
        assert_eq!(fault, "step dump ran, but is not in the list of this kernel");
    }
}
