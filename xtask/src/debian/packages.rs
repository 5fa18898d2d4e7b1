// SPDX-License-Identifier: Apache-2.0
//! Unpacks packages into the cache, once.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flate2::Crc;

use super::apt::{Apt, Suite};

/// The folder of bundles in the cache.
const PLACE: &str = "packages";

/// Packages of one suite that are used together. They are unpacked into one directory of the cache.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The beginning of the directory's name.
    pub(crate) name: &'static str,
    pub(crate) suite: &'static Suite,
    /// Packages that are unpacked with all of their dependencies.
    pub(crate) with_dependencies: &'static [&'static str],
    /// Packages that are unpacked without dependencies. Those of another architecture end with
    /// `:ARCHITECTURE`.
    pub(crate) alone: &'static [&'static str],
}

impl Bundle {
    /// Returns the newest packages, downloaded unless they are in the cache. If they are
    /// unavailable, prints the reason and returns the last ones in the cache.
    ///
    /// # Errors
    /// If the suite lacks one of them or the download fails, and the cache has none either.
    pub(crate) fn obtain(&self, cache: &Path) -> Result<Tree> {
        let root = obtain(self.name, self.suite, cache, |apt| {
            let mut names = apt.with_dependencies(self.with_dependencies)?;
            names.extend(self.alone.iter().map(|&name| name.to_owned()));
            Ok(names)
        });
        Ok(Tree { root: root? })
    }

    /// Returns a message that it will be downloaded, unless it is in the cache.
    pub(crate) fn unfetched(&self, cache: &Path) -> Option<String> {
        let names = [self.with_dependencies, self.alone].concat().join(" ");
        (!is_cached(self.name, cache))
            .then(|| format!("download {} of Debian {}: {names}", self.name, self.suite.name))
    }
}

/// Returns the directory with the newest packages of these names, downloaded unless they are in the
/// cache. The directory's name begins with `name`. If they are unavailable, prints the reason and
/// returns the last ones in the cache.
///
/// # Errors
/// If the suite lacks one of them or the download fails, and the cache has none either.
pub(crate) fn obtain(
    name: &str,
    suite: &Suite,
    cache: &Path,
    names: impl Fn(&Apt) -> Result<Vec<String>>,
) -> Result<PathBuf> {
    let all = cache.join(PLACE);
    let fetch = |apt: &Apt| {
        let names = names(apt)?;
        let versions = apt.versions(&names)?;
        let packages: Vec<_> = names.into_iter().zip(versions).collect();
        let place = all.join(format!("{name}-{:08x}", sum(&packages)));
        unpack_once(apt, &packages, &place, |_| Ok(()))
    };
    newest(|| Apt::of_suite(suite, cache), name, fetch, || last_made(name, &all))
}

/// Returns whether the cache has packages under this name.
pub(crate) fn is_cached(name: &str, cache: &Path) -> bool {
    last_made(name, &cache.join(PLACE)).is_some()
}

/// Returns the last directory that was moved to the cache.
fn last_made(name: &str, all: &Path) -> Option<PathBuf> {
    let made = fs::read_dir(all).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let found = entry.file_name().into_string().ok()?;
        let is_ours = found.strip_prefix(name)?.strip_prefix('-')?.len() == SUM_DIGITS;
        // A rename sets this time; the times in the packages do not affect it.
        let made = entry.metadata().ok()?;
        is_ours.then(|| (made.ctime(), made.ctime_nsec(), entry.path()))
    });
    made.max().map(|(_, _, path)| path)
}

/// Digits of the number that distinguishes bundles of the same name.
const SUM_DIGITS: usize = 8;

/// Returns a checksum of packages and their versions.
fn sum(packages: &[(String, String)]) -> u32 {
    let mut sum = Crc::new();
    for (name, version) in packages {
        sum.update(format!("{name}={version}\n").as_bytes());
    }
    sum.sum()
}

/// A directory of unpacked packages.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Returns a file or directory of it; `path` is relative.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// Returns a command for one of its programs, with the loader and the libraries of the tree,
    /// because those of this machine may be older.
    ///
    /// # Errors
    /// If this machine is neither x86-64 nor arm64.
    pub(crate) fn program(&self, path: &str) -> Result<Command> {
        let (triple, loader) = match std::env::consts::ARCH {
            "x86_64" => ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
            "aarch64" => ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
            other => bail!("programs of another Debian release run only on x86-64 and arm64, not on {other}"),
        };
        let libraries = self.path("usr/lib").join(triple);
        let mut command = Command::new(libraries.join(loader));
        // Android's libraries are in a directory of their own.
        let places = std::env::join_paths([libraries.clone(), libraries.join("android")]);
        command.arg("--library-path").arg(places.context("the cache's path has a colon")?);
        command.arg(self.path(path));
        Ok(command)
    }
}

/// Returns the result of `fetch` for the packages that apt knows. If that fails, refreshes the
/// package lists and repeats; if that fails, too, prints the reason and returns the result of
/// `cached`. `what` is the name for messages.
///
/// # Errors
/// If both fail.
pub(crate) fn newest(
    apt: impl FnOnce() -> Result<Apt>,
    what: &str,
    fetch: impl Fn(&Apt) -> Result<PathBuf>,
    cached: impl FnOnce() -> Option<PathBuf>,
) -> Result<PathBuf> {
    let fetched = apt().and_then(|apt| match fetch(&apt) {
        // Lists that are older than the mirror lack new packages, and name removed files.
        Err(_) if apt.may_refresh() => apt.refresh().and_then(|()| fetch(&apt)),
        Err(error) => Err(error.context("if apt's package lists are old, run as root: apt-get update")),
        found => found,
    });
    fetched.or_else(|error| match cached() {
        Some(dir) => {
            println!("{error:#}; using the newest {what} in the cache");
            Ok(dir)
        }
        None => Err(error),
    })
}

/// Unpacks packages, each a name and a version, into `place`, unless that was done before.
///
/// If a package is unavailable, or `check` does not find a required file: then the result is not
/// kept in the cache.
pub(crate) fn unpack_once(
    apt: &Apt,
    packages: &[(String, String)],
    place: &Path,
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    if !place.is_dir() {
        let scratch = scratch_in(place.parent().context("the path in the cache has no parent folder")?)?;
        let unpacked = scratch.path().join("unpacked");
        apt.unpack(packages, &unpacked)?;
        check(&unpacked)?;
        move_to(&unpacked, place)?;
    }
    Ok(place.to_owned())
}

/// The prefix of directories with unfinished work.
const UNFINISHED: &str = ".unfinished-";

/// A directory of this age is abandoned: no download or build takes as long.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns a directory in a directory of the cache, which is removed when dropped. Its contents are
/// moved to their place only when they are complete, so that neither an interrupted run nor two
/// concurrent runs leave a partial result. Removes the remains of interrupted runs.
///
/// # Errors
/// If it cannot be created.
pub(crate) fn scratch_in(place: &Path) -> Result<tempfile::TempDir> {
    fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
    for entry in fs::read_dir(place).context("cannot list the cache")?.flatten() {
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|then| then.elapsed().ok());
        let is_unfinished = entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes());
        if is_unfinished && age.is_some_and(|age| age > ABANDONED) {
            let path = entry.path();
            fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(place)
        .context("cannot create a scratch directory in the cache")
}

/// Moves the result to its place, unless another run was faster.
///
/// # Errors
/// If it cannot be moved.
pub(crate) fn move_to(made: &Path, place: &Path) -> Result<()> {
    match fs::rename(made, place) {
        Err(error) if !place.is_dir() => {
            Err(error).with_context(|| format!("cannot move the unpacked files to {}", place.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn only_what_was_abandoned_is_removed() {
        let cache = tempfile::tempdir().expect("temporary directory");
        let names = [".unfinished-old", ".unfinished-new", "linux-image-6.12.9+deb12-amd64_6.12.9-1"];
        let [old, new, finished] = names.map(|name| cache.path().join(name));
        for dir in [&old, &new, &finished] {
            fs::create_dir(dir).expect("created");
        }
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        for dir in [&old, &finished] {
            fs::File::open(dir).and_then(|dir| dir.set_modified(long_ago)).expect("own directory");
        }
        let scratch = scratch_in(cache.path()).expect("created");
        assert!(!old.exists() && new.exists() && finished.exists() && scratch.path().exists());
    }

    #[test]
    fn the_second_directory_moved_to_a_place_gives_way() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (first, second, place) =
            (dir.path().join("first"), dir.path().join("second"), dir.path().join("place"));
        for made in [&first, &second] {
            fs::create_dir(made).expect("created");
            fs::write(made.join("image"), made.as_os_str().as_encoded_bytes()).expect("written");
        }
        move_to(&first, &place).expect("moved");
        move_to(&second, &place).expect("the other one is there");
        assert_eq!(fs::read(place.join("image")).expect("there"), first.as_os_str().as_encoded_bytes());
        move_to(&first, &dir.path().join("none/place")).expect_err("there is no such directory");
    }

    #[test]
    fn the_bundle_that_came_last_is_found() {
        let all = tempfile::tempdir().expect("temporary directory");
        assert_eq!(last_made("aidl", &all.path().join("none")), None);
        for name in ["aidl-00000002", "aidl-00000001", "aidl-00000002-c-3", "aidls-00000003"] {
            // The clock of a file system may be coarse.
            std::thread::sleep(Duration::from_millis(20));
            fs::create_dir(all.path().join(name)).expect("created");
        }
        assert_eq!(last_made("aidl", all.path()), Some(all.path().join("aidl-00000001")));
    }

    #[test]
    fn another_version_is_another_bundle() {
        let of = |version: &str| sum(&[("libc6".to_owned(), version.to_owned())]);
        assert_eq!(of("2.36-9"), of("2.36-9"));
        assert_ne!(of("2.36-9"), of("2.36-10"));
    }
}
