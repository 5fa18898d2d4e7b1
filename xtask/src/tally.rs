// SPDX-License-Identifier: Apache-2.0
//! Counts tests, from the last lines of test runners.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed and failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// Returns the count of one check that passed or failed.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: passed.into(), failed: (!passed).into() }
    }

    /// Returns whether tests ran and none failed.
    pub(crate) fn is_success(self) -> bool {
        self.passed > 0 && self.failed == 0
    }

    /// Parses the last line of libtest, libtest-mimic, cargo-nextest or pytest; `None` for any
    /// other line.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let line = plain(line);
        libtest(line.trim()).or_else(|| nextest(line.trim())).or_else(|| pytest(line.trim()))
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Parses `test result: ok. 12 passed; 0 failed; 3 ignored; …`
fn libtest(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.parse().ok());
    Some(Tally { passed: count(" passed")?, failed: count(" failed")? })
}

/// Parses `Summary [   0.2s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 0 skipped`
fn nextest(line: &str) -> Option<Tally> {
    let (head, counts) = line.strip_prefix("Summary [")?.split_once("] ")?.1.split_once(" run: ")?;
    // After an interrupted run, the line has `3/5 tests`: tests that did not run count as failed.
    let run: u64 = head.split([' ', '/']).filter_map(|word| word.parse().ok()).max()?;
    let passed = counts
        .split(", ")
        .find_map(|part| part.split_once(" passed").map(|(number, _)| number))
        .map_or(Some(0), |number| number.parse().ok())?;
    Some(Tally { passed, failed: run.checked_sub(passed)? })
}

/// Parses `==== 2 failed, 41 passed, 1 error in 3.21s ====`
fn pytest(line: &str) -> Option<Tally> {
    let line = line.strip_prefix("=")?.trim_matches(['=', ' ']);
    let (counts, time) = line.rsplit_once(" in ")?;
    time.chars().next().filter(char::is_ascii_digit)?;
    let mut tally = Tally::default();
    for count in counts.split(", ") {
        let (number, what) = count.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match what {
            "passed" => tally.passed += number,
            "failed" | "error" | "errors" => tally.failed += number,
            _ => {}
        }
    }
    Some(tally)
}

/// Returns `line` without terminal escape sequences and control characters other than tabs.
pub(crate) fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            // ESC [ parameters letter, or ESC and one character.
            if rest.next() == Some('[') {
                let _ = rest.find(char::is_ascii_alphabetic);
            }
        } else if !c.is_control() || c == '\t' {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64) -> Option<Tally> {
        Some(Tally { passed, failed })
    }

    #[test]
    fn closing_lines_of_libtest_are_counted() {
        let ok =
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(Tally::from_line(ok), tally(12, 0));
        assert_eq!(Tally::from_line("test result: FAILED. 2 passed; 5 failed; 0 ignored"), tally(2, 5));
        assert_eq!(Tally::from_line("test result: \u{1b}[32mok\u{1b}[0m. 1 passed; 0 failed"), tally(1, 0));
    }

    #[test]
    fn closing_lines_of_nextest_are_counted() {
        for (line, expected) in [
            ("     Summary [   0.015s] 1 test run: 1 passed, 0 skipped", tally(1, 0)),
            (
                "Summary [   0.2s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 2 skipped",
                tally(3, 2),
            ),
            ("Summary [   0.2s] 2/9 tests run: 1 passed, 1 failed, 0 skipped", tally(1, 8)),
            ("Summary [   0.2s] 2 tests run: 2 failed, 0 skipped", tally(0, 2)),
            (
                "\u{1b}[31;1m     Summary\u{1b}[0m [   0.2s] \u{1b}[1m4\u{1b}[0m tests run: \u{1b}[1m4\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, 0 skipped",
                tally(4, 0),
            ),
        ] {
            assert_eq!(Tally::from_line(line), expected, "{line}");
        }
    }

    #[test]
    fn closing_lines_of_pytest_are_counted() {
        for (line, expected) in [
            (
                "============================== 41 passed in 12.34s ==============================",
                tally(41, 0),
            ),
            ("= 2 failed, 39 passed, 1 skipped, 3 warnings, 1 error in 63.00s (0:01:03) =", tally(39, 3)),
            (
                "\u{1b}[32m===== \u{1b}[32m\u{1b}[1m1 passed\u{1b}[0m\u{1b}[32m in 0.10s\u{1b}[0m =====",
                tally(1, 0),
            ),
            ("====== no tests ran in 0.01s ======", None),
            ("====== FAILURES ======", None),
            ("====== 1 passed in total ======", None),
        ] {
            assert_eq!(Tally::from_line(line), expected, "{line}");
        }
    }

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        let firmware = "\u{1b}c\u{1b}[?7l\u{1b}[2J\u{1b}[0mSeaBIOS\t(1)\r\u{7}\u{1b}[1";
        assert_eq!(plain(firmware), "SeaBIOS\t(1)");
    }

    #[test]
    fn other_lines_are_not_counted() {
        for line in ["", "running 3 tests", "test a::b ... ok", "Summary [", "test result: ok.", "3 passed"] {
            assert_eq!(Tally::from_line(line), None, "{line:?}");
        }
    }

    #[test]
    fn nothing_run_is_no_success() {
        assert!(!Tally::default().is_success());
        assert!(Tally::one(true).is_success());
        assert!(!Tally { passed: 3, failed: 1 }.is_success());
    }
}
