// SPDX-License-Identifier: Apache-2.0
//! Guests in which every service is observed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::guest::Progress;
use super::initramfs::Initramfs;
use super::kernel::{Entry, KERNELS};
use super::machine::PC;
use crate::observe::Tracer;
use crate::process::find_program;

/// Tells the console what was observed.
const REPORT: &str = include_str!("observe.sh");

/// What runs in the guest beside the service: the tracer, and this very program, which folds the traces.
pub(super) fn programs() -> Result<[(&'static str, PathBuf); 2]> {
    let tracer = find_program("strace").context("strace has gone")?;
    Ok([("strace", tracer), ("xtask", std::env::current_exe().context("this program is nowhere")?)])
}

/// The kernels with which it can be observed: those of this program's own architecture.
pub(crate) fn kernels() -> impl Iterator<Item = &'static Entry> {
    KERNELS.iter().filter(|entry| entry.machine.name == PC.name)
}

/// Steps that ask what another step has asked in another way, and would take most of the time of a guest that is emulated and traced.
const SPARED: [&str; 4] = ["vts-binder-both", "contract", "vts-socket-bob", "vts-vndbinder"];

/// Takes the steps out that are not worth their time.
pub(super) fn spare(progress: &mut Progress) {
    progress.expected.retain(|step| !SPARED.contains(&step.name));
}

/// Has every service started by the tracer, which the shell finds before the service, and runs what is left of the steps.
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
    fn the_report_and_its_reader_agree() {
        assert!(REPORT.contains(&format!("echo \"{REPORTED}$line\"")), "{REPORT}");
        assert!(REPORT.contains(&format!("echo {ALL_REPORTED}\n")), "{REPORT}");
    }
}
