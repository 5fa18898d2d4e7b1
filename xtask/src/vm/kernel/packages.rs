// SPDX-License-Identifier: Apache-2.0
//! Downloads Debian's own kernels with its package manager into the cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Kernel;
use crate::debian::{Apt, newest, only_entry, unpack_once};

/// A series of kernel packages, of which the newest is used.
#[derive(Debug)]
pub(super) struct Series {
    /// The beginning of the version in the package's name, up to the first number that differs
    /// within the series.
    pub(super) prefix: &'static str,
    /// The end of the package's name, which excludes flavours (`-cloud-amd64`) and by-products
    /// (`-dbg`).
    pub(super) suffix: &'static str,
    /// The prefixes of a kernel's package names, before the version; the first is that of the
    /// image.
    pub(super) packages: &'static [&'static str],
    /// The modules that the guest inserts, in this order, below `modules/RELEASE`, without `.ko`.
    pub(super) modules: &'static [&'static str],
    /// The same for cameras and graphics devices.
    pub(super) picture_modules: &'static [&'static str],
}

impl Series {
    /// Returns the newest kernel of the series, downloaded unless it is in the cache. If it is
    /// unavailable, prints the reason and returns the newest in the cache.
    ///
    /// # Errors
    /// If apt knows no such package or the download fails, and the cache has none either.
    pub(super) fn newest(&self, apt: impl FnOnce() -> Result<Apt>, cache: &Path) -> Result<Kernel> {
        let kernels = cache.join("kernels");
        let fetch = |apt: &Apt| self.fetch(&self.candidate(apt)?, apt, &kernels);
        let dir = newest(apt, "kernel", fetch, || self.newest_cached(&kernels))?;
        self.open(&dir)
    }

    /// Returns the version, as in the package's name, of the newest kernel that apt knows.
    fn candidate(&self, apt: &Apt) -> Result<String> {
        let start = self.image_start();
        let names = apt.names(&start)?;
        let Some(name) = self.choose(names.iter().map(String::as_str)) else {
            bail!("apt knows no package {start}*{}", self.suffix)
        };
        Ok(name[self.packages[0].len()..].to_owned())
    }

    /// Returns the prefix of the names of packages with images.
    fn image_start(&self) -> String {
        format!("{}{}", self.packages[0], self.prefix)
    }

    /// Returns the newest package of the series among `names`.
    fn choose<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        names.filter_map(|name| Some((self.rank(name)?, name))).max().map(|(_, name)| name)
    }

    /// Returns the numbers of a package within the series, and the suffix that distinguishes its
    /// rebuilds; `None` if the package is of another series, a flavour or a by-product.
    fn rank<'a>(&self, package: &'a str) -> Option<(Vec<u32>, &'a str)> {
        let version = package.strip_prefix(&self.image_start())?.strip_suffix(self.suffix)?;
        let (numbers, rebuild) = version.split_at(version.find('+').unwrap_or(version.len()));
        let is_plain = rebuild.chars().all(|c| c.is_ascii_alphanumeric() || "+.~".contains(c));
        let numbers = numbers.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        is_plain.then_some((numbers, rebuild))
    }

    pub(super) fn newest_cached(&self, kernels: &Path) -> Option<PathBuf> {
        let names: Vec<String> = fs::read_dir(kernels)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        let newest = names.iter().filter_map(|name| Some((self.rank(name.split_once('_')?.0)?, name)));
        newest.max().map(|(_, name)| kernels.join(name))
    }

    /// Downloads and unpacks the packages of a kernel, unless that was done before.
    fn fetch(&self, release: &str, apt: &Apt, kernels: &Path) -> Result<PathBuf> {
        let image = format!("{}{release}", self.packages[0]);
        let version = apt.version(&image)?;
        let place = kernels.join(format!("{image}_{version}"));
        let packages: Vec<_> =
            self.packages.iter().map(|start| (format!("{start}{release}"), version.clone())).collect();
        unpack_once(apt, &packages, &place, |unpacked| self.open(unpacked).map(drop))
    }

    /// Finds image and modules in an unpacked kernel.
    fn open(&self, dir: &Path) -> Result<Kernel> {
        // Newer packages use only /usr.
        let all = ["lib/modules", "usr/lib/modules"].map(|place| dir.join(place));
        let release = only_entry(all.iter().find(|place| place.is_dir()).unwrap_or(&all[0]))?;
        let name = release.file_name().unwrap_or_default().to_string_lossy();
        let file = |choices: [PathBuf; 2]| {
            choices.iter().find(|file| file.is_file()).cloned().with_context(|| {
                let [one, other] = choices.each_ref().map(|file| file.display());
                format!(
                    "the kernel's packages have neither {one} nor {other}; remove {} to fetch them again",
                    dir.display()
                )
            })
        };
        let image = file([dir.join("boot").join(format!("vmlinuz-{name}")), release.join("vmlinuz")])?;
        let modules = |names: &[&str]| -> Result<Vec<PathBuf>> {
            let file =
                |name| file([release.join(format!("{name}.ko")), release.join(format!("{name}.ko.xz"))]);
            names.iter().map(file).collect()
        };
        let title = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let [modules, picture_modules] = [modules(self.modules)?, modules(self.picture_modules)?];
        Ok(Kernel { title, image, modules, picture_modules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Series = Series {
        prefix: "6.12.",
        suffix: "-amd64",
        packages: &["linux-image-"],
        modules: &["kernel/drivers/android/binder_linux"],
        picture_modules: &[],
    };
    const SPLIT: Series = Series {
        prefix: "7.",
        suffix: "-amd64",
        packages: &["linux-binary-", "linux-modules-"],
        modules: &[],
        picture_modules: &[],
    };
    const BY_ABI: Series = Series {
        prefix: "6.1.0-",
        suffix: "-amd64",
        packages: &["linux-image-"],
        modules: &[],
        picture_modules: &[],
    };

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
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-57-cloud-amd64",
            "linux-image-6.1.0-57-amd64-dbg",
        ];
        assert_eq!(OLD.choose(names.into_iter()), Some("linux-image-6.12.107+deb12-amd64"));
        assert_eq!(OLD.choose(names[2..].iter().copied()), None);
        assert_eq!(BY_ABI.choose(names.into_iter()), Some("linux-image-6.1.0-56-amd64"));
    }

    #[test]
    fn all_numbers_of_a_version_count_and_candidates_for_release_do_not() {
        let names = [
            "linux-binary-7.2.13+deb14-amd64",
            "linux-binary-7.10.2+deb14-amd64",
            "linux-binary-7.11~rc4+deb14-amd64",
            "linux-binary-7.11.1+deb14-cloud-amd64",
            "linux-binary-unsigned-7.12.1+deb14-amd64",
            "linux-modules-7.12.1+deb14-amd64",
        ];
        assert_eq!(SPLIT.choose(names.into_iter()), Some("linux-binary-7.10.2+deb14-amd64"));
    }

    #[test]
    fn the_newest_cached_kernel_is_found() {
        let cache = tempfile::tempdir().expect("temporary directory");
        for name in
            ["linux-image-6.12.9+deb12-amd64_6.12.9-1", "linux-image-6.12.10+deb12-amd64_6.12.10-1", ".tmp"]
        {
            fs::create_dir(cache.path().join(name)).expect("created");
        }
        let newest = OLD.newest_cached(cache.path()).expect("two kernels are there");
        assert!(newest.ends_with("linux-image-6.12.10+deb12-amd64_6.12.10-1"), "{newest:?}");
        assert_eq!(OLD.newest_cached(&cache.path().join("none")), None);
    }

    #[test]
    fn image_and_modules_are_found_in_both_layouts() {
        let layouts = [
            ("boot/vmlinuz-6.12.1", "lib/modules/6.12.1/kernel/drivers/android/binder_linux.ko.xz"),
            ("usr/lib/modules/7.2.1/vmlinuz", "usr/lib/modules/7.2.1/kernel/drivers/android/binder_linux.ko"),
        ];
        for (image, module) in layouts {
            let dir = tempfile::tempdir().expect("temporary directory");
            for file in [image, module].map(|file| dir.path().join(file)) {
                fs::create_dir_all(file.parent().expect("has one")).expect("created");
                fs::write(file, "").expect("written");
            }
            let kernel = OLD.open(dir.path()).expect("all is there");
            assert_eq!(
                (kernel.image, kernel.modules),
                (dir.path().join(image), vec![dir.path().join(module)])
            );
        }
    }

    #[test]
    fn an_incomplete_package_is_named() {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(dir.path().join("lib/modules/6.12.1")).expect("created");
        fs::create_dir_all(dir.path().join("boot")).expect("created");
        fs::write(dir.path().join("boot/vmlinuz-6.12.1"), "").expect("written");
        let error = OLD.open(dir.path()).expect_err("no module is in it").to_string();
        assert!(error.contains("binder_linux.ko.xz"), "{error}");
    }
}
