// SPDX-License-Identifier: Apache-2.0
//! Builds vkms, the kernel's virtual display, as a module for a kernel of Debian that lacks it,
//! from Debian's own source of that kernel, once, into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flate2::Crc;

use crate::debian::{Apt, move_to, scratch_in};
use crate::process::{leashed, run};

/// The folder of the module in the source, and the file that the build creates.
const PLACE: &str = "drivers/gpu/drm/vkms";
const MODULE: &str = "vkms.ko";

/// Variables for `make`: Debian's compiler under its name in the package `gcc`, and no BTF types,
/// which would need another program.
const WORDS: [&str; 4] = ["CC=gcc", "CONFIG_DRM_VKMS=m", "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"];

/// The work if the cache has no build.
pub(super) const WORK: &str =
    "download the source and the headers of Debian's 6.12 and build its module vkms, in less than a minute";

/// A kernel of Debian, from the name of its image package.
struct Debian<'a> {
    /// Such as `6.12.117+deb12-amd64`.
    release: &'a str,
    /// The version of its packages.
    version: &'a str,
}

impl<'a> Debian<'a> {
    /// Parses the name of its directory in the cache: package and version.
    fn of(directory: &'a str) -> Option<Self> {
        let (package, version) = directory.split_once('_')?;
        Some(Self { release: package.strip_prefix("linux-image-")?, version })
    }

    /// Returns the release without the flavour, which is the architecture.
    fn without_flavour(&self) -> &str {
        self.release.rsplit_once('-').map_or(self.release, |(release, _)| release)
    }

    /// Returns the name of its source package, with the first two numbers of the version.
    fn source(&self) -> String {
        let numbers: Vec<&str> = self.release.split('.').take(2).collect();
        format!("linux-source-{}", numbers.join("."))
    }

    /// Returns its own headers package.
    fn headers(&self) -> String {
        format!("linux-headers-{}", self.release)
    }

    /// Returns the headers package that it shares with other flavours.
    fn common(&self) -> String {
        format!("linux-headers-{}-common", self.without_flavour())
    }

    /// Returns the packages that building a module needs.
    fn packages(&self) -> Vec<(String, String)> {
        let programs = format!("linux-kbuild-{}", self.without_flavour());
        let names = [self.headers(), self.common(), programs, self.source()];
        names.map(|name| (name, self.version.to_owned())).into()
    }

    /// Returns the directory of its module in the cache, which depends on the version and the
    /// variables.
    fn place(&self, kernels: &Path) -> PathBuf {
        let mut sum = Crc::new();
        for word in WORDS {
            sum.update(word.as_bytes());
        }
        kernels.join(format!("vkms-{}_{}_{:08x}", self.release, self.version, sum.sum()))
    }
}

/// Returns whether the module is in the cache for the kernel with this directory.
pub(super) fn is_cached(kernel: &Path, kernels: &Path) -> bool {
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    Debian::of(&name).is_some_and(|debian| debian.place(kernels).is_dir())
}

/// Returns the module for the kernel with this package and version, built unless it is in the
/// cache.
///
/// # Errors
/// If the source or the headers of the same version are unavailable, or the build fails.
pub(super) fn obtain(title: &str, apt: &Apt, kernels: &Path) -> Result<PathBuf> {
    let debian = Debian::of(title).with_context(|| format!("{title} is no kernel of Debian"))?;
    let place = debian.place(kernels);
    if !place.is_dir() {
        build(&debian, apt, kernels, &place)
            .with_context(|| format!("cannot build the module vkms for {title}"))?;
    }
    Ok(place.join(MODULE))
}

/// Builds the module into `place`.
fn build(debian: &Debian<'_>, apt: &Apt, kernels: &Path, place: &Path) -> Result<()> {
    let scratch = scratch_in(kernels)?;
    let [unpacked, made] = ["package", "made"].map(|name| scratch.path().join(name));
    fs::create_dir(&made).with_context(|| format!("cannot create {}", made.display()))?;
    apt.unpack(&debian.packages(), &unpacked)?;
    let all = unpacked.join("usr/src");
    let source = Path::new(&debian.source()).join(PLACE);
    println!("unpacking and building vkms for {}", debian.release);
    let archive = all.join(format!("{}.tar.xz", debian.source()));
    run(Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(scratch.path()).arg(&source))?;
    let source = scratch.path().join(source);
    let mut command = leashed("nice");
    command.args(["-n", "10", "make", "-s", "-C"]).arg(all.join(debian.headers()));
    // The Makefile of its own headers names the shared one by its installed path.
    command.arg("-f").arg(all.join(debian.common()).join("Makefile"));
    command.arg(format!("M={}", source.display())).args(WORDS);
    run(command.env_remove("MAKEFLAGS"))?;
    fs::copy(source.join(MODULE), made.join(MODULE))
        .with_context(|| format!("the build made no {MODULE}"))?;
    move_to(&made, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "linux-image-6.12.117+deb12-amd64_6.12.117-1~deb12u1";

    #[test]
    fn packages_are_those_of_the_kernels_release_and_version() {
        let packages = Debian::of(KERNEL).expect("a kernel").packages();
        let names = packages.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(
            names,
            [
                "linux-headers-6.12.117+deb12-amd64",
                "linux-headers-6.12.117+deb12-common",
                "linux-kbuild-6.12.117+deb12",
                "linux-source-6.12",
            ]
        );
        assert!(packages.iter().all(|(_, version)| version == "6.12.117-1~deb12u1"));
    }

    #[test]
    fn only_a_module_of_the_same_kernel_is_taken_from_the_cache() {
        let cache = tempfile::tempdir().expect("temporary directory");
        let kernel = cache.path().join(KERNEL);
        assert!(!is_cached(&kernel, cache.path()));
        fs::create_dir(Debian::of(KERNEL).expect("a kernel").place(cache.path())).expect("created");
        assert!(is_cached(&kernel, cache.path()));
        assert!(!is_cached(&cache.path().join(KERNEL.replace("u1", "u2")), cache.path()));
        assert!(!is_cached(&cache.path().join("linux-source-5.10_5.10.262-1_00000000"), cache.path()));
    }
}
