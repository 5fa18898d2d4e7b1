// SPDX-License-Identifier: Apache-2.0
//! Builds the guest's root file system: a cpio archive that the kernel unpacks into memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use cpio::newc::{Builder, ModeFileType, trailer};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::machine::Programs;
use crate::process::{output_of, run};

/// An entry at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
    Link { target: String },
}

/// A root file system that is being built. Paths are absolute in the guest; root owns all files.
#[derive(Debug, Default)]
pub(super) struct Initramfs {
    /// Sorted, so that a directory precedes its entries.
    nodes: BTreeMap<PathBuf, Node>,
}

impl Initramfs {
    /// Adds a directory with these permissions.
    pub(super) fn directory(&mut self, path: impl AsRef<Path>, mode: u32) {
        self.insert(path.as_ref(), Node::Directory { mode });
    }

    /// Adds a file with these permissions.
    pub(super) fn file(&mut self, path: impl AsRef<Path>, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.insert(path.as_ref(), Node::File { mode, bytes: bytes.into() });
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: impl AsRef<Path>, target: &str) {
        self.insert(path.as_ref(), Node::Link { target: target.to_owned() });
    }

    /// Adds programs to `/bin`, stripped, with the dynamic loader and the shared libraries that
    /// they need.
    ///
    /// # Errors
    /// If a program cannot be read or this machine lacks one of its libraries.
    pub(super) fn programs(&mut self, programs: &Programs) -> Result<()> {
        let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
        let mut libraries = BTreeSet::new();
        for (name, program) in &programs.files {
            let stripped = scratch.path().join(name);
            run(Command::new(programs.strip).arg("-o").args([&stripped, program]))?;
            match programs.libraries {
                None => libraries.extend(libraries_of(program)?),
                Some(place) => add_foreign_libraries(&mut libraries, place, program)?,
            }
            self.file(Path::new("/bin").join(name), 0o755, read(&stripped)?);
        }
        for library in libraries {
            let place = match programs.libraries {
                None => library.clone(),
                // Every loader searches there.
                Some(place) => Path::new("/lib").join(library.strip_prefix(place)?),
            };
            self.file(place, 0o755, read(&library)?);
        }
        Ok(())
    }

    /// Adds kernel modules to a directory, with names that sort in their order.
    ///
    /// # Errors
    /// If one cannot be read or decompressed.
    pub(super) fn modules(&mut self, directory: &str, modules: &[PathBuf]) -> Result<()> {
        for (number, module) in modules.iter().enumerate() {
            self.file(format!("{directory}/{number:02}.ko"), 0o644, plain_module(module)?);
        }
        Ok(())
    }

    fn insert(&mut self, path: &Path, node: Node) {
        for parent in path.ancestors().skip(1).filter(|parent| parent.parent().is_some()) {
            self.nodes.entry(parent.to_owned()).or_insert(Node::Directory { mode: 0o755 });
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// Writes the archive, compressed.
    ///
    /// # Errors
    /// If a path is not UTF-8, a file is 4 GiB or larger, or `out` fails.
    pub(super) fn write_to(&self, out: impl Write) -> Result<()> {
        let mut archive = GzEncoder::new(out, Compression::fast());
        for (number, (path, node)) in (1..).zip(&self.nodes) {
            let name = path.strip_prefix("/").unwrap_or(path).to_str();
            let name = name.with_context(|| format!("path {} is not UTF-8", path.display()))?;
            let (kind, mode, bytes) = match node {
                Node::Directory { mode } => (ModeFileType::Directory, *mode, [].as_slice()),
                Node::File { mode, bytes } => (ModeFileType::Regular, *mode, bytes.as_slice()),
                Node::Link { target } => (ModeFileType::Symlink, 0o777, target.as_bytes()),
            };
            let size = u32::try_from(bytes.len()).with_context(|| format!("{name} is 4 GiB or larger"))?;
            // The file type is set after the permissions, which would overwrite it.
            let header = Builder::new(name).ino(number).mode(mode).set_mode_file_type(kind);
            let mut entry = header.write(archive, size);
            entry.write_all(bytes)?;
            archive = entry.finish()?;
        }
        trailer(archive)?.finish()?.flush()?;
        Ok(())
    }
}

/// Returns the content of `path`.
///
/// # Errors
/// If it cannot be read; the message names it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Returns the loader and libraries that `program` needs on this machine, with the paths that it
/// uses.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    // Without cargo's library path, which applies only to the task runner.
    let output = Command::new("ldd")
        .arg(program)
        .env_remove("LD_LIBRARY_PATH")
        .env("LC_ALL", "C")
        .output()
        .context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if text.contains("statically linked") || complaint.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    ensure!(output.status.success(), "ldd {}: {}", program.display(), complaint.trim());
    parse_ldd(&text).with_context(|| format!("libraries of {}", program.display()))
}

/// Adds the loader and the libraries in `place` that a program or library of another architecture
/// needs, and their own dependencies.
fn add_foreign_libraries(libraries: &mut BTreeSet<PathBuf>, place: &Path, program: &Path) -> Result<()> {
    let listed = output_of(Command::new("readelf").args(["--wide", "-d"]).arg(program))?;
    for name in parse_readelf(&listed) {
        let library = place.join(name);
        ensure!(library.is_file(), "{} needs {name}, which is not in {}", program.display(), place.display());
        if libraries.insert(library.clone()) {
            add_foreign_libraries(libraries, place, &library)?;
        }
    }
    Ok(())
}

/// Parses lines of the form `… (NEEDED) Shared library: [NAME]`.
fn parse_readelf(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0))
}

/// Parses lines of the forms `NAME => PATH (0x…)`, `PATH (0x…)` and, for mappings of the kernel,
/// `NAME (0x…)`.
fn parse_ldd(text: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let found = line.split_once(" => ").map_or(line, |(_, found)| found);
        if found == "not found" {
            bail!("{line}");
        }
        let path = found.rsplit_once(" (").map_or(found, |(path, _)| path);
        if path.starts_with('/') {
            paths.push(path.into());
        }
    }
    Ok(paths)
}

/// Returns a kernel module without compression, as the guest's `insmod` requires.
///
/// # Errors
/// If it cannot be read or `xz` fails.
fn plain_module(packed: &Path) -> Result<Vec<u8>> {
    if packed.extension().is_none_or(|extension| extension != "xz") {
        return read(packed);
    }
    let output = Command::new("xz").arg("-dc").arg(packed).output().context("cannot start xz")?;
    ensure!(
        output.status.success(),
        "xz -dc {}: {}",
        packed.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;
    use flate2::read::GzDecoder;
    use std::io::Read;

    /// Returns the name, mode with file type, and content of every entry before the trailer.
    fn unpack(packed: &[u8]) -> Vec<(String, u32, String)> {
        let mut archive: Box<dyn Read + '_> = Box::new(GzDecoder::new(packed));
        let mut entries = Vec::new();
        loop {
            let mut reader = Reader::new(archive).expect("an entry");
            if reader.entry().is_trailer() {
                return entries;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = String::new();
            reader.read_to_string(&mut content).expect("content");
            entries.push((name, mode, content));
            archive = Box::new(reader.finish().expect("the next entry"));
        }
    }

    #[test]
    fn parents_come_first_and_modes_are_kept() {
        let mut root = Initramfs::default();
        root.file("/etc/rc/config", 0o644, "text");
        root.link("/bin/sh", "busybox");
        root.directory("/tmp", 0o1777);
        root.directory("/etc/rc", 0o700);
        let mut packed = Vec::new();
        root.write_to(&mut packed).expect("written");
        let entry = |name: &str, mode: u32, content: &str| (name.to_owned(), mode, content.to_owned());
        assert_eq!(
            unpack(&packed),
            [
                entry("bin", 0o040_755, ""),
                entry("bin/sh", 0o120_777, "busybox"),
                entry("etc", 0o040_755, ""),
                entry("etc/rc", 0o040_700, ""),
                entry("etc/rc/config", 0o100_644, "text"),
                entry("tmp", 0o041_777, ""),
            ]
        );
    }

    #[test]
    fn libraries_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007f2c8f717000)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2c8f1f5000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f2c8f719000)\n";
        let paths = parse_ldd(text).expect("well-formed");
        assert_eq!(
            paths,
            [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
        assert!(parse_ldd("\tlibx.so => not found\n").is_err());
    }

    #[test]
    fn libraries_of_another_architecture_are_found_with_those_that_they_need() {
        let this = std::env::current_exe().expect("own path");
        let here = libraries_of(&this).expect("ldd runs");
        let libc = here.iter().find(|path| path.ends_with("libc.so.6")).expect("the C library");
        let place = libc.parent().expect("a directory");
        let mut found = BTreeSet::new();
        add_foreign_libraries(&mut found, place, &this).expect("readelf runs");
        assert!(found.contains(libc) && found.len() >= 2, "{found:?}: the C library needs the loader");
        let scratch = tempfile::tempdir().expect("a directory");
        let fault = add_foreign_libraries(&mut BTreeSet::new(), scratch.path(), &this).expect_err("empty");
        assert!(fault.to_string().contains("which is not in"), "{fault}");
    }

    #[test]
    fn a_dynamic_program_comes_with_its_loader() {
        let this = std::env::current_exe().expect("own path");
        let libraries = libraries_of(&this).expect("ldd runs");
        let is_loader =
            |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-"));
        assert!(libraries.iter().any(|path| is_loader(&path)), "{libraries:?}");
    }
}
