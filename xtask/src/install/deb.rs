// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask dist`: packs the tree as a package of Debian.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use flate2::{Compression, GzBuilder};

use super::tree::{self, CONFIGURATION, Tree};
use crate::needs::{DIST, LINTIAN};
use crate::process::{output_of, run, workspace_root};
use crate::release::{self, Programs};
use crate::tools::ensure_tools;

/// Build a Debian package for this machine's architecture: target/dist/anion_VERSION_ARCH.deb
#[derive(Debug, Args)]
pub(crate) struct DistArgs {
    /// Directory for the package
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    output: PathBuf,

    /// Check the package with lintian; each finding is an error unless an override names its tag
    #[arg(long)]
    lint: bool,
}

/// Options with which lintian shows all findings, and fails on each.
const LINT: [&str; 6] = [
    "--allow-root",
    "--display-info",
    "--pedantic",
    "--display-experimental",
    "--tag-display-limit=0",
    "--fail-on=error,warning,info,pedantic,experimental",
];

/// The maintainer scripts that dpkg runs, from `etc/debian`.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// The release date of this version, for the package's changelog.
const RELEASED: &str = "Fri, 27 Nov 2026 00:00:00 +0000";

/// Libraries that programs may be linked with: the library, and its package, with the least version
/// if the symbols do not determine it.
const LIBRARIES: [(&str, &str); 4] = [
    ("libc.so.6", "libc6"),
    ("libm.so.6", "libc6"),
    ("ld-linux-x86-64.so.2", "libc6"),
    ("libgcc_s.so.1", "libgcc-s1 (>= 4.2)"),
];

/// Builds the programs and the package, checks it if requested, and prints its path.
///
/// # Errors
/// As [`package`], and if the build or the check fails.
pub(crate) fn dist(args: &DistArgs) -> Result<()> {
    ensure_tools(DIST)?;
    let package = package(
        &release::build()?,
        env!("CARGO_PKG_VERSION"),
        Packing::Xz,
        &workspace_root().join(&args.output),
    )?;
    println!("{}", package.display());
    if args.lint {
        ensure_tools(LINTIAN)?;
        run(Command::new("lintian").args(LINT).arg(&package))?;
    }
    Ok(())
}

/// The compression of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Debian's compression; dpkg of Debian 11 reads no zstd.
    Xz,
    /// No compression: an emulated machine takes seconds to unpack.
    None,
}

/// Creates the package of this version in a folder. Returns its path.
///
/// # Errors
/// If a program is linked with a library of no known package, or a file cannot be written.
pub(crate) fn package(
    programs: &Programs,
    version: &str,
    packing: Packing,
    folder: &Path,
) -> Result<PathBuf> {
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let root = scratch.path().join("anion");
    fs::create_dir(&root).context("cannot create a scratch directory")?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).context("permissions")?;
    Tree { root: &root, prefix: Path::new("/usr") }.install(programs)?;
    let mut names = BTreeSet::new();
    let mut glibc = None;
    for program in ["aniond", "anionctl"].map(|name| root.join("usr/bin").join(name)) {
        run(Command::new("strip").args(["-R", ".comment", "-R", ".note"]).arg(&program))?;
        let linked = output_of(Command::new("readelf").args(["--wide", "-d", "-V"]).arg(&program))?;
        names.extend(libraries(&linked)?);
        glibc = glibc.max(newest_glibc(&linked));
    }
    compress_pages(&root.join("usr/share/man"))?;
    document(&root.join("usr/share"), version)?;
    let (major, minor) = glibc.context("the programs use no symbol of the C library")?;
    let depends: Vec<String> = names
        .into_iter()
        .map(|name| if name == "libc6" { format!("libc6 (>= {major}.{minor})") } else { name.to_owned() })
        .collect();
    let architecture = output_of(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
    let files = files_of(&root)?;
    let control = read("etc/debian/control.in")?
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", &architecture)
        .replace("@SIZE@", &kibibytes(&files)?.to_string())
        .replace("@LIBRARIES@", &depends.join(", "));
    let sums = output_of(Command::new("md5sum").args(relative(&files, &root, "usr/")).current_dir(&root))?;
    let meta = root.join("DEBIAN");
    for (name, text) in [("control", control), ("conffiles", format!("{CONFIGURATION}\n")), ("md5sums", sums)]
    {
        tree::write(&meta.join(name), 0o644, text.as_bytes())?;
    }
    for script in SCRIPTS {
        tree::write(&meta.join(script), 0o755, read(&format!("etc/debian/{script}"))?.as_bytes())?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let package = folder.join(format!("anion_{version}_{architecture}.deb"));
    let packing: &[&str] = match packing {
        Packing::Xz => &["-Zxz", "-z2"],
        Packing::None => &["-Znone"],
    };
    let mut build = Command::new("dpkg-deb");
    build.arg("--root-owner-group").args(packing).arg("--build").arg(&root).arg(&package);
    output_of(&mut build)?;
    Ok(package)
}

/// Returns the packages of the libraries in the output of `readelf -d`.
fn libraries(text: &str) -> Result<BTreeSet<&'static str>> {
    let needed = text.lines().filter(|line| line.contains("(NEEDED)"));
    needed
        .map(|line| {
            let name = line.split(['[', ']']).nth(1).unwrap_or_default();
            match LIBRARIES.iter().find(|(library, _)| *library == name) {
                Some((_, package)) => Ok(*package),
                None => bail!("the programs are linked with {name}, which deb.rs assigns to no package"),
            }
        })
        .collect()
}

/// Returns the newest version of the C library among the symbols in the output of `readelf -V`.
fn newest_glibc(text: &str) -> Option<(u32, u32)> {
    let words = text.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_"));
    words
        .filter_map(|version| {
            let mut numbers = version.split('.').map(|number| number.parse().ok());
            Some((numbers.next()??, numbers.next()??))
        })
        .max()
}

/// Compresses every manual page, as Debian requires.
fn compress_pages(folder: &Path) -> Result<()> {
    for page in files_of(folder)? {
        let text = fs::read(&page).context("cannot read a manual page")?;
        let mut name = page.clone().into_os_string();
        name.push(".gz");
        write_packed(Path::new(&name), &text)?;
        fs::remove_file(&page).context("cannot replace a manual page")?;
    }
    Ok(())
}

/// Adds the copyright, the changelog in Debian's form, and lintian's overrides.
fn document(share: &Path, version: &str) -> Result<()> {
    let folder = share.join("doc/anion");
    tree::write(&folder.join("copyright"), 0o644, read("etc/debian/copyright")?.as_bytes())?;
    let overrides = read("etc/debian/lintian-overrides")?;
    tree::write(&share.join("lintian/overrides/anion"), 0o644, overrides.as_bytes())?;
    let control = read("etc/debian/control.in")?;
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let changelog = format!(
        "anion ({version}) unstable; urgency=medium\n\n  * CHANGELOG.md of the sources has the changes.\n\n -- {}  {RELEASED}\n",
        maintainer.context("etc/debian/control.in names no maintainer")?
    );
    write_packed(&folder.join("changelog.gz"), changelog.as_bytes())
}

/// Writes a file compressed by gzip; the same text results in the same bytes.
fn write_packed(path: &Path, text: &[u8]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut packed = GzBuilder::new().mtime(0).write(file, Compression::best());
    packed.write_all(text).and_then(|()| packed.finish()).context("cannot compress the file")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).context("permissions")
}

/// Returns all files below a folder, in the order of their names.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry.context("cannot list the tree")?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    ensure!(!found.is_empty(), "{} has no files", folder.display());
    found.sort();
    Ok(found)
}

/// Returns the files below a path of the root, relative to the root.
fn relative<'a>(files: &'a [PathBuf], root: &'a Path, place: &'a str) -> impl Iterator<Item = &'a Path> {
    files.iter().filter_map(move |file| file.strip_prefix(root).ok().filter(|path| path.starts_with(place)))
}

fn kibibytes(files: &[PathBuf]) -> Result<u64> {
    let sizes = files
        .iter()
        .map(|file| Ok(fs::metadata(file).context("cannot read the size of a file")?.len().div_ceil(1024)));
    sizes.sum()
}

fn read(name: &str) -> Result<String> {
    fs::read_to_string(workspace_root().join(name)).with_context(|| format!("cannot read {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READELF: &str = " 0x0000000000000001 (NEEDED)             Shared library: [libgcc_s.so.1]\n \
        0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n  0x0030:   Name: GLIBC_2.9  \
        Flags: none  Version: 8\n  0x0040:   Name: GLIBC_2.34  Flags: none\n  0x0050:   Name: GCC_3.0\n";

    #[test]
    fn packages_are_those_of_the_libraries_and_symbols() {
        let found = libraries(READELF).expect("known");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["libc6", "libgcc-s1 (>= 4.2)"]);
        assert_eq!(newest_glibc(READELF), Some((2, 34)));
        let other = READELF.replace("libc.so.6", "libssl.so.3");
        assert!(libraries(&other).expect_err("unknown").to_string().contains("libssl.so.3"));
    }
}
