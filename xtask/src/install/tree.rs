// SPDX-License-Identifier: Apache-2.0
//! Writes the tree that is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{output_of, without_settings, workspace_root};
use crate::release::Programs;

/// The heap configuration of the machine's service. Administrators change it, so it is not
/// replaced.
pub(super) const CONFIGURATION: &str = "/etc/anion/heaps.dts";

/// The files that are copied: the path in the checkout, and the path below the prefix.
const FILES: [(&str, &str); 9] = [
    ("docs/man/anion-heaps.5", "share/man/man5/anion-heaps.5"),
    ("etc/systemd/anion.service", "lib/systemd/system/anion.service"),
    ("etc/systemd/anion.socket", "lib/systemd/system/anion.socket"),
    ("etc/systemd/user/anion.service", "lib/systemd/user/anion.service"),
    ("etc/systemd/user/anion.socket", "lib/systemd/user/anion.socket"),
    ("etc/sysusers.d/anion.conf", "lib/sysusers.d/anion.conf"),
    ("etc/tmpfiles.d/anion.conf", "lib/tmpfiles.d/anion.conf"),
    ("etc/modules-load.d/anion.conf", "lib/modules-load.d/anion.conf"),
    ("etc/udev/60-anion.rules", "lib/udev/rules.d/60-anion.rules"),
];

/// A tree that is being written.
pub(super) struct Tree<'a> {
    /// The directory that stands for the machine's root.
    pub(super) root: &'a Path,
    /// An absolute path on the machine.
    pub(super) prefix: &'a Path,
}

/// Parses a prefix: an absolute path, since the units contain it, too.
pub(super) fn prefix(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_plain = path.is_absolute() && !text.contains(|c: char| c.is_whitespace() || c == '%');
    is_plain.then_some(path).ok_or_else(|| {
        format!("the prefix is {text:?}, but it must be an absolute path without spaces and %")
    })
}

impl Tree<'_> {
    /// Writes the tree. Returns the number of files.
    ///
    /// # Errors
    /// If a program does not print its pages, or a file cannot be written.
    pub(super) fn install(&self, programs: &Programs) -> Result<usize> {
        let mut written = 0;
        let mut put = |path: &Path, mode: u32, bytes: &[u8]| {
            written += 1;
            write(path, mode, bytes)
        };
        for (name, program) in [("aniond", &programs.aniond), ("anionctl", &programs.anionctl)] {
            put(&self.below(&format!("bin/{name}")), 0o755, &read(program)?)?;
        }
        for (file, place) in FILES {
            let text = String::from_utf8(read(&workspace_root().join(file))?).context("no UTF-8")?;
            put(&self.below(place), 0o644, self.with_prefix(&text).as_bytes())?;
        }
        for (place, text) in documents(programs)? {
            put(&self.below(&place), 0o644, text.as_bytes())?;
        }
        for (shell, place) in self.completions() {
            for (name, program) in [("aniond", &programs.aniond), ("anionctl", &programs.anionctl)] {
                let script = match name {
                    "aniond" => said(program, &["--completions", shell])?,
                    _ => said(program, &["completions", shell])?,
                };
                put(&self.below(&place.replace("NAME", name)), 0o644, script.as_bytes())?;
            }
        }
        let configuration = self.root.join(CONFIGURATION.trim_start_matches('/'));
        if !configuration.exists() {
            put(&configuration, 0o644, &read(&workspace_root().join("etc/anion/heaps.dts"))?)?;
        }
        Ok(written)
    }

    /// Returns the path of a file below the prefix, in the tree.
    fn below(&self, place: &str) -> PathBuf {
        self.root.join(self.prefix.strip_prefix("/").unwrap_or(self.prefix)).join(place)
    }

    /// Returns a unit that starts the installed program.
    fn with_prefix(&self, text: &str) -> String {
        text.replace("ExecStart=/usr/", &format!("ExecStart={}/", self.prefix.display()))
    }

    /// Returns the directories where shells search for completions. Debian's zsh has its own
    /// directory for packages, and searches the other one below /usr/local.
    fn completions(&self) -> [(&'static str, &'static str); 3] {
        let zsh = match self.prefix.to_str() {
            Some("/usr") => "share/zsh/vendor-completions/_NAME",
            _ => "share/zsh/site-functions/_NAME",
        };
        [
            ("bash", "share/bash-completion/completions/NAME"),
            ("zsh", zsh),
            ("fish", "share/fish/vendor_completions.d/NAME.fish"),
        ]
    }
}

/// Returns the manual pages that the programs generate, by their paths.
fn documents(programs: &Programs) -> Result<Vec<(String, String)>> {
    let page = |words: &[&str]| said(&programs.anionctl, words);
    let all = page(&["man"])?;
    let mut pages = vec![("share/man/man8/aniond.8".to_owned(), said(&programs.aniond, &["--man"])?)];
    for command in subcommands(&all) {
        pages.push((format!("share/man/man1/anionctl-{command}.1"), page(&["man", command])?));
    }
    pages.push(("share/man/man1/anionctl.1".to_owned(), all));
    Ok(pages)
}

/// Returns the commands in the main manual page: `anionctl\-NAME(1)`, one in each line.
pub(super) fn subcommands(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter_map(|line| line.strip_prefix("anionctl\\-")?.strip_suffix("(1)"))
}

/// Returns the output of a program, without the settings of the user who installs it.
fn said(program: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    without_settings(&mut command);
    output_of(command.args(words))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file under another name and renames it, so that a running program can be replaced.
/// Creates directories.
///
/// # Errors
/// The error of the system, with the name of the file.
pub(super) fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().context("the path has no parent directory")?;
    make_directories(directory)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let written = fs::write(&new, bytes)
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&new, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Creates a directory and its missing parents, readable for all users with any umask.
fn make_directories(directory: &Path) -> Result<()> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev() {
        let made =
            fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
        made.with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_start_what_is_installed() {
        let tree = |prefix| Tree { root: Path::new("/d"), prefix: Path::new(prefix) };
        let unit = fs::read_to_string(workspace_root().join("etc/systemd/anion.service")).expect("a unit");
        let local = tree("/usr/local").with_prefix(&unit);
        assert!(local.contains("\nExecStart=/usr/local/bin/aniond "), "{local}");
        assert!(local.contains("/usr/bin/udevadm"), "{local}");
        assert_eq!(tree("/usr").with_prefix(&unit), unit);
        assert_eq!(tree("/opt/anion").below("bin/aniond"), Path::new("/d/opt/anion/bin/aniond"));
    }

    #[test]
    fn a_prefix_is_an_absolute_path() {
        assert_eq!(prefix("/usr/local"), Ok(PathBuf::from("/usr/local")));
        for bad in ["", "usr", "/a b", "/a%t"] {
            assert!(prefix(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn commands_are_read_from_the_page() {
        let page = ".TP\nanionctl\\-alloc(1)\nAllocate\n.TP\nanionctl\\-run(1)\n";
        assert_eq!(subcommands(page).collect::<Vec<_>>(), ["alloc", "run"]);
    }
}
