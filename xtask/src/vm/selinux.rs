// SPDX-License-Identifier: Apache-2.0
//! Builds the files that the guest with enforced SELinux policy has beyond those of others: the
//! policy, the labels of its files, and the denials that are expected.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::guest::Course;
use super::initramfs::Initramfs;
use crate::process::find_program;
use crate::sepolicy;

/// The step that loads the policy and starts the service, and those after it.
pub(super) const STEPS: [&str; 4] = ["enforce", "enforced-suites", "strangers", "denials"];

const SCRIPT: &str = include_str!("selinux.sh");
/// The denials of the enforced domains. Each must occur, and no other may.
const DENIALS: &str = include_str!("denials.txt");

/// The commands that the script calls by name, beyond those of every guest.
const APPLETS: [&str; 6] = ["diff", "find", "mv", "readlink", "sed", "sort"];

/// Returns whether a course loads the policy.
pub(super) fn is_in(course: &Course) -> bool {
    course.includes(STEPS[0])
}

/// Returns the program that labels files.
///
/// # Errors
/// If it is missing.
pub(super) fn programs() -> Result<[(&'static str, PathBuf); 1]> {
    Ok([("setfilecon", find_program("setfilecon").context("setfilecon is not in PATH")?)])
}

/// Parts of the names of tests that take most of the time of the conformance suite. If this guest
/// is one of all, it skips them, because other guests run them.
const SLOW: [&str; 8] = [
    "thousand_allocations",
    "zeroed_after_reuse",
    "_holds",
    "releases_keep_pace",
    "pipe_does_not_hold_up",
    "never_read",
    "every_method_can",
    "explain_touches",
];

/// Adds the policy and the files that the script needs. `without` is a text of `sepolicy/` that the
/// policy then lacks.
///
/// # Errors
/// If the policy does not compile, or `without` does not occur in it.
pub(super) fn furnish(root: &mut Initramfs, without: Option<&str>, is_alone: bool) -> Result<()> {
    let enforced = sepolicy::for_guest(without)?;
    root.file("/etc/selinux/policy", 0o644, enforced.binary);
    root.file("/etc/selinux/labels", 0o644, enforced.labels);
    let denials = DENIALS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    root.file("/etc/selinux/denials", 0o644, denials.map(|line| format!("{line}\n")).collect::<String>());
    root.file("/etc/guest/selinux.sh", 0o644, SCRIPT);
    let skipped = if is_alone { String::new() } else { SLOW.map(|name| format!("--skip {name} ")).concat() };
    root.file("/etc/guest/skipped", 0o644, skipped);
    for applet in APPLETS {
        root.link(Path::new("/bin").join(applet), "busybox");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::process::workspace_root;

    #[test]
    fn each_skipped_name_is_that_of_a_test() {
        let files = fs::read_dir(workspace_root().join("vts/src/tests")).expect("the suite");
        let paths = files.map(|file| file.expect("a file").path());
        let suite: String = paths.map(|path| fs::read_to_string(path).expect("text")).collect();
        let names: Vec<&str> =
            suite.lines().filter_map(|line| line.strip_prefix("fn ")?.split(['(', '<']).next()).collect();
        for skipped in SLOW {
            assert!(names.iter().any(|name| name.contains(skipped)), "{skipped}");
        }
    }
}
