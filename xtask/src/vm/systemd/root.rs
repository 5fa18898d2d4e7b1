// SPDX-License-Identifier: Apache-2.0
//! Creates the root of a release with systemd from Debian's packages, once, and installs the
//! package into it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Release;
use crate::debian::mirror;
use crate::fresh::acquire_options;
use crate::needs::KEYRING;
use crate::process::{output_of, run};
use crate::tools::is_root;

/// The packages in a root beside the essential ones: systemd as Debian installs it, with sessions
/// and its own source of users.
const PACKAGES: &str =
    "--include=systemd-sysv,udev,libpam-systemd,libnss-systemd,dbus,dbus-user-session,passwd,kmod,libgcc-s1";
/// Paths that are removed from them.
const LEFT_OUT: [&str; 4] =
    ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/lib/udev/hwdb*"];
/// Packs a directory as a root for the kernel.
const PACK: &str = "cd \"$1\" && rm -rf var/cache/apt/* var/lib/apt/lists/* usr/sbin/policy-rc.d && find . -xdev -print0 | cpio -0 -o -H newc --quiet";
/// Installs the package at `/anion.deb` into a root that is not booted, as for a machine image, and
/// adds the users; alice is permitted to allocate.
const INSTALL: &str = "dpkg -i /anion.deb && rm /anion.deb && \
    useradd --create-home --uid 1000 alice && useradd --create-home --uid 1001 bob && \
    usermod -aG anion-clients alice";

/// Returns the path of the root in the cache. Its number depends on the contents.
pub(super) fn place(release: &Release, cache: &Path) -> PathBuf {
    cache.join(format!("{}-systemd-2.cpio", release.name))
}

/// Returns the root of a release with systemd, created from Debian's packages unless it is in the
/// cache.
///
/// # Errors
/// If the packages are unavailable, or this process is not root.
pub(super) fn obtain(release: &Release, cache: &Path) -> Result<PathBuf> {
    let root = place(release, cache);
    if root.is_file() {
        return Ok(root);
    }
    ensure!(is_root(), "only root can create {}, whose files have several owners", root.display());
    println!("creating a root of {} with systemd, once", release.title);
    let new = tempfile::NamedTempFile::new_in(cache).context("cannot create a file in the cache")?;
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=essential", "--mode=root", "--format=null", PACKAGES]);
    make.args(LEFT_OUT.map(|files| format!("--dpkgopt=path-exclude={files}")));
    make.args(acquire_options(&output_of(Command::new("apt-config").arg("dump"))?));
    make.arg(format!("--customize-hook={PACK} >'{}'", new.path().display()));
    let source =
        |mirror: &str, suite: &str| format!("deb [signed-by={}] {mirror} {suite} main", KEYRING.program);
    make.args([release.name, "-"]).arg(source(&mirror("Debian")?, release.name));
    let security = format!("{}-security", release.name);
    run(make.arg(source(&mirror("Debian-Security")?, &security)))?;
    new.persist(&root).with_context(|| format!("cannot write {}", root.display()))?;
    Ok(root)
}

/// Writes the root with the package installed, and with two users, to `out`.
///
/// # Errors
/// If the package cannot be installed, or this process is not root.
pub(super) fn write_installed(root: &Path, package: &Path, scratch: &Path, out: &File) -> Result<()> {
    ensure!(is_root(), "only root can install the package into a root, whose files have several owners");
    let directory = scratch.join("root");
    fs::create_dir(&directory).context("cannot create a scratch directory")?;
    let archive = File::open(root).with_context(|| format!("cannot read {}", root.display()))?;
    let mut unpack = Command::new("cpio");
    unpack.args(["-idm", "--quiet", "-D"]).arg(&directory).stdin(archive);
    run(&mut unpack)?;
    fs::copy(package, directory.join("anion.deb")).context("cannot copy the package")?;
    let mut install = Command::new("chroot");
    install.arg(&directory).args(["sh", "-c", INSTALL]).env_clear();
    run(install.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C"))?;
    let out = out.try_clone().context("cannot write the root")?;
    let mut pack = Command::new("sh");
    run(pack.args(["-c", PACK, "sh"]).arg(&directory).stdout(out))
}
