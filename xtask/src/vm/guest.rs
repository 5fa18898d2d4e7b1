// SPDX-License-Identifier: Apache-2.0
//! Defines the steps of guests, and evaluates their serial logs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::initramfs::Initramfs;
use super::kernel::Entry;
use crate::tally::Tally;

/// The script that runs as process 1 of the guest.
const INIT: &str = include_str!("init.sh");
/// The scripts that it sources.
const SCRIPTS: [(&str, &str); 5] = [
    ("doctor.sh", include_str!("doctor.sh")),
    ("pressure.sh", include_str!("pressure.sh")),
    ("fallback.sh", include_str!("fallback.sh")),
    ("foreign.sh", include_str!("foreign.sh")),
    ("pictures.sh", include_str!("pictures.sh")),
];

/// The heaps of the service; the built-in ones are tested outside the guest.
pub(super) const HEAPS: &str = include_str!("heaps.dts");
/// Heaps with several sources, to test which source each kernel selects.
const FALLBACK: &str = include_str!("fallback.dts");

/// The service runs as uid 900; its clients share nothing but the machine.
const PASSWD: &str = "root:x:0:0::/:/bin/sh\nanion:x:900:900::/:/bin/sh\n\
    alice:x:1000:1000::/tmp:/bin/sh\nbob:x:2000:2000::/tmp:/bin/sh\n";
const GROUP: &str = "root:x:0:\nanion:x:900:\nalice:x:1000:\nbob:x:2000:\n";

/// The hub's permissions to register and to find the service.
const HUB_POLICY: &str = include_str!("hub.toml");

/// A step of the script.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    /// The number of summaries of the conformance suite that the step must print.
    suites: usize,
}

pub(super) const fn check(name: &'static str) -> Step {
    Step { name, suites: 0 }
}

pub(super) const STEPS: [Step; 33] = [
    check("devices"),
    check("device-tree"),
    check("hub"),
    check("serve-binder"),
    check("doctor"),
    Step { name: "vts-binder-alice", suites: 1 },
    Step { name: "vts-binder-both", suites: 2 },
    Step { name: "vts-graphics", suites: 2 },
    Step { name: "churn", suites: 1 },
    Step { name: "domains", suites: 1 },
    Step { name: "contract", suites: 1 },
    check("hub-restart"),
    check("holder-killed"),
    check("dump"),
    check("foreign"),
    check("pictures"),
    check("display"),
    check("stop-binder"),
    check("serve-socket"),
    Step { name: "vts-socket-bob", suites: 1 },
    check("pressure"),
    check("cgroup"),
    check("stop-socket"),
    Step { name: "vts-vndbinder", suites: 1 },
    check("fallback"),
    check("limits"),
    check("closed-devices"),
    check("vanished-devices"),
    check("enforce"),
    Step { name: "enforced-suites", suites: 3 },
    check("strangers"),
    check("denials"),
    check("bench"),
];

/// The steps for a kernel.
#[derive(Debug)]
pub(crate) enum Course {
    /// All steps except these.
    AllBut(&'static [&'static str]),
    /// All steps in these lists.
    Only(&'static [&'static [&'static str]]),
}

/// Only the benchmark, on any kernel. No other course contains it.
pub(super) const BENCH: Course = Course::Only(&[&["devices", "hub", BENCH_STEP]]);
const BENCH_STEP: &str = "bench";
/// The parts of the benchmark that depend on the kernel.
pub(super) const BENCH_PARTS: [&str; 6] = ["latency", "ready", "scale", "mapper", "devices", "in-process"];

impl Course {
    pub(super) fn includes(&self, step: &str) -> bool {
        match self {
            Self::AllBut(others) => {
                !others.contains(&step) && step != BENCH_STEP && !super::selinux::STEPS.contains(&step)
            }
            Self::Only(lists) => lists.iter().any(|list| list.contains(&step)),
        }
    }

    /// Returns its steps, in order.
    fn steps(&self) -> Vec<&'static Step> {
        STEPS.iter().filter(|step| self.includes(step.name)).collect()
    }
}

impl std::fmt::Display for Course {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AllBut(others) => write!(f, "all steps but {} and the benchmark", others.join(", ")),
            Self::Only(_) => {
                let names: Vec<&str> = self.steps().iter().map(|step| step.name).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

/// Adds all files that the script needs on this kernel, except programs and kernel modules.
pub(super) fn furnish(root: &mut Initramfs, kernel: &Entry, course: &Course) {
    for directory in ["/proc", "/sys", "/dev", "/run", "/sbin", "/usr/bin", "/usr/sbin"] {
        root.directory(directory, 0o755);
    }
    root.directory("/tmp", 0o1777);
    root.file("/init", 0o755, INIT);
    let lines = |words: &[&str]| words.iter().map(|word| format!("{word}\n")).collect::<String>();
    let steps: Vec<&str> = course.steps().iter().map(|step| step.name).collect();
    root.file("/etc/guest/steps", 0o644, lines(&steps));
    root.file("/etc/guest/devices", 0o644, lines(kernel.devices));
    for (name, script) in SCRIPTS {
        root.file(Path::new("/etc/guest").join(name), 0o644, script);
    }
    root.file("/etc/guest/backings", 0o644, lines(kernel.backings));
    root.file("/etc/anion/fallback.dts", 0o644, FALLBACK);
    root.file("/etc/guest/page", 0o644, kernel.page.to_string());
    root.file("/etc/guest/parties", 0o644, kernel.parties.join(","));
    root.file("/etc/passwd", 0o644, PASSWD);
    root.file("/etc/group", 0o644, GROUP);
    root.file("/etc/anion/heaps.dts", 0o644, HEAPS);
    root.file("/etc/rsbinder/hub.d/anion.toml", 0o644, HUB_POLICY);
    for applet in APPLETS {
        root.link(Path::new("/bin").join(applet), "busybox");
    }
}

/// The commands that the script calls by name.
const APPLETS: [&str; 20] = [
    "cat", "chmod", "chown", "dd", "dmesg", "grep", "insmod", "ln", "mkdir", "mkswap", "mount", "reboot",
    "rm", "sh", "stty", "su", "swapoff", "swapon", "tail", "usleep",
];

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
            panic: None,
        }
    }

    /// Evaluates one line of the serial log. Returns a message for the user when a step has ended.
    pub(super) fn feed(&mut self, line: &str, now: Instant) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::kernel::KERNELS;
    use crate::vm::pictures;

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

    #[test]
    fn every_step_runs_on_some_kernel_and_no_kernel_names_another() {
        for step in &STEPS {
            let mut courses = KERNELS.iter().map(|kernel| &kernel.course).chain([&BENCH, &pictures::ALONE]);
            assert!(courses.any(|course| course.includes(step.name)), "{}", step.name);
        }
        for kernel in &KERNELS {
            let named: Vec<&str> = match kernel.course {
                Course::AllBut(others) => others.to_vec(),
                Course::Only(lists) => lists.concat(),
            };
            for name in named {
                assert!(STEPS.iter().any(|step| step.name == name), "{name} of {}", kernel.name);
            }
        }
    }

    #[test]
    fn the_script_runs_exactly_the_expected_steps() {
        let in_script: Vec<&str> =
            INIT.lines().filter_map(|line| line.strip_prefix("step ")?.split(' ').next()).collect();
        let expected: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(in_script, expected);
    }
}
