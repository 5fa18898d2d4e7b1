// SPDX-License-Identifier: Apache-2.0
//! Builds the program of the step that makes resources of a guest fail: the test `chaos`.

use std::path::PathBuf;

use anyhow::Result;

use super::guest::Course;
use super::initramfs::Initramfs;
use crate::release;

/// The step.
pub(super) const STEP: &str = "chaos";

/// The step without others. It takes minutes in an emulated machine, so no other course has it.
pub(super) const ALONE: Course = Course::Only(&[&["devices", STEP]]);

/// Duration and seed of a run.
#[derive(Debug, Clone)]
pub(crate) struct ChaosRun {
    pub(crate) minutes: u64,
    pub(crate) seed: u64,
}

/// Returns whether a course contains the step.
pub(super) fn is_in(course: &Course) -> bool {
    course.includes(STEP)
}

/// Returns the program by its name in `/bin`. Builds it if it is out of date.
///
/// # Errors
/// If it cannot be built.
pub(super) fn programs() -> Result<[(&'static str, PathBuf); 1]> {
    Ok([("anion-chaos", release::build_test("chaos")?)])
}

/// Adds the variables with seed and duration.
pub(super) fn furnish(root: &mut Initramfs, run: Option<&ChaosRun>) {
    let variables =
        |run: &ChaosRun| format!("ANION_CHAOS_MINUTES={}\nANION_CHAOS_SEED={}\n", run.minutes, run.seed);
    root.file("/etc/guest/chaos", 0o644, run.map(variables).unwrap_or_default());
}
