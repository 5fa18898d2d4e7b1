// SPDX-License-Identifier: Apache-2.0
//! Boots a Debian with systemd, in which the package is installed, used as in docs/linux.md,
//! removed and upgraded.

mod root;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::args::VmArgs;
use super::boot::boot;
use super::guest::{Course, Step, check};
use super::initramfs::{Initramfs, read};
use super::kernel::{Entry, KERNELS};
use super::progress::Progress;
use super::{create_log, machine};
use crate::install::{self, Packing};
use crate::needs;
use crate::release;
use crate::tally::Tally;
use crate::tools::{Tool, cache_dir, is_root};

/// The script of the guest.
const SCRIPT: &str = include_str!("scenario.sh");
/// Starts the script as early as a service can start.
const UNIT: &str = "[Unit]\nDescription=Scenario\n\n[Service]\nType=oneshot\n\
    ExecStart=/bin/sh /srv/scenario.sh\nStandardOutput=file:/dev/ttyS0\nStandardError=file:/dev/ttyS0\n";

/// Parameters for the kernel and systemd. They disable features that take an emulated machine much
/// time and do not concern the package: mitigations for processors, terminals, and caches of files
/// that are new to the machine.
const APPEND: &str = "rdinit=/usr/lib/systemd/systemd mitigations=off systemd.getty_auto=no \
    systemd.show_status=no systemd.condition_needs_update=no systemd.condition_first_boot=no";

/// The steps of the script, in order.
static STEPS: [Step; 16] = [
    check("boots"),
    check("removes"),
    check("installs"),
    check("joins"),
    check("allocates"),
    check("keeps-devices"),
    check("refuses-strangers"),
    check("limits"),
    check("carries"),
    check("streams"),
    check("restarts"),
    check("settles"),
    check("serves-a-user"),
    check("logs"),
    check("is-secure"),
    check("upgrades"),
];
/// The step for several boots.
const BOOTS: &str = "boots";
/// The steps that need a device for dma-bufs.
const OF_DEVICES: [&str; 2] = ["keeps-devices", "settles"];

/// A release of Debian.
#[derive(Debug)]
pub(super) struct Release {
    /// Its name in Debian's archive.
    pub(super) name: &'static str,
    /// The name for messages.
    title: &'static str,
    /// The release's own kernel, one of [`KERNELS`].
    kernel: &'static str,
    /// The devices that make dma-bufs with that kernel, below `/dev`.
    devices: &'static [&'static str],
}

/// The first is the default.
pub(super) const RELEASES: [Release; 2] = [
    Release {
        name: "trixie",
        title: "Debian 13",
        kernel: "debian-6.12",
        devices: &["dma_heap/system", "udmabuf"],
    },
    Release { name: "bookworm", title: "Debian 12", kernel: "debian-6.1", devices: &[] },
];

/// Returns the release to boot; `None` if none is requested, or this user cannot create its root.
pub(super) fn wanted(args: &VmArgs) -> Option<&'static Release> {
    let release = RELEASES.iter().find(|release| release.name == args.suite);
    if args.is_systemd_one_of_all() && !is_root() {
        println!(
            "not run: Debian with systemd; only root can create its root, whose files have several owners"
        );
        return None;
    }
    release.filter(|_| args.wants_systemd())
}

impl Release {
    fn entry(&self) -> &'static Entry {
        KERNELS.iter().find(|entry| entry.name == self.kernel).expect("a test checks that it is in the list")
    }

    /// Returns the packages of Debian that it needs.
    pub(super) fn tools(&self) -> Vec<Tool> {
        let own = [needs::LINKER, needs::PC, needs::SYSTEMD, needs::DIST].concat();
        own.into_iter().chain(self.entry().tools()).collect()
    }

    /// Returns the message that its root will be created, unless the root is in the cache.
    pub(super) fn unfetched(&self, cache: &Path) -> Option<String> {
        let is_wanted = is_root() && !root::place(self, cache).is_file();
        is_wanted.then(|| format!("create a root of {} with systemd", self.title))
    }

    /// Returns the steps for its kernel.
    fn steps(&self, only_boots: bool) -> Vec<&'static Step> {
        let takes_devices = |step: &Step| OF_DEVICES.contains(&step.name);
        let is_run = |step: &&Step| {
            if only_boots { step.name == BOOTS } else { !self.devices.is_empty() || !takes_devices(step) }
        };
        STEPS.iter().filter(is_run).collect()
    }
}

/// Runs the guest, or the requested number of boots, and adds its steps to `tally`.
///
/// # Errors
/// A missing requirement, or all failures of the guest.
pub(super) fn run(release: &Release, args: &VmArgs, log: Option<PathBuf>, tally: &mut Tally) -> Result<()> {
    let cache = cache_dir()?;
    let kernel = release.entry().obtain(&cache)?;
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let steps = release.steps(args.boots.is_some());
    let initrd = initrd(release, &steps, &cache, scratch.path())?;
    let mut log = log.as_deref().map(create_log).transpose()?;
    println!("systemd: {} with {}", release.title, kernel.title);
    for _ in 0..args.boots.unwrap_or(1) {
        let emulator = || {
            let mut emulator = machine::PC.boot(&kernel.image, &initrd, APPEND);
            emulator.args(["-m", "1536M"]);
            emulator
        };
        let begin = || {
            let mut progress = Progress::of(&Course::Only(&[]));
            progress.expected.clone_from(&steps);
            progress
        };
        boot("systemd", emulator, log.as_mut(), Duration::from_secs(args.timeout), begin, tally)?;
    }
    Ok(())
}

/// Creates the archive that the kernel unpacks: the release with the package, and the guest's
/// script.
fn initrd(release: &Release, steps: &[&Step], cache: &Path, scratch: &Path) -> Result<PathBuf> {
    let root = root::obtain(release, cache)?;
    let programs = release::build()?;
    let version = env!("CARGO_PKG_VERSION");
    let mut own = Initramfs::default();
    own.directory("/srv", 0o700);
    own.file("/srv/scenario.sh", 0o644, SCRIPT);
    let lines = |words: &[&str]| words.iter().map(|word| format!("{word}\n")).collect::<String>();
    own.file("/srv/steps", 0o644, lines(&steps.iter().map(|step| step.name).collect::<Vec<_>>()));
    own.file("/srv/devices", 0o644, lines(release.devices));
    let first = install::package(&programs, version, Packing::None, scratch)?;
    own.file("/srv/anion_first.deb", 0o644, read(&first)?);
    if steps.iter().any(|step| step.name == "upgrades") {
        let pipeline = release::build_example("camera_pipeline")?;
        own.file("/usr/local/bin/camera_pipeline", 0o755, read(&pipeline)?);
        let next = install::package(&programs, &format!("{version}+upgraded"), Packing::None, scratch)?;
        own.file("/srv/anion_next.deb", 0o644, read(&next)?);
    }
    own.file("/etc/systemd/system/scenario.service", 0o644, UNIT);
    let wanted = "/etc/systemd/system/multi-user.target.wants/scenario.service";
    own.link(wanted, "/etc/systemd/system/scenario.service");
    let initrd = scratch.join("initrd");
    let mut out = File::create(&initrd).with_context(|| format!("cannot create {}", initrd.display()))?;
    root::write_installed(&root, &first, scratch, &out)?;
    // The kernel unpacks concatenated archives one after the other.
    own.write_to(&mut out)?;
    out.flush().context("cannot write the root")?;
    Ok(initrd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::workspace_root;
    use std::fs;

    #[test]
    fn the_script_runs_exactly_the_expected_steps() {
        let steps = SCRIPT.lines().filter_map(|line| line.strip_prefix("step ")?.split(' ').next());
        assert_eq!(steps.collect::<Vec<_>>(), STEPS.each_ref().map(|step| step.name));
    }

    #[test]
    fn every_release_has_its_kernel_and_the_steps_that_it_can_run() {
        for release in &RELEASES {
            let entry = release.entry();
            assert!(release.devices.iter().all(|device| entry.devices.contains(device)), "{release:?}");
            assert!(
                entry.devices.iter().all(|device| *device == "binder" || release.devices.contains(device))
            );
            assert_eq!(release.steps(true).iter().map(|step| step.name).collect::<Vec<_>>(), [BOOTS]);
        }
        assert_eq!(RELEASES.each_ref().map(|release| release.steps(false).len()), [16, 14]);
    }

    #[test]
    fn the_script_runs_every_command_of_the_page() {
        let page = fs::read_to_string(workspace_root().join("docs/linux.md")).expect("the page");
        let blocks = page.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().expect("a block"));
        let commands: Vec<&str> = blocks.flat_map(str::lines).collect();
        assert!(commands.len() > 8, "{commands:?}");
        // The step before creates the package.
        for command in commands.into_iter().filter(|command| *command != "cargo xtask dist") {
            assert!(SCRIPT.contains(command), "{command}");
        }
    }
}
