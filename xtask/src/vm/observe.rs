// SPDX-License-Identifier: Apache-2.0
//! Observes every service in guests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::guest::STEPS;
use super::initramfs::Initramfs;
use super::kernel::{Entry, KERNELS};
use super::machine::PC;
use super::progress::Progress;
use super::selinux;
use crate::observe::Tracer;
use crate::process::find_program;

/// Prints the observation on the console.
const REPORT: &str = include_str!("observe.sh");

/// Returns the programs beside the service: the tracer, and this program, which folds the traces.
pub(super) fn programs() -> Result<[(&'static str, PathBuf); 2]> {
    let tracer = find_program("strace").context("strace is not in PATH")?;
    Ok([
        ("strace", tracer),
        ("xtask", std::env::current_exe().context("cannot determine the path of this program")?),
    ])
}

/// Returns the kernels with which services can be observed: those of this program's own
/// architecture, except the one whose policy permits the service no tracer.
pub(crate) fn kernels() -> impl Iterator<Item = &'static Entry> {
    KERNELS.iter().filter(|entry| entry.machine.name == PC.name && !selinux::is_in(&entry.course))
}

/// Steps whose calls other steps also make, and that would take most of the time of an emulated
/// guest under the tracer.
const SPARED: [&str; 6] = ["chaos", "contract", "display", "pictures", "vts-socket-bob", "vts-vndbinder"];

/// The conformance suite over binder as two users at the same time, and as one.
const TWO_USERS: &str = "vts-binder-both";
const ONE_USER: &str = "vts-binder-alice";

/// Removes these steps, and runs the suite as one user instead of two.
pub(super) fn spare(progress: &mut Progress) {
    for step in progress.expected.iter_mut().filter(|step| step.name == TWO_USERS) {
        *step = STEPS.iter().find(|step| step.name == ONE_USER).unwrap_or(step);
    }
    progress.expected.retain(|step| !SPARED.contains(&step.name));
}

/// Has the tracer start every service, by placing it before the service in the shell's path, and
/// runs the remaining steps.
pub(super) fn furnish(root: &mut Initramfs, mut progress: Progress) {
    spare(&mut progress);
    let steps: String = progress.expected.iter().map(|step| format!("{}\n", step.name)).collect();
    root.file("/etc/guest/steps", 0o644, steps);
    let [service, fold, traces] = ["/bin/aniond", "/bin/xtask", "/tmp/observed"].map(Path::new);
    root.directory(traces, 0o1777);
    root.file("/usr/sbin/aniond", 0o755, Tracer { service, fold, traces }.script());
    root.file("/etc/guest/observe.sh", 0o644, REPORT);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{ALL_REPORTED, REPORTED};

    #[test]
    fn the_suite_runs_over_binder_once_as_two_users_or_one_and_where_it_is_observed_as_one() {
        for kernel in kernels() {
            let suites = [ONE_USER, TWO_USERS].map(|suite| usize::from(kernel.course.includes(suite)));
            let expected = suites[0] + suites[1];
            assert!(expected <= 1, "{} runs it twice", kernel.name);
            let mut progress = Progress::of(&kernel.course);
            spare(&mut progress);
            let count = |name| progress.expected.iter().filter(|step| step.name == name).count();
            assert_eq!([ONE_USER, TWO_USERS].map(count), [expected, 0], "{}", kernel.name);
        }
        assert!(kernels().any(|kernel| kernel.course.includes(TWO_USERS)));
    }

    #[test]
    fn the_report_and_its_reader_agree() {
        assert!(REPORT.contains(&format!("echo \"{REPORTED}$line\"")), "{REPORT}");
        assert!(REPORT.contains(&format!("echo {ALL_REPORTED}\n")), "{REPORT}");
    }
}
