// SPDX-License-Identifier: Apache-2.0
//! Debian's own kernels, fetched with its package manager into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::process::{output_of, run};
use crate::tools::{apt_update, is_root};

/// A series of kernel packages, of which the newest is taken.
#[derive(Debug)]
pub(super) struct Series {
    /// What people call it.
    pub(super) name: &'static str,
    /// What the package name starts with, up to the number within the series.
    prefix: &'static str,
    /// What the package name ends with. Flavours (`-cloud-amd64`) and by-products (`-dbg`) do not fit.
    suffix: &'static str,
    /// The modules that the guest inserts, in this order, below `/lib/modules/RELEASE`.
    modules: &'static [&'static str],
}

/// The kernels that a guest can be booted with.
pub(super) const SERIES: [Series; 1] = [Series {
    name: "Debian 6.12",
    prefix: "linux-image-6.12.",
    suffix: "-amd64",
    // Binder without binderfs; dma-heap and udmabuf are built in. Compressed swap, as devices have it.
    modules: &[
        "kernel/drivers/android/binder_linux.ko.xz",
        "kernel/lib/lz4/lz4_compress.ko.xz",
        "kernel/lib/lz4/lz4hc_compress.ko.xz",
        "kernel/drivers/block/zram/zram.ko.xz",
    ],
}];

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Package and version.
    pub(super) title: String,
    /// The image to boot.
    pub(super) image: PathBuf,
    /// The modules to insert, in this order, as packed (`.ko.xz`).
    pub(super) modules: Vec<PathBuf>,
}

impl Series {
    /// The newest kernel of the series, downloaded unless it is in the cache.
    ///
    /// # Errors
    /// If apt knows no such package and the cache has none either, or the download fails.
    pub(super) fn newest(&self, cache: &Path) -> Result<Kernel> {
        let kernels = cache.join("kernels");
        match self.candidate() {
            Ok(package) => match fetch(&package, &kernels) {
                Ok(dir) => self.open(&dir),
                // A package list older than the mirror names files that are gone.
                Err(_) if is_root() => {
                    apt_update()?;
                    self.open(&fetch(&self.candidate()?, &kernels)?)
                }
                Err(error) => {
                    Err(error.context("if apt's package lists are old, run as root: apt-get update"))
                }
            },
            Err(error) => {
                let Some(dir) = self.newest_cached(&kernels) else { return Err(error) };
                println!("{error:#}; taking the newest kernel of the cache");
                self.open(&dir)
            }
        }
    }

    /// The newest package that apt knows.
    fn candidate(&self) -> Result<String> {
        if let Some(package) = self.known_to_apt()? {
            return Ok(package);
        }
        if is_root() {
            apt_update()?;
            if let Some(package) = self.known_to_apt()? {
                return Ok(package);
            }
        }
        bail!(
            "apt knows no package {}*{}: the Debian suite must have the {} kernel{}",
            self.prefix,
            self.suffix,
            self.name,
            if is_root() { "" } else { " and its lists must be there (as root: apt-get update)" }
        )
    }

    fn known_to_apt(&self) -> Result<Option<String>> {
        let names = output_of(Command::new("apt-cache").args(["pkgnames", self.prefix]))?;
        Ok(self.choose(names.lines()).map(str::to_owned))
    }

    /// The newest package of the series among `names`.
    fn choose<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        names.filter_map(|name| Some((self.rank(name)?, name))).max().map(|(_, name)| name)
    }

    /// The number of a package within the series and what distinguishes rebuilds of it; `None` if the package is
    /// of another series, a flavour or a by-product.
    fn rank<'a>(&self, package: &'a str) -> Option<(u32, &'a str)> {
        let version = package.strip_prefix(self.prefix)?.strip_suffix(self.suffix)?;
        let (number, rebuild) = version.split_at(version.find('+').unwrap_or(version.len()));
        let is_plain = rebuild.chars().all(|c| c.is_ascii_alphanumeric() || "+.~".contains(c));
        number.parse().ok().filter(|_| is_plain).map(|number| (number, rebuild))
    }

    fn newest_cached(&self, kernels: &Path) -> Option<PathBuf> {
        let names: Vec<String> = fs::read_dir(kernels)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        let package = |name: &str| name.split_once('_').map(|(package, _)| package.to_owned());
        let newest = names.iter().filter_map(|name| {
            let package = package(name)?;
            Some((self.rank(&package).map(|(number, rebuild)| (number, rebuild.to_owned()))?, name))
        });
        newest.max().map(|(_, name)| kernels.join(name))
    }

    /// Finds image and modules in an unpacked package.
    fn open(&self, dir: &Path) -> Result<Kernel> {
        let release = only_entry(&dir.join("lib/modules"))?;
        let release_name = release.file_name().unwrap_or_default().to_string_lossy();
        let image = dir.join("boot").join(format!("vmlinuz-{release_name}"));
        let modules: Vec<PathBuf> = self.modules.iter().map(|module| release.join(module)).collect();
        for file in modules.iter().chain([&image]) {
            if !file.is_file() {
                bail!(
                    "the kernel package has no {}; remove {} to fetch it anew",
                    file.display(),
                    dir.display()
                );
            }
        }
        let title = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Kernel { title, image, modules })
    }
}

/// The only entry of a directory.
fn only_entry(dir: &Path) -> Result<PathBuf> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    match list().with_context(|| format!("cannot list {}", dir.display()))?.as_slice() {
        [one] => Ok(one.clone()),
        entries => Err(anyhow!("{} has {} entries instead of one", dir.display(), entries.len())),
    }
}

/// Downloads and unpacks the current version of `package` unless that was done before.
fn fetch(package: &str, kernels: &Path) -> Result<PathBuf> {
    let record = output_of(Command::new("apt-cache").args(["show", "--no-all-versions", package]))?;
    let version = version_field(&record).with_context(|| format!("apt shows no version of {package}"))?;
    let dir = kernels.join(format!("{package}_{version}"));
    if dir.is_dir() {
        return Ok(dir);
    }
    fs::create_dir_all(kernels).with_context(|| format!("cannot create {}", kernels.display()))?;
    // Unpacked beside its place and moved there when whole: two runs at once do not meet half a kernel.
    let scratch = tempfile::tempdir_in(kernels).context("no scratch directory in the cache")?;
    println!("downloading {package} {version}");
    run(Command::new("apt-get")
        .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
        .arg(format!("{package}={version}"))
        .current_dir(scratch.path()))?;
    let archive = only_entry(scratch.path())?;
    let unpacked = scratch.path().join("unpacked");
    run(Command::new("dpkg-deb").arg("-x").args([&archive, &unpacked]))?;
    match fs::rename(&unpacked, &dir) {
        Err(error) if !dir.is_dir() => {
            Err(error).with_context(|| format!("cannot move the kernel to {}", dir.display()))
        }
        _ => Ok(dir),
    }
}

/// The version in the record that `apt-cache show` prints.
fn version_field(record: &str) -> Option<&str> {
    record.lines().find_map(|line| line.strip_prefix("Version: ")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_plain_image_is_chosen_by_number() {
        let names = [
            "linux-image-6.12.99+deb12-amd64",
            "linux-image-6.12.107+deb12-amd64",
            "linux-image-6.12.117+deb12-amd64-unsigned",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.118+deb12-rt-amd64",
            "linux-image-6.12.119+deb12-amd64-dbg",
            "linux-image-6.12-amd64",
            "linux-image-6.1.0-56-amd64",
        ];
        assert_eq!(SERIES[0].choose(names.into_iter()), Some("linux-image-6.12.107+deb12-amd64"));
        assert_eq!(SERIES[0].choose(names[2..].iter().copied()), None);
    }

    #[test]
    fn the_newest_cached_kernel_is_found() {
        let cache = tempfile::tempdir().expect("temporary directory");
        for name in
            ["linux-image-6.12.9+deb12-amd64_6.12.9-1", "linux-image-6.12.10+deb12-amd64_6.12.10-1", ".tmp"]
        {
            fs::create_dir(cache.path().join(name)).expect("created");
        }
        let newest = SERIES[0].newest_cached(cache.path()).expect("two kernels are there");
        assert!(newest.ends_with("linux-image-6.12.10+deb12-amd64_6.12.10-1"), "{newest:?}");
        assert_eq!(SERIES[0].newest_cached(&cache.path().join("none")), None);
    }

    #[test]
    fn an_incomplete_package_is_named() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(dir.path().join("lib/modules/6.12.1")).expect("created");
        let error = SERIES[0].open(dir.path()).expect_err("nothing is in it").to_string();
        assert!(error.contains("binder_linux.ko.xz"), "{error}");
    }

    #[test]
    fn the_version_is_read_from_the_record() {
        let record = "Package: linux-image\nSource: linux (1.2)\nVersion: 6.12.117-1~deb12u1\nSize: 3\n";
        assert_eq!(version_field(record), Some("6.12.117-1~deb12u1"));
        assert_eq!(version_field("Package: x\n"), None);
    }
}
