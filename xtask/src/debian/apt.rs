// SPDX-License-Identifier: Apache-2.0
//! Runs Debian's package manager with the system's configuration, or with a private one.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::needs::KEYRING;
use crate::process::{output_of, run};
use crate::tools::{apt_update, is_root};

/// A suite of Debian. The running system need not list it in its sources.
#[derive(Debug)]
pub(crate) struct Suite {
    /// The archive's label. The system must list a suite of the archive, whose mirror is used.
    pub(crate) archive: &'static str,
    pub(crate) name: &'static str,
    /// Additional architectures.
    pub(crate) foreign: &'static [&'static str],
}

/// Maximal age of the package lists of a private configuration.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// A configuration of apt.
#[derive(Debug)]
pub(crate) struct Apt {
    /// The directory of a private configuration; the system's own if there is none.
    private: Option<PathBuf>,
}

impl Apt {
    /// Returns the system's sources and package lists.
    pub(crate) fn system() -> Self {
        Self { private: None }
    }

    /// Uses only one suite, with lists in `cache`, from the system's mirror. Reads the system's
    /// configuration, and never changes it.
    ///
    /// # Errors
    /// If the system lists no mirror of the archive, or the lists are missing and cannot be
    /// downloaded.
    pub(crate) fn of_suite(suite: &Suite, cache: &Path) -> Result<Self> {
        let dir = cache.join("apt").join(suite.name);
        let state = dir.join("state");
        for directory in [state.join("lists/partial"), dir.join("cache/archives/partial")] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let apt = Self { private: Some(dir.clone()) };
        let write = |name: &str, text: String| {
            fs::write(dir.join(name), text)
                .with_context(|| format!("cannot write {name} in {}", dir.display()))
        };
        let had =
            ["apt.conf", "sources.list"].map(|name| fs::read_to_string(dir.join(name)).unwrap_or_default());
        let options = configuration(&dir, suite.foreign)?;
        let sources =
            format!("deb [signed-by={}] {} {} main\n", KEYRING.program, mirror(suite.archive)?, suite.name);
        let is_known = had == [options.as_str(), sources.as_str()];
        write("apt.conf", options)?;
        write("sources.list", sources)?;

        let age = fs::metadata(dir.join("fetched"))
            .and_then(|stamp| stamp.modified())
            .ok()
            .and_then(|then| SystemTime::now().duration_since(then).ok());
        if is_known && age.is_some_and(|age| age < FRESH) {
            return Ok(apt);
        }
        match apt.refresh() {
            Err(error) if is_known && age.is_some() => {
                println!("{error:#}; continuing with the older package lists")
            }
            other => other?,
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Some(dir) = &self.private {
            command.env("APT_CONFIG", dir.join("apt.conf"));
        }
        command
    }

    /// Returns whether this user may download the package lists.
    pub(crate) fn may_refresh(&self) -> bool {
        self.private.is_some() || is_root()
    }

    /// Downloads the package lists.
    ///
    /// # Errors
    /// If the mirror does not answer, or the lists are the system's and this process is not root.
    pub(crate) fn refresh(&self) -> Result<()> {
        let Some(dir) = &self.private else { return apt_update() };
        println!("fetching the package lists of Debian {}", dir.file_name().unwrap_or_default().display());
        // Without the option, apt-get exits with 0 even if it could download nothing.
        run(self.command("apt-get").args(["-qq", "-o", "APT::Update::Error-Mode=any", "update"]))?;
        fs::write(dir.join("fetched"), "").context("cannot write the time stamp of the package lists")
    }

    /// Returns the names of all packages that begin with `prefix`.
    ///
    /// # Errors
    /// If `apt-cache` fails.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = output_of(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Returns these packages and all of their dependencies, sorted; none for no packages. Includes
    /// all alternatives, and no virtual packages.
    ///
    /// # Errors
    /// If there is no such package.
    pub(crate) fn with_dependencies(&self, packages: &[&str]) -> Result<Vec<String>> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = self.command("apt-cache");
        command.args(["depends", "--recurse"]);
        command.args(
            ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"]
                .map(|kind| format!("--no-{kind}")),
        );
        let listed = output_of(command.args(packages))?;
        Ok(named(&listed))
    }

    /// Returns the newest version of `package`.
    ///
    /// # Errors
    /// If there is no such package.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        Ok(self.versions(&[package.to_owned()])?.remove(0))
    }

    /// Returns the newest versions of `packages`.
    ///
    /// # Errors
    /// If there is no such package.
    pub(crate) fn versions(&self, packages: &[String]) -> Result<Vec<String>> {
        let mut command = self.command("apt-cache");
        let records = output_of(command.args(["show", "--no-all-versions"]).args(packages))?;
        let shown = shown(&records);
        // A virtual package would be shown under the names of its providers.
        let is_each =
            packages.iter().map(|name| name.split(':').next()).eq(shown.iter().map(|(name, _)| Some(*name)));
        ensure!(
            is_each,
            "apt does not return exactly one version of each of these packages: {}",
            packages.join(", ")
        );
        Ok(shown.into_iter().map(|(_, version)| version.to_owned()).collect())
    }

    /// Downloads packages, each a name and a version, and unpacks them over the contents of `into`.
    /// apt verifies the archives.
    ///
    /// # Errors
    /// If the mirror does not have the version, or an archive is damaged.
    pub(crate) fn unpack(&self, packages: &[(String, String)], into: &Path) -> Result<()> {
        let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
        let wanted: Vec<String> =
            packages.iter().map(|(name, version)| format!("{name}={version}")).collect();
        println!("downloading {}", wanted.join(", "));
        run(self
            .command("apt-get")
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
            .args(&wanted)
            .current_dir(scratch.path()))?;
        let archives = entries(scratch.path())?;
        ensure!(
            archives.len() == wanted.len(),
            "apt downloaded {} packages instead of {}",
            archives.len(),
            wanted.len()
        );
        archives.iter().try_for_each(|archive| run(Command::new("dpkg-deb").arg("-x").args([archive, into])))
    }
}

/// Returns the text of a private configuration, which extends the system's.
fn configuration(dir: &Path, foreign: &[&str]) -> Result<String> {
    let own = output_of(Command::new("dpkg").arg("--print-architecture"))?;
    let all = iter::once(own.trim()).chain(foreign.iter().copied().filter(|name| *name != own.trim()));
    let all: String = all.map(|name| format!(" \"{name}\";")).collect();
    let dir = dir.display();
    Ok(format!(
        "Dir::State \"{dir}/state\";\n\
         Dir::Cache \"{dir}/cache\";\n\
         Dir::Cache::pkgcache \"pkgcache.bin\";\n\
         Dir::Cache::srcpkgcache \"srcpkgcache.bin\";\n\
         Dir::Etc::sourcelist \"{dir}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         APT::Architectures {{{all} }};\n\
         APT::Sandbox::User \"root\";\n"
    ))
}

/// Returns the mirror from which the system gets the suites of `archive`.
///
/// # Errors
/// If its sources list no mirror of it, or Debian's keys are missing.
pub(crate) fn mirror(archive: &str) -> Result<String> {
    ensure!(
        Path::new(KEYRING.program).is_file(),
        "{} is missing, so no package of Debian can be verified: install {}",
        KEYRING.program,
        KEYRING.package
    );
    let listed = || {
        output_of(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(LABEL) $(REPO_URI)",
            "Created-By: Packages",
        ]))
    };
    if let Some(uri) = uri_of(&listed()?, archive) {
        return Ok(uri);
    }
    // An archive's label is known only after its lists were downloaded.
    if is_root() {
        apt_update()?;
        if let Some(uri) = uri_of(&listed()?, archive) {
            return Ok(uri);
        }
    }
    bail!(
        "apt's sources list no mirror of the archive {archive}{}",
        if is_root() { "" } else { ", or its package lists are missing (as root, run: apt-get update)" }
    )
}

/// Returns the first repository of `archive`, from lines of label and URI.
fn uri_of(listed: &str, archive: &str) -> Option<String> {
    let mut pairs = listed.lines().filter_map(|line| line.rsplit_once(' '));
    pairs.find(|(label, _)| *label == archive).map(|(_, uri)| uri.to_owned())
}

/// Returns the packages in the output of `apt-cache depends`: lines that are not indented. Skips
/// those in angle brackets, which do not exist.
fn named(listed: &str) -> Vec<String> {
    let mut names: Vec<_> =
        listed.lines().filter(|line| !line.starts_with([' ', '|', '<'])).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// Returns the names and versions in the output of `apt-cache show`.
fn shown(records: &str) -> Vec<(&str, &str)> {
    let field =
        |name: &'static str| records.lines().filter_map(move |line| line.strip_prefix(name)).map(str::trim);
    field("Package: ").zip(field("Version: ")).collect()
}

/// Returns the entries of a directory, sorted.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut entries = list().with_context(|| format!("cannot list {}", dir.display()))?;
    entries.sort();
    Ok(entries)
}

/// Returns the only entry of a directory.
///
/// # Errors
/// If there are several or none.
pub(crate) fn only_entry(dir: &Path) -> Result<PathBuf> {
    let mut entries = entries(dir)?;
    match entries.len() {
        1 => Ok(entries.remove(0)),
        count => bail!("{} has {count} entries instead of one", dir.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_are_read_from_the_records() {
        let records = "Package: linux-image\nSource: linux (1.2)\nVersion: 6.12.117-1~deb12u1\nSize: 3\n\n\
            Package: xz-utils\nVersion: 5.4.1\n";
        assert_eq!(shown(records), [("linux-image", "6.12.117-1~deb12u1"), ("xz-utils", "5.4.1")]);
        assert_eq!(shown(""), []);
    }

    #[test]
    fn packages_are_told_from_their_dependencies() {
        let listed = "rustc\n  Depends: libc6\n |Depends: gcc\n  Depends: <c-compiler>\n    gcc\nlibc6\n<c-compiler>\ngcc\nlibc6\n";
        assert_eq!(named(listed), ["gcc", "libc6", "rustc"]);
    }

    #[test]
    fn a_mirror_is_found_by_the_archives_label() {
        let listed = "Some Vendor http://a.example/apt/\nDebian http://b.example/debian/\n\
            Debian-Security http://c.example/security/\nDebian http://d.example/debian/\n";
        assert_eq!(uri_of(listed, "Debian").as_deref(), Some("http://b.example/debian/"));
        assert_eq!(uri_of(listed, "Debian-Security").as_deref(), Some("http://c.example/security/"));
        // The output of apt before the lists are downloaded.
        assert_eq!(uri_of("$(LABEL) http://b.example/debian/\n", "Debian"), None);
    }

    #[test]
    fn a_private_configuration_keeps_to_its_directory() {
        let text = configuration(Path::new("/c/apt/sid"), &["riscv64", "s390x"]).expect("this is a Debian");
        for line in [
            "Dir::State \"/c/apt/sid/state\";",
            "Dir::Etc::sourceparts \"/dev/null\";",
            "\"riscv64\"; \"s390x\"; };",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
