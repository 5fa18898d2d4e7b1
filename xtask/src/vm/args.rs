// SPDX-License-Identifier: Apache-2.0
//! The command line of `cargo xtask vm`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValue;

use super::guest::{self, Course};
use super::kernel::{Entry, KERNELS};
use super::machine::PC;
use super::{ChaosRun, chaos, pictures, selinux, systemd};

/// Seconds. A guest takes 200 s on an idle machine with two cores, and several times as long on a
/// busy one.
const TIMEOUT: u64 = 2700;

/// The value of `--kernel` for all guests.
const ALL: &str = "all";

/// Boot guests, and run the service and its conformance suite over kernel binder in them
#[derive(Debug, Clone, Args)]
pub(crate) struct VmArgs {
    /// Kernel to boot; repeat the option for more
    #[arg(long, value_name = "NAME", default_value = KERNELS[0].name, value_parser = kernel_names())]
    kernel: Vec<String>,

    /// List the kernels with their devices and steps, and exit
    #[arg(long)]
    pub(super) list: bool,

    /// Run the benchmark in the guest instead of the tests
    #[arg(long, conflicts_with = "at_once")]
    pub(super) bench: bool,

    /// Run only the steps with camera, graphics device and display, for longer films, on a kernel
    /// of Debian for x86-64
    #[arg(long, conflicts_with = "bench")]
    pub(super) pictures: bool,

    /// Boot a Debian with systemd and the package instead, and remove, install, use and upgrade the
    /// package
    #[arg(long, conflicts_with_all = ["kernel", "bench", "pictures"])]
    systemd: bool,

    /// Release of the Debian with systemd
    #[arg(long, value_name = "NAME", default_value = systemd::RELEASES[0].name, requires = "systemd")]
    #[arg(value_parser = systemd::RELEASES.each_ref().map(|release| release.name))]
    pub(super) suite: String,

    /// Boot the Debian with systemd this many times, and only allocate at each boot
    #[arg(long, value_name = "N", requires = "systemd", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) boots: Option<u16>,

    /// Remove this line of sepolicy/ from the policy that the kernel selinux enforces; the guest
    /// must fail
    #[arg(long, value_name = "RULE")]
    pub(super) without_rule: Option<String>,

    /// Run only this part of the benchmark; repeat the option for more
    #[arg(long, value_name = "PART", default_values = guest::BENCH_PARTS, requires = "bench")]
    pub(super) part: Vec<String>,

    /// Run this many guests at the same time; one takes about one processor and 1 GiB
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(super) at_once: u8,

    /// Write the guest's serial log to this file; with several guests, to FILE.NAME
    #[arg(long, value_name = "FILE")]
    keep_log: Option<PathBuf>,

    /// Stop a guest that has not ended after this many seconds
    #[arg(long, value_name = "SECS", default_value_t = TIMEOUT, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) timeout: u64,

    /// Whether the observer starts every service, and the observation is written to the log.
    #[arg(skip)]
    pub(super) observe: bool,

    /// Run only the test `chaos`, for some minutes.
    #[arg(skip)]
    pub(super) chaos: Option<ChaosRun>,
}

impl VmArgs {
    /// Returns every guest, two at a time.
    pub(crate) fn in_pairs() -> Self {
        let part = guest::BENCH_PARTS.map(str::to_owned).into();
        let kernel = vec![ALL.to_owned()];
        Self {
            kernel,
            list: false,
            bench: false,
            pictures: false,
            systemd: false,
            suite: systemd::RELEASES[0].name.to_owned(),
            boots: None,
            without_rule: None,
            part,
            at_once: 2,
            keep_log: None,
            timeout: TIMEOUT,
            observe: false,
            chaos: None,
        }
    }

    /// Returns a run of one kernel in which every service is observed. `log` contains the
    /// observation afterwards.
    pub(crate) fn observed(kernel: &str, log: PathBuf) -> Self {
        let kernel = vec![kernel.to_owned()];
        Self {
            kernel,
            at_once: 1,
            keep_log: Some(log),
            timeout: 3 * TIMEOUT,
            observe: true,
            ..Self::in_pairs()
        }
    }

    /// Returns a run of the test `chaos` with one kernel.
    pub(crate) fn with_chaos(kernel: &str, run: ChaosRun) -> Self {
        let (kernel, timeout) = (vec![kernel.to_owned()], TIMEOUT + 60 * run.minutes);
        Self { kernel, at_once: 1, timeout, chaos: Some(run), ..Self::in_pairs() }
    }

    /// Returns whether all kernels are to be booted.
    pub(super) fn wants_all(&self) -> bool {
        self.kernel.iter().any(|name| name == ALL)
    }

    /// Returns whether the kernel is one to boot.
    pub(super) fn wants(&self, entry: &Entry) -> bool {
        !self.systemd && (self.wants_all() || self.kernel.iter().any(|name| name == entry.name))
    }

    /// Returns whether a Debian with systemd is one to boot.
    pub(super) fn wants_systemd(&self) -> bool {
        self.systemd || self.wants_all() && !self.bench && !self.pictures
    }

    /// Returns whether a Debian with systemd is one of all guests, and was not requested itself.
    pub(super) fn is_systemd_one_of_all(&self) -> bool {
        self.wants_systemd() && !self.systemd
    }

    pub(super) fn course<'a>(&self, entry: &'a Entry) -> &'a Course {
        match self {
            Self { bench: true, .. } => &guest::BENCH,
            Self { pictures: true, .. } => &pictures::ALONE,
            Self { chaos: Some(_), .. } => &chaos::ALONE,
            _ => &entry.course,
        }
    }

    /// Returns the path of the log for the guest of this name, of `count` guests.
    pub(super) fn log_of(&self, guest: &str, count: usize) -> Option<PathBuf> {
        let file = self.keep_log.clone()?;
        if count == 1 {
            return Some(file);
        }
        let mut name = file.into_os_string();
        name.push(".");
        name.push(guest);
        Some(name.into())
    }
}

fn kernel_names() -> clap::builder::PossibleValuesParser {
    let all = PossibleValue::new(ALL).help("all kernels, and Debian 13 with systemd");
    let names = KERNELS.iter().map(|entry| PossibleValue::new(entry.name).help(entry.about()));
    names.chain([all]).collect::<Vec<_>>().into()
}

/// Returns the kernels with which the test `chaos` can run: those for this machine's programs that
/// do not enforce a policy, which permits only some programs.
pub(crate) fn chaos_kernels() -> clap::builder::PossibleValuesParser {
    let is_possible = |entry: &&Entry| entry.machine.name == PC.name && !selinux::is_in(&entry.course);
    let kernels = KERNELS.iter().filter(is_possible);
    kernels.map(|entry| PossibleValue::new(entry.name).help(entry.about())).collect::<Vec<_>>().into()
}
