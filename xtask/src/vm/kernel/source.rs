// SPDX-License-Identifier: Apache-2.0
//! Builds the last long-term kernel with ION from Debian's source, once, into the cache.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use flate2::Crc;

use super::Kernel;
use crate::debian::{Apt, Suite, move_to, scratch_in};
use crate::process::{each_line, leashed, line_of, quietly, run};

/// Linux 5.11 removed ION.
const PACKAGE: &str = "linux-source-5.10";
const SUITE: Suite = Suite { archive: "Debian-Security", name: "bullseye-security", foreign: &[] };

/// The configuration beyond `tinyconfig`.
const FRAGMENT: &str = include_str!("ion.fragment");

/// The only change to the source: on x86, 5.10 accepts a device tree from the boot loader only in
/// the configuration for a set-top box. The change is inserted after the anchor.
const KCONFIG: &str = "arch/x86/Kconfig";
const KCONFIG_ANCHOR: &str = "config X86\n\tdef_bool y\n";
const KCONFIG_LINE: &str = "\tselect OF_EARLY_FLATTREE if OF\n";

/// The work if the cache has no build.
pub(super) const WORK: &str =
    "download linux-source-5.10 and build a kernel with ION from it, which takes about 3 minutes";

/// Approximate number of lines that `make` prints, for the progress.
const LINES: usize = 1260;
const PROGRESS: Duration = Duration::from_secs(30);

/// Lines that are shown of a failed build.
const LAST_LINES: usize = 40;

/// Returns the newest kernel whose source the suite has, built unless it is in the cache. If the
/// suite does not answer, prints the reason and returns the newest in the cache.
///
/// # Errors
/// If the source is unavailable or cannot be built.
pub(super) fn newest(cache: &Path) -> Result<Kernel> {
    let kernels = cache.join("kernels");
    let known = || -> Result<(Apt, String)> {
        let apt = Apt::of_suite(&SUITE, cache)?;
        let version = apt.version(PACKAGE)?;
        Ok((apt, version))
    };
    match known() {
        Ok((apt, version)) => {
            let dir = kernels.join(key(&version));
            if !dir.is_dir() {
                build(&apt, &version, &kernels, &dir)?;
            }
            open(&dir)
        }
        Err(error) => {
            let Some(dir) = newest_cached(&kernels) else { return Err(error) };
            println!("{error:#}; using the newest kernel in the cache");
            open(&dir)
        }
    }
}

/// Returns the name of a build in the cache, which depends on the version, the configuration and
/// the change to the source.
fn key(version: &str) -> String {
    format!("{PACKAGE}_{version}_{}", recipe())
}

/// Returns a checksum of the configuration and the change.
fn recipe() -> String {
    let mut sum = Crc::new();
    for text in [FRAGMENT, KCONFIG_LINE] {
        sum.update(text.as_bytes());
    }
    format!("{:08x}", sum.sum())
}

/// Returns the newest build with the current configuration.
pub(super) fn newest_cached(kernels: &Path) -> Option<PathBuf> {
    let (start, end) = (format!("{PACKAGE}_"), format!("_{}", recipe()));
    let builds = fs::read_dir(kernels).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let version = path.file_name()?.to_str()?.strip_prefix(&start)?.strip_suffix(&end)?;
        let numbers: Vec<u32> =
            version.split(['.', '-', '+']).filter_map(|number| number.parse().ok()).collect();
        Some((numbers, path))
    });
    builds.max().map(|(_, path)| path)
}

fn open(dir: &Path) -> Result<Kernel> {
    let image = dir.join("bzImage");
    ensure!(image.is_file(), "{} is missing; remove {} to build it again", image.display(), dir.display());
    let title = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Kernel { title, image, modules: Vec::new(), picture_modules: Vec::new() })
}

/// Builds the kernel into `dir`: image and configuration.
fn build(apt: &Apt, version: &str, kernels: &Path, dir: &Path) -> Result<()> {
    let scratch = scratch_in(kernels)?;
    let (unpacked, objects, made) =
        (scratch.path().join("package"), scratch.path().join("objects"), scratch.path().join("made"));
    for directory in [&objects, &made] {
        fs::create_dir(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    apt.unpack(&[(PACKAGE.to_owned(), version.to_owned())], &unpacked)?;
    println!("unpacking the source");
    let archive = unpacked.join("usr/src").join(format!("{PACKAGE}.tar.xz"));
    run(Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(scratch.path()))?;
    let source = scratch.path().join(PACKAGE);

    change(&source.join(KCONFIG))?;
    configure(&source, &objects)?;
    println!("building {PACKAGE} {version} with ION into the cache, once: about 3 minutes on two idle cores");
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = make(&source, &objects);
    follow(command.arg(format!("-j{jobs}")).arg("bzImage"))?;

    for (from, to) in [("arch/x86/boot/bzImage", "bzImage"), (".config", "config")] {
        fs::copy(objects.join(from), made.join(to)).with_context(|| format!("the build made no {from}"))?;
    }
    move_to(&made, dir)
}

/// Returns `make` for a build outside the source, with background priority.
fn make(source: &Path, objects: &Path) -> Command {
    let mut command = leashed("nice");
    // A name and a time in the image would make all builds different.
    command.args(["-n", "10", "make", "-C"]).arg(source).arg(format!("O={}", objects.display()));
    command.args(["KBUILD_BUILD_USER=anion", "KBUILD_BUILD_HOST=anion", "KBUILD_BUILD_TIMESTAMP=1970-01-01"]);
    command.env_remove("MAKEFLAGS");
    command
}

/// Makes the only change to the source.
fn change(kconfig: &Path) -> Result<()> {
    let text = fs::read_to_string(kconfig).with_context(|| format!("cannot read {}", kconfig.display()))?;
    fs::write(kconfig, changed(&text)?).with_context(|| format!("cannot write {}", kconfig.display()))
}

fn changed(kconfig: &str) -> Result<String> {
    match kconfig.split(KCONFIG_ANCHOR).collect::<Vec<_>>().as_slice() {
        [before, after] => Ok(format!("{before}{KCONFIG_ANCHOR}{KCONFIG_LINE}{after}")),
        parts => Err(anyhow!(
            "{KCONFIG} has {} places that begin with {KCONFIG_ANCHOR:?} instead of one",
            parts.len() - 1
        )),
    }
}

/// Configures the kernel, and checks that the result has all options of the fragment.
fn configure(source: &Path, objects: &Path) -> Result<()> {
    let config = objects.join(".config");
    quietly(make(source, objects).args(["-s", "tinyconfig"]))?;
    let tiny =
        fs::read_to_string(&config).context("cannot read the configuration that the source generated")?;
    // The last setting of an option counts.
    fs::write(&config, format!("{tiny}{FRAGMENT}")).context("cannot write the configuration")?;
    quietly(make(source, objects).args(["-s", "olddefconfig"]))?;
    let finished = fs::read_to_string(&config).context("cannot read the finished configuration")?;
    let refused = refused(&finished);
    ensure!(refused.is_empty(), "the kernel's configuration lacks these options: {}", refused.join(", "));
    Ok(())
}

/// Returns the lines of the fragment that a finished configuration lacks. Disabled options are
/// absent in it.
fn refused(finished: &str) -> Vec<&'static str> {
    let holds = |line: &str| match line.strip_suffix("=n") {
        Some(option) => !finished.lines().any(|other| other.starts_with(&format!("{option}="))),
        None => finished.lines().any(|other| other == line),
    };
    FRAGMENT.lines().filter(|line| line.starts_with("CONFIG_") && !holds(line)).collect()
}

/// Runs a build and prints its progress from time to time; prints its last lines if it fails.
fn follow(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    let start = Instant::now();
    let (mut told, mut count, mut last) = (start, 0, VecDeque::new());
    let status = each_line(command, |text| {
        count += 1;
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            println!("{:4} s, {count} of about {LINES} steps: {}", start.elapsed().as_secs(), text.trim());
        }
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text.to_owned());
    })?;
    if !status.success() {
        println!("{}", last.make_contiguous().join("\n"));
    }
    ensure!(status.success(), "`{line}` failed: {status}");
    println!("built in {} s, {count} steps", start.elapsed().as_secs());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_goes_into_the_only_place() {
        let before = "config X86_64\n\tdef_bool y\nconfig X86\n\tdef_bool y\n\t#\n";
        let after =
            "config X86_64\n\tdef_bool y\nconfig X86\n\tdef_bool y\n\tselect OF_EARLY_FLATTREE if OF\n\t#\n";
        assert_eq!(changed(before).expect("one place"), after);
        changed("config ARM\n").expect_err("no place");
        changed(&before.repeat(2)).expect_err("two places");
    }

    #[test]
    fn every_line_of_the_fragment_must_hold() {
        let finished = FRAGMENT
            .lines()
            .map(|line| match line.strip_suffix("=n") {
                Some(option) => format!("# {option} is not set\n"),
                None => format!("{line}\n"),
            })
            .collect::<String>();
        assert!(refused(&finished).is_empty());
        assert_eq!(refused(&finished.replace("CONFIG_ION=y\n", "")), ["CONFIG_ION=y"]);
        assert_eq!(refused(&format!("{finished}CONFIG_VT=y\n")), ["CONFIG_VT=n"]);
    }

    #[test]
    fn no_option_of_the_fragment_is_set_twice() {
        for line in FRAGMENT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (option, value) = line.split_once('=').expect("OPTION=VALUE");
            assert!(option.starts_with("CONFIG_") && !value.is_empty(), "{line}");
            let lines = FRAGMENT.lines().filter(|other| other.starts_with(&format!("{option}=")));
            assert_eq!(lines.count(), 1, "{option}");
        }
    }

    #[test]
    fn the_newest_build_of_this_recipe_is_found() {
        let cache = tempfile::tempdir().expect("temporary directory");
        for name in [key("5.10.99-1"), key("5.10.262-1"), format!("{PACKAGE}_5.10.300-1_00000000")] {
            fs::create_dir(cache.path().join(name)).expect("created");
        }
        let newest = newest_cached(cache.path()).expect("two builds are there");
        assert!(newest.ends_with(key("5.10.262-1")), "{newest:?}");
        open(&newest).expect_err("there is no image in it");
    }

    #[test]
    fn a_failing_build_is_an_error() {
        follow(Command::new("sh").args(["-c", "echo CC a.o; exit 2"])).expect_err("it failed");
        follow(Command::new("sh").args(["-c", "echo CC a.o"])).expect("it did not");
    }
}
