// SPDX-License-Identifier: Apache-2.0
//! Manages the interface's frozen versions in `aidl_api/`, by the rules of the platform's build.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::aidl::{Aidl, Answer};
use crate::process::{output_of, run};

/// The module with this API.
pub(crate) const MODULE: &str = "vendor.anion.allocator";

/// The line of Android.bp while the sources may differ from the last frozen version.
const UNFROZEN: &str = "frozen: false";

/// A checkout, or a copy of the files that freezing reads and writes.
#[derive(Debug)]
pub(crate) struct Api<'a> {
    pub(crate) root: &'a Path,
    pub(crate) aidl: &'a Aidl,
}

impl Api<'_> {
    fn sources(&self) -> PathBuf {
        self.root.join("aidl")
    }

    /// Returns the directory of a frozen version, or of `current`.
    pub(crate) fn folder(&self, version: &str) -> PathBuf {
        self.root.join("aidl_api").join(MODULE).join(version)
    }

    /// Returns the number of the last frozen version; 0 if there is none.
    ///
    /// # Errors
    /// If versions are missing before it.
    pub(crate) fn latest(&self) -> Result<u32> {
        let mut numbers: Vec<u32> = match fs::read_dir(self.folder("")) {
            Ok(entries) => {
                entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
            }
            Err(_) => Vec::new(),
        };
        numbers.sort_unstable();
        let expected: Vec<u32> = (1..).take(numbers.len()).collect();
        ensure!(numbers == expected, "the frozen versions are {numbers:?}, but {expected:?} are required");
        Ok(numbers.last().copied().unwrap_or(0))
    }

    /// Returns the version and hash that the interface reports: those of the last frozen version if
    /// Android.bp declares the sources frozen; else the next version, which has no hash.
    ///
    /// # Errors
    /// If versions are missing, or the last one has no hash.
    pub(crate) fn answer(&self) -> Result<Answer> {
        let latest = self.latest()?;
        let blueprint = fs::read_to_string(self.root.join("Android.bp")).context("Android.bp")?;
        if blueprint.contains(UNFROZEN) {
            return Ok(Answer { version: latest + 1, hash: "notfrozen".to_owned() });
        }
        let file = self.folder(&latest.to_string()).join(".hash");
        let hash = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(Answer { version: latest, hash: hash.trim().to_owned() })
    }

    /// Writes `current` from the sources.
    ///
    /// # Errors
    /// The error of the compiler.
    pub(crate) fn update(&self) -> Result<()> {
        self.dump_to(&self.folder("current"))
    }

    /// Freezes the sources as the next version, and updates Android.bp.
    ///
    /// # Errors
    /// If the sources are not compatible with the last version, or equal it.
    pub(crate) fn freeze(&self) -> Result<u32> {
        let latest = self.latest()?;
        self.update()?;
        let current = self.folder("current");
        if latest > 0 {
            let last = self.folder(&latest.to_string());
            self.aidl
                .check("compatible", &last, &current)
                .context("the sources are not compatible with the last frozen version")?;
            ensure!(
                self.aidl.check("equal", &last, &current).is_err(),
                "nothing has changed since version {latest} was frozen"
            );
        }
        let version = latest + 1;
        let folder = self.folder(&version.to_string());
        self.dump_to(&folder)?;
        let hash = hash_of(&folder, latest)?;
        fs::write(folder.join(".hash"), format!("{hash}\n")).context("cannot write the hash")?;
        self.tell_blueprint(version)?;
        println!("version {version} is frozen, with the hash {hash}");
        Ok(version)
    }

    fn dump_to(&self, folder: &Path) -> Result<()> {
        // Files of removed types must be removed, too.
        let _ = fs::remove_dir_all(folder);
        self.aidl.dump(&self.sources(), folder)
    }

    /// Lists the versions in Android.bp, and declares the sources frozen.
    fn tell_blueprint(&self, version: u32) -> Result<()> {
        let path = self.root.join("Android.bp");
        let text = fs::read_to_string(&path).context("Android.bp")?;
        // Each brace is on a line of its own: the formatter joins no lines, and needs two passes to
        // split them.
        let versions: String = (1..=version)
            .map(|number| format!("\n{{\nversion: \"{number}\",\nimports: [],\n}},\n"))
            .collect();
        let told = match text.split_once("versions_with_info: [") {
            None => text.replacen(UNFROZEN, &format!("versions_with_info: [{versions}],\nfrozen: true"), 1),
            Some((before, after)) => {
                let (_, rest) = after
                    .split_once("],\n    frozen")
                    .context("Android.bp: the list versions_with_info has no end")?;
                format!(
                    "{before}versions_with_info: [{versions}],\n    frozen{}",
                    rest.replacen("false", "true", 1)
                )
            }
        };
        fs::write(&path, told).context("Android.bp")?;
        run(Command::new("bpfmt").arg("-w").arg(&path))
    }

    /// Checks that every frozen version is unchanged, that each is compatible with the version
    /// before, and the sources with the last; if Android.bp declares them frozen, they must equal
    /// the last. Returns the number of versions.
    ///
    /// # Errors
    /// The first violated rule.
    pub(crate) fn verify(&self) -> Result<u32> {
        let latest = self.latest()?;
        let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
        let now = scratch.path().join("now");
        self.aidl.dump(&self.sources(), &now)?;
        for version in 1..=latest {
            let folder = self.folder(&version.to_string());
            let written = fs::read_to_string(folder.join(".hash"))
                .with_context(|| format!("version {version} has no hash"))?;
            let hash = hash_of(&folder, version - 1)?;
            ensure!(
                written.trim() == hash,
                "version {version} is frozen, but was changed: its hash is {hash}, not {}",
                written.trim()
            );
            if version > 1 {
                self.aidl.check("compatible", &self.folder(&(version - 1).to_string()), &folder)?;
            }
        }
        let blueprint = fs::read_to_string(self.root.join("Android.bp")).context("Android.bp")?;
        let is_frozen = !blueprint.contains(UNFROZEN);
        ensure!(
            !is_frozen || latest > 0,
            "Android.bp has `frozen: true`, but aidl_api has no frozen version"
        );
        if latest > 0 {
            let last = self.folder(&latest.to_string());
            self.aidl
                .check("compatible", &last, &now)
                .context("the sources are not compatible with the last frozen version")?;
            self.aidl
                .check("equal", &self.folder("current"), &now)
                .context("aidl_api's `current` differs from the sources: run `cargo xtask update-api`")?;
            if is_frozen {
                self.aidl.check("equal", &last, &now).with_context(|| {
                    format!(
                        "Android.bp has `frozen: true`, but the sources differ from version {latest}: set \
                         `{UNFROZEN}` to develop the next version"
                    )
                })?;
            }
        }
        Ok(latest)
    }
}

/// Returns the platform's hash of a version, computed from the hashes of its files in the order of
/// their names, and from the previous version number.
///
/// # Errors
/// If the files cannot be read.
pub(crate) fn hash_of(folder: &Path, previous: u32) -> Result<String> {
    let word = if previous == 0 { "latest-version".to_owned() } else { previous.to_string() };
    let listed = output_of(
        Command::new("sh")
            .current_dir(folder)
            .args(["-c", "find ./ -name '*.aidl' -print0 | LC_ALL=C sort -z | xargs -0 sha1sum"]),
    )?;
    let mut sum = Command::new("sha1sum");
    let mut child =
        sum.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start sha1sum")?;
    let mut input = child.stdin.take().context("sha1sum has no input")?;
    input.write_all(format!("{listed}{word}\n").as_bytes()).context("cannot write to sha1sum")?;
    drop(input);
    let output = child.wait_with_output().context("cannot wait for sha1sum")?;
    ensure!(output.status.success(), "sha1sum failed: {}", output.status);
    let text = String::from_utf8(output.stdout).context("the output of sha1sum is not UTF-8")?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_covers_names_contents_and_the_version_before() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let hash = |previous| hash_of(dir.path(), previous).expect("hashed");
        fs::create_dir(dir.path().join("a")).expect("created");
        fs::write(dir.path().join("a/B.aidl"), "b\n").expect("written");
        fs::write(dir.path().join("a/A.aidl"), "a\n").expect("written");
        fs::write(dir.path().join(".hash"), "not counted").expect("written");
        let first = hash(0);
        assert_eq!(first, "f7ff294a75c49cf277046863666f2ee25856368f");
        assert_ne!(first, hash(1));
        fs::rename(dir.path().join("a/B.aidl"), dir.path().join("a/C.aidl")).expect("renamed");
        assert_ne!(first, hash(0));
    }
}
