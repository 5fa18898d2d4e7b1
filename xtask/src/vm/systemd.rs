// SPDX-License-Identifier: Apache-2.0
//! A Debian 13 that systemd boots: the package is installed in it, used as docs/linux.md says,
//! upgraded and removed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::guest::{Course, Progress, Step, check};
use super::initramfs::{Initramfs, read};
use super::kernel::KERNELS;
use super::{VmArgs, boot, machine};
use crate::debian::mirror;
use crate::fresh::acquire_options;
use crate::install;
use crate::needs::{self, KEYRING};
use crate::process::{output_of, run as run_program};
use crate::release;
use crate::tally::Tally;
use crate::tools::{Tool, cache_dir, ensure_tools, is_root};

/// What the guest runs.
const SCRIPT: &str = include_str!("systemd.sh");
/// Starts it once the machine is up.
const UNIT: &str = "[Unit]\nDescription=Scenario\nAfter=systemd-logind.service dbus.socket\n\n[Service]\n\
    Type=oneshot\nExecStart=/bin/sh /srv/systemd.sh\nStandardOutput=file:/dev/ttyS0\n\
    StandardError=file:/dev/ttyS0\n";

/// The steps of the script, in its order.
static STEPS: [Step; 14] = [
    check("boots"),
    check("installs"),
    check("joins"),
    check("allocates"),
    check("keeps-devices"),
    check("refuses-strangers"),
    check("limits"),
    check("restarts"),
    check("settles"),
    check("serves-a-user"),
    check("logs"),
    check("is-secure"),
    check("upgrades"),
    check("removes"),
];

/// Debian 13.
const SUITE: &str = "trixie";
/// What is in the root beside the essential packages: systemd as Debian installs it, with sessions.
const PACKAGES: &str =
    "--include=systemd-sysv,udev,libpam-systemd,dbus,dbus-user-session,passwd,kmod,libgcc-s1";
/// What is left out of them.
const LEFT_OUT: [&str; 4] =
    ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/lib/udev/hwdb*"];
/// Writes the root as the kernel unpacks it, from the directory that mmdebstrap names.
const PACK: &str = "cd \"$1\" && rm -rf var/cache/apt/* var/lib/apt/lists/* usr/sbin/policy-rc.d && find . -xdev -print0 | cpio -0 -o -H newc --quiet";
/// The root in the cache. The number changes with what is in it.
const ROOT: &str = "debian-13-systemd-1.cpio";

/// What it takes of Debian's packages.
pub(super) const TOOLS: [&[Tool]; 4] = [needs::LINKER, needs::PC, needs::SYSTEMD, needs::DIST];

/// Runs the guest and adds its steps to `tally`.
///
/// # Errors
/// What is missing to run it, or everything that went wrong in it.
pub(super) fn run(args: &VmArgs, tally: &mut Tally) -> Result<()> {
    ensure_tools(&TOOLS.concat().into_iter().chain(KERNELS[0].tools()).collect::<Vec<_>>())?;
    let cache = cache_dir()?;
    let kernel = KERNELS[0].obtain(&cache)?;
    let root = root(&cache)?;
    let programs = release::build()?;
    let scratch = tempfile::tempdir().context("no scratch directory")?;
    let mut own = Initramfs::default();
    own.directory("/srv", 0o700);
    own.file("/srv/systemd.sh", 0o644, SCRIPT);
    let version = env!("CARGO_PKG_VERSION");
    for (name, version) in [("first", version.to_owned()), ("next", format!("{version}+upgraded"))] {
        let package = install::package(&programs, &version, scratch.path())?;
        own.file(format!("/srv/anion_{name}.deb"), 0o644, read(&package)?);
    }
    own.file("/etc/systemd/system/scenario.service", 0o644, UNIT);
    let wanted = "/etc/systemd/system/multi-user.target.wants/scenario.service";
    own.link(wanted, "/etc/systemd/system/scenario.service");
    let initrd = scratch.path().join("initrd");
    join(&root, &own, &initrd)?;
    let append = "rdinit=/usr/lib/systemd/systemd systemd.getty_auto=no systemd.show_status=no";
    let mut emulator = machine::PC.boot(&kernel.image, &initrd, append);
    emulator.args(["-m", "1536M"]);
    let log = args.keep_log.as_deref().map(File::create).transpose().context("cannot create the log")?;
    println!("systemd: Debian 13 with {}", kernel.title);
    let mut progress = Progress::of(&Course::Only(&[]));
    progress.expected = STEPS.iter().collect();
    boot("systemd", emulator, log, Duration::from_secs(args.timeout), progress, tally)
}

/// Writes the kernel's archives one after the other: what comes later is added.
fn join(root: &Path, own: &Initramfs, initrd: &Path) -> Result<()> {
    let mut out = File::create(initrd).with_context(|| format!("cannot create {}", initrd.display()))?;
    let mut root = File::open(root).with_context(|| format!("cannot read {}", root.display()))?;
    io::copy(&mut root, &mut out).context("cannot write the root")?;
    own.write_to(&mut out)?;
    out.flush().context("cannot write the root")
}

/// Returns the root with systemd, made of Debian's packages unless it is in the cache.
fn root(cache: &Path) -> Result<PathBuf> {
    let root = cache.join(ROOT);
    if root.is_file() {
        return Ok(root);
    }
    ensure!(is_root(), "only root can make {}: its files have owners", root.display());
    println!("making a root of Debian 13 with systemd, once");
    fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let new = tempfile::NamedTempFile::new_in(cache).context("no place in the cache")?;
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=essential", "--mode=root", "--format=null", PACKAGES]);
    make.args(LEFT_OUT.map(|files| format!("--dpkgopt=path-exclude={files}")));
    make.args(acquire_options(&output_of(Command::new("apt-config").arg("dump"))?));
    make.arg(format!("--customize-hook={PACK} >'{}'", new.path().display()));
    let keyring = KEYRING.program;
    let source = |mirror: &str, suite: &str| format!("deb [signed-by={keyring}] {mirror} {suite} main");
    make.args([SUITE, "-"]).arg(source(&mirror("Debian")?, SUITE));
    run_program(make.arg(source(&mirror("Debian-Security")?, "trixie-security")))?;
    new.persist(&root).with_context(|| format!("cannot write {}", root.display()))?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::workspace_root;

    #[test]
    fn the_script_runs_exactly_the_expected_steps() {
        let steps = SCRIPT.lines().filter_map(|line| line.strip_prefix("step ")?.split(' ').next());
        assert_eq!(steps.collect::<Vec<_>>(), STEPS.each_ref().map(|step| step.name));
    }

    #[test]
    fn the_script_runs_every_command_of_the_page() {
        let page = fs::read_to_string(workspace_root().join("docs/linux.md")).expect("the page");
        let blocks = page.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().expect("a block"));
        let commands: Vec<&str> = blocks.flat_map(str::lines).collect();
        assert!(commands.len() > 8, "{commands:?}");
        // The step before makes the package.
        for command in commands.into_iter().filter(|command| *command != "cargo xtask dist") {
            assert!(SCRIPT.contains(command), "{command}");
        }
    }
}
