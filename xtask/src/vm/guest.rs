// SPDX-License-Identifier: Apache-2.0
//! Defines the steps of guests, and the files that the script of each guest needs.

use std::path::Path;

use super::initramfs::Initramfs;
use super::kernel::Entry;

/// The script that runs as process 1 of the guest.
const INIT: &str = include_str!("init.sh");
/// The scripts that it sources.
const SCRIPTS: [(&str, &str); 6] = [
    ("doctor.sh", include_str!("doctor.sh")),
    ("pressure.sh", include_str!("pressure.sh")),
    ("fallback.sh", include_str!("fallback.sh")),
    ("foreign.sh", include_str!("foreign.sh")),
    ("pictures.sh", include_str!("pictures.sh")),
    ("chaos.sh", include_str!("chaos.sh")),
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
    pub(super) suites: usize,
}

pub(super) const fn check(name: &'static str) -> Step {
    Step { name, suites: 0 }
}

pub(super) const STEPS: [Step; 34] = [
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
    Step { name: "chaos", suites: 1 },
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
    pub(super) fn steps(&self) -> Vec<&'static Step> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::kernel::KERNELS;
    use crate::vm::{chaos, pictures};

    #[test]
    fn every_step_runs_on_some_kernel_and_no_kernel_names_another() {
        for step in &STEPS {
            let mut courses =
                KERNELS.iter().map(|kernel| &kernel.course).chain([&BENCH, &pictures::ALONE, &chaos::ALONE]);
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
