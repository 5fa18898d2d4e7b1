// SPDX-License-Identifier: Apache-2.0
//! Lists the files of Debian's packages that the steps need: every program that is started, every
//! library and header that is linked or compiled against. `scan.rs` compares the lists with the
//! sources, the step `packages` compares them with Debian's package manager.

#[cfg(test)]
mod scan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{find_program, output_of};
use crate::tally::Tally;
use crate::tools::Tool;

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// The linker of Rust programs on this machine, including build scripts.
pub(crate) const LINKER: &[Tool] = &[tool("cc", "gcc"), tool("/usr/include/stdlib.h", "libc6-dev")];

/// Programs that create private environments for services.
pub(crate) const SURROUNDINGS: &[Tool] = &[tool("mount", "mount")];

/// The keys with which Debian signs its archives: packages of other suites are verified with them.
pub(crate) const KEYRING: Tool =
    tool("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring");

/// For packages that are downloaded and unpacked, not installed.
pub(crate) const ARCHIVE: &[Tool] = &[KEYRING, tool("xz", "xz-utils")];

/// The policy's macro processor, compilers and query tools.
pub(crate) const SEPOLICY: &[Tool] = &[
    tool("m4", "m4"),
    tool("checkpolicy", "checkpolicy"),
    tool("secilc", "secilc"),
    tool("sesearch", "setools"),
    tool("seinfo", "setools"),
    tool("selabel_lookup", "selinux-utils"),
    tool("setfilecon", "selinux-utils"),
];

/// The formatter of Android.bp.
pub(crate) const BPFMT: &[Tool] = &[tool("bpfmt", "blueprint-tools")];

/// Tools that generate the bindings of Android's binder library.
pub(crate) const BINDINGS: &[Tool] = &[
    tool("g++", "g++"),
    tool("/usr/lib/llvm-14/lib/libclang.so.1", "libclang1-14"),
    tool("/usr/lib/llvm-14/lib/clang/14.0.6/include/stddef.h", "libclang-common-14-dev"),
];

/// Tools that link, inspect and test libanion. The sanitizers of clang are a separate package; that
/// of gcc comes with gcc.
pub(crate) const LIBANION: &[Tool] = &[
    tool("ar", "binutils"),
    tool("clang", "clang"),
    tool("clang++", "clang"),
    tool("/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.asan-x86_64.a", "libclang-rt-14-dev"),
    tool("g++", "g++"),
    tool("man", "man-db"),
    tool("nm", "binutils"),
    tool("objcopy", "binutils"),
    tool("pkg-config", "pkgconf"),
    tool("readelf", "binutils"),
];

/// The compiler of the fuzzers' runtime.
pub(crate) const FUZZ: &[Tool] = &[tool("g++", "g++")];

/// Tools that build and test the Python package, beside those that pip installs.
pub(crate) const PYTHON: &[Tool] = &[
    tool("/usr/bin/python3", "python3-minimal"),
    tool("/usr/lib/python3.11/ensurepip/__init__.py", "python3.11-venv"),
];

/// Tools that build the root of the guest with systemd.
pub(crate) const SYSTEMD: &[Tool] = &[KEYRING, tool("mmdebstrap", "mmdebstrap"), tool("cpio", "cpio")];

/// Tools that build the package for Debian.
pub(crate) const DIST: &[Tool] = &[tool("readelf", "binutils"), tool("strip", "binutils")];

/// The browser that renders the page of `anionctl report`, and its fonts.
pub(crate) const BROWSER: &[Tool] = &[
    tool("chromium-headless-shell", "chromium-headless-shell"),
    tool("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "fonts-dejavu-core"),
];

/// Tools that build every guest.
pub(crate) const GUEST: &[Tool] = &[tool("busybox", "busybox-static"), tool("strip", "binutils")];

/// The emulator of a PC.
pub(crate) const PC: &[Tool] = &[tool("qemu-system-x86_64", "qemu-system-x86")];

/// The emulator of a 64-bit ARM machine, the linker of programs for it, and the libraries that they
/// need there: the compiler only recommends the C library.
pub(crate) const ARM64: &[Tool] = &[
    tool("qemu-system-aarch64", "qemu-system-arm"),
    tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    tool("aarch64-linux-gnu-strip", "binutils-aarch64-linux-gnu"),
    tool("/usr/aarch64-linux-gnu/lib/crt1.o", "libc6-dev-arm64-cross"),
    tool("/usr/aarch64-linux-gnu/lib/libc.so.6", "libc6-arm64-cross"),
    tool("/usr/aarch64-linux-gnu/lib/libgcc_s.so.1", "libgcc-s1-arm64-cross"),
    tool("readelf", "binutils"),
];

/// The linker of C programs for 32-bit ARM.
pub(crate) const ARM32: &[Tool] = &[
    tool("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
    tool("/usr/arm-linux-gnueabihf/lib/crt1.o", "libc6-dev-armhf-cross"),
];

/// Tools that build a kernel, beside awk, which the Essential base-files depends on.
pub(crate) const KERNEL: &[Tool] = &[
    tool("make", "make"),
    tool("gcc", "gcc"),
    tool("ld", "binutils"),
    tool("flex", "flex"),
    tool("bison", "bison"),
    tool("bc", "bc"),
    tool("/usr/include/gelf.h", "libelf-dev"),
    tool("/usr/include/stdlib.h", "libc6-dev"),
];

/// Headers that the programs for cameras and graphics devices need, beside the linker.
pub(crate) const PICTURES: &[Tool] = &[
    tool("ar", "binutils"),
    tool("objcopy", "binutils"),
    tool("/usr/include/linux/videodev2.h", "linux-libc-dev"),
    tool("/usr/include/xf86drm.h", "libdrm-dev"),
];

/// Tools that compile a device tree, change it by overlays, and read blobs.
pub(crate) const DEVICE_TREE: &[Tool] = &[
    tool("dtc", "device-tree-compiler"),
    tool("fdtget", "device-tree-compiler"),
    tool("fdtoverlay", "device-tree-compiler"),
];

/// The tracer of system calls.
pub(crate) const TRACER: &[Tool] = &[tool("strace", "strace")];

/// Tools that create a Debian and enter it, only for `cargo xtask fresh`: the test command does not
/// require them.
pub(crate) const FRESH: &[Tool] = &[tool("mmdebstrap", "mmdebstrap"), tool("git", "git")];

/// The checker of the package for Debian, only for `cargo xtask dist --lint`: 124 packages.
pub(crate) const LINTIAN: &[Tool] = &[tool("lintian", "lintian")];

/// All of the lists of the test command.
pub(crate) const EVERYTHING: &[&[Tool]] = &[
    LINKER,
    SURROUNDINGS,
    ARCHIVE,
    SEPOLICY,
    BPFMT,
    BINDINGS,
    LIBANION,
    FUZZ,
    PYTHON,
    DIST,
    BROWSER,
    GUEST,
    PC,
    ARM64,
    ARM32,
    KERNEL,
    DEVICE_TREE,
    PICTURES,
    SYSTEMD,
    TRACER,
];

/// Programs of every Debian, which are not installed: from Essential packages, and from apt itself.
const BASE: &[Tool] = &[
    tool("apt-cache", "apt"),
    tool("apt-config", "apt"),
    tool("apt-get", "apt"),
    tool("bash", "bash"),
    tool("cat", "coreutils"),
    tool("chroot", "coreutils"),
    tool("cmp", "diffutils"),
    tool("cp", "coreutils"),
    tool("dpkg", "dpkg"),
    tool("dpkg-deb", "dpkg"),
    tool("dpkg-query", "dpkg"),
    tool("env", "coreutils"),
    tool("false", "coreutils"),
    tool("find", "findutils"),
    tool("ldd", "libc-bin"),
    tool("ls", "coreutils"),
    tool("md5sum", "coreutils"),
    tool("nice", "coreutils"),
    tool("nsenter", "util-linux"),
    // For the kernel's build.
    tool("perl", "perl-base"),
    tool("prlimit", "util-linux"),
    tool("setpriv", "util-linux"),
    tool("setsid", "util-linux"),
    tool("sh", "dash"),
    tool("sha1sum", "coreutils"),
    tool("sleep", "coreutils"),
    tool("sort", "coreutils"),
    tool("tar", "tar"),
    tool("true", "coreutils"),
    tool("unshare", "util-linux"),
    tool("wc", "coreutils"),
    tool("xargs", "findutils"),
];

/// Checks that every program, library and header is in its listed package, and that the programs of
/// `BASE` are on every Debian.
///
/// # Errors
/// The wrong entries, or dpkg's error.
pub(crate) fn check(tally: &mut Tally) -> Result<()> {
    let asked = EVERYTHING.iter().copied().flatten();
    let mut faults = Vec::new();
    let mut judge = |fault: Option<String>| {
        *tally += Tally::one(fault.is_none());
        faults.extend(fault);
    };
    let places: Vec<(&Tool, Vec<PathBuf>)> = asked
        .chain(BASE)
        .map(|tool| (tool, find_program(tool.program).map_or(Vec::new(), names_of)))
        .collect();
    let owners = owners(places.iter().flat_map(|(_, paths)| paths))?;
    for (tool, paths) in &places {
        let packages: Vec<&String> = paths.iter().filter_map(|path| owners.get(path)).flatten().collect();
        let is_right = packages.iter().any(|package| *package == tool.package);
        judge((!is_right).then(|| {
            let Tool { program, package } = tool;
            format!("{program} is not in the package {package}: dpkg lists {packages:?} for {paths:?}")
        }));
    }
    for tool in BASE {
        let essential =
            output_of(Command::new("dpkg-query").args(["-W", "-f", "${Essential}", tool.package]))?;
        let is_everywhere = essential == "yes" || tool.package == "apt";
        judge((!is_everywhere).then(|| format!("the package {} is neither Essential nor apt", tool.package)));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    println!("{} files are in their listed packages", places.len());
    Ok(())
}

/// Returns the paths under which a package may list the file: also links on the way to it, such as
/// alternatives, and its path before /bin, /sbin and /lib were moved to /usr.
fn names_of(file: PathBuf) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut next = Some(file);
    while let Some(path) = next.filter(|path| !names.contains(path)) {
        if let Ok(below) = path.strip_prefix("/usr") {
            names.push(Path::new("/").join(below));
        }
        next = path.read_link().ok().and_then(|target| Some(path.parent()?.join(target)));
        names.push(path);
    }
    names
}

/// Returns the packages of each file that belongs to one.
fn owners<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<BTreeMap<PathBuf, Vec<String>>> {
    let output = Command::new("dpkg").arg("-S").args(files).output().context("cannot start dpkg")?;
    // It exits with 1 if a file is in no package.
    let text = String::from_utf8(output.stdout).context("the output of dpkg is not UTF-8")?;
    if text.is_empty() {
        bail!("dpkg -S: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(parse_owners(&text))
}

/// Parses lines of the form `PACKAGE[:ARCHITECTURE], …: FILE`; lines on diversions name no package.
fn parse_owners(text: &str) -> BTreeMap<PathBuf, Vec<String>> {
    let lines = text.lines().filter(|line| !line.starts_with("diversion by "));
    let owners = lines.filter_map(|line| {
        let (packages, file) = line.split_once(": ")?;
        let names = packages.split(", ").filter_map(|name| Some(name.split(':').next()?.to_owned()));
        Some((file.into(), names.collect()))
    });
    owners.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_without_their_architecture() {
        let text = "diversion by dash from: /bin/sh\ndiversion by dash to: /bin/sh.distrib\ndash: /bin/sh\n\
            libelf-dev:amd64, other: /usr/include/gelf.h\n";
        let owners = parse_owners(text);
        assert_eq!(owners[Path::new("/bin/sh")], ["dash"]);
        assert_eq!(owners[Path::new("/usr/include/gelf.h")], ["libelf-dev", "other"]);
        assert_eq!(owners.len(), 2);
    }

    #[test]
    fn a_file_has_the_names_of_its_links_and_its_old_place() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let [link, file] = ["cc", "gcc-12"].map(|name| dir.path().join(name));
        std::os::unix::fs::symlink("gcc-12", &link).expect("created");
        assert_eq!(names_of(link.clone()), [link.clone(), file]);
        assert_eq!(names_of("/usr/none/sh".into()), ["/none/sh", "/usr/none/sh"].map(PathBuf::from));
        let ring = dir.path().join("ring");
        std::os::unix::fs::symlink("ring", &ring).expect("created");
        assert_eq!(names_of(ring.clone()), [ring]);
    }

    #[test]
    fn no_program_is_both_asked_for_and_taken_for_granted() {
        for tool in EVERYTHING.iter().copied().flatten() {
            assert!(BASE.iter().all(|other| other.program != tool.program), "{}", tool.program);
        }
    }
}
