// SPDX-License-Identifier: Apache-2.0
//! Creates a minimal Debian 12 in a directory, and a namespace whose root it is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::debian::mirror;
use crate::needs::FRESH;
use crate::needs::KEYRING;
use crate::process::{cargo_home, line_of, output_of, run, workspace_root};
use crate::tools::ensure_tools;

/// The suite of Debian 12 in README.md.
const SUITE: &str = "bookworm";

/// The packages that README.md requires for Rust, beside the toolchain: rustc needs a linker and
/// the C library's files for it.
const LINKER: &str = "gcc,libc6-dev";

/// Certificates that this machine trusts, and those among them that its owner has added.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const OWN_CERTIFICATES: &str = "/usr/local/share/ca-certificates";

/// The path of the checkout in the root.
const CHECKOUT: &str = "/root/anion";

const ENTER: &str = include_str!("enter.sh");

/// A Debian in its own directory, which is locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Root {
    place: PathBuf,
    _lock: Flock<fs::File>,
}

impl Root {
    /// Creates the root in `place` from packages that are downloaded now, with a clone of the
    /// checkout's last commit. Removes the root of an earlier run.
    ///
    /// # Errors
    /// If `place` contains other files or is in use, a package is unavailable, or this machine's
    /// toolchain has no directory of its own.
    pub(crate) fn make(place: &Path) -> Result<Self> {
        ensure_tools(FRESH)?;
        let root = Self::claim(place)?;
        let target = root.path();
        if target.exists() {
            println!("removing the root of an earlier run");
            fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
        }
        let mut make = contained("mmdebstrap");
        make.args(["--quiet", "--variant=minbase", "--mode=root", "--format=directory"]);
        make.arg(format!("--include={LINKER}"));
        make.args(acquire_options(&output_of(Command::new("apt-config").arg("dump"))?));
        make.arg(SUITE).arg(&target);
        run(make.args(sources(&mirror("Debian")?, &mirror("Debian-Security")?)))?;
        root.equip()?;
        root.clone_checkout()?;
        Ok(root)
    }

    /// Locks a directory that is empty or was created by an earlier run.
    fn claim(place: &Path) -> Result<Self> {
        fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
        let place = place.canonicalize().with_context(|| format!("cannot use {}", place.display()))?;
        let lock = place.join("lock");
        let is_empty = fs::read_dir(&place).context("cannot list the root's directory")?.next().is_none();
        ensure!(
            is_empty || lock.is_file(),
            "{} is neither empty nor of an earlier run: name another directory with --root",
            place.display()
        );
        let file = fs::File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            bail!("another run uses {}: name another directory with --root", place.display());
        };
        Ok(Self { place, _lock: lock })
    }

    /// Returns the directory that is the root.
    pub(crate) fn path(&self) -> PathBuf {
        self.place.join("root")
    }

    /// Adds the configuration with which this machine reaches the registries, and the script that
    /// enters the root.
    fn equip(&self) -> Result<()> {
        for file in ["/etc/resolv.conf", "/etc/hosts", CERTIFICATES] {
            if Path::new(file).is_file() {
                copy(Path::new(file), &self.inside(file))?;
            }
        }
        if Path::new(OWN_CERTIFICATES).is_dir() {
            // A step that installs the package ca-certificates generates a new file from them.
            for entry in fs::read_dir(OWN_CERTIFICATES).context("cannot list the certificates")?.flatten() {
                if entry.path().is_file() {
                    copy(&entry.path(), &self.inside(OWN_CERTIFICATES).join(entry.file_name()))?;
                }
            }
        }
        if let Some(home) = cargo_home() {
            // Of the files in cargo's home, only this one may name a registry. Credentials are not
            // copied.
            for name in ["config.toml", "config"].map(|name| home.join(name)) {
                if name.is_file() {
                    copy(&name, &self.inside("/root/.cargo/config.toml"))?;
                    break;
                }
            }
        }
        fs::create_dir_all(self.inside("/opt/rust")).context("cannot create the folder of the toolchain")?;
        for program in ["cargo", "cargo-clippy", "cargo-fmt", "clippy-driver", "rustc", "rustdoc", "rustfmt"]
        {
            let link = self.inside("/usr/local/bin").join(program);
            symlink(Path::new("/opt/rust/bin").join(program), link).context("cannot link the toolchain")?;
        }
        let sysroot = output_of(Command::new("rustc").args(["--print", "sysroot"]))?;
        let rust = Path::new(sysroot.trim());
        ensure!(
            rust != Path::new("/usr") && rust.join("bin/cargo-clippy").is_file(),
            "{} must be the directory of one toolchain with clippy, such as rustup creates",
            rust.display()
        );
        let shared = workspace_root().join("../shared").canonicalize().ok().filter(|dir| dir.is_dir());
        if shared.is_some() {
            let beside = self.inside(CHECKOUT).with_file_name("shared");
            fs::create_dir_all(beside).context("cannot create the folder of the device trees")?;
        }
        let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
        let script = format!(
            "root={} rust={} shared={}\n{ENTER}",
            quoted(&self.path()),
            quoted(rust),
            shared.as_deref().map(quoted).unwrap_or_default()
        );
        fs::write(self.script(), script).context("cannot write the script that enters the root")
    }

    /// Returns the path of a file in the root from outside.
    fn inside(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    fn script(&self) -> PathBuf {
        self.place.join("enter.sh")
    }

    /// Clones the checkout's last commit, as a user would get it.
    fn clone_checkout(&self) -> Result<()> {
        let mut git = Command::new("git");
        git.args(["clone", "--quiet", "--no-hardlinks"]).arg(workspace_root());
        run(git.arg(self.inside(CHECKOUT)))?;
        let mut status = Command::new("git");
        status.arg("-C").arg(workspace_root()).args(["status", "--porcelain"]);
        if !output_of(&mut status)?.is_empty() {
            println!("the clone lacks the checkout's uncommitted changes");
        }
        Ok(())
    }

    /// Returns the command that starts a shell in the root.
    pub(crate) fn way_in(&self) -> String {
        let mut command = Command::new("unshare");
        command.args(NAMESPACE).arg("sh").arg(self.script()).args(environment(std::env::vars()));
        line_of(command.arg("bash"))
    }

    /// Removes the root. Its directory stays for the next run.
    ///
    /// # Errors
    /// If a file in it cannot be removed.
    pub(crate) fn remove(self) -> Result<()> {
        let path = self.path();
        fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

/// A namespace in which a [`Root`] is the root. All its processes are killed when this is dropped,
/// and when this program ends. Its mounts end with the last process.
#[derive(Debug)]
pub(crate) struct Machine {
    /// `unshare`, which waits for the namespace's first process.
    first: Child,
}

impl Machine {
    /// Creates the machine's namespaces and mounts.
    ///
    /// # Errors
    /// If the kernel refuses a namespace or a mount.
    pub(crate) fn boot(root: &Root) -> Result<Self> {
        let mut command = contained("sh");
        // As the first process, the shell waits for orphaned processes.
        command.arg(root.script()).args(["sh", "-c", "echo ready; sleep infinity & wait"]);
        let line = line_of(&command);
        let first = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut machine = Self { first: first.with_context(|| format!("cannot start `{line}`"))? };
        let mut said = String::new();
        let output = machine.first.stdout.as_mut().context("the output of unshare is not piped")?;
        BufReader::new(output).read_line(&mut said).context("cannot read from the namespace")?;
        ensure!(said == "ready\n", "`{line}` did not start a namespace in the root");
        Ok(machine)
    }

    /// Returns a shell command in the machine's checkout, with the few variables of a new user.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let of = |kind: &str| format!("/proc/{}/ns/{kind}", self.first.id());
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={}", of("mnt"))).arg(format!("--pid={}", of("pid_for_children")));
        command.args(environment(std::env::vars())).args(["bash", "-c", line]).stdin(Stdio::null());
        command
    }

    /// Returns the path of the machine's file for this program.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first.id()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The kernel kills the namespace's first process with `unshare`, and then all others.
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

const NAMESPACE: [&str; 5] = ["--mount", "--pid", "--fork", "--kill-child", "--"];

/// Returns a program in its own namespaces. It is killed with all of its children when this program
/// ends. `unshare` blocks SIGTERM, so the signal is SIGKILL.
fn contained(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare"]).args(NAMESPACE).arg(program);
    command
}

/// Returns the arguments of `env` for a user who has just logged in. Of this machine's variables,
/// keeps only those for reaching registries.
fn environment(machine: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let is_needed = |name: &str| {
        let cargo = ["CARGO_HTTP_", "CARGO_NET_", "CARGO_SOURCE_", "CARGO_REGISTRIES_"];
        let is_proxy = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"]
            .iter()
            .any(|proxy| proxy.eq_ignore_ascii_case(name));
        is_proxy || cargo.iter().any(|prefix| name.starts_with(prefix)) && !name.ends_with("_TOKEN")
    };
    let mut words: Vec<_> = ["env", "-i", "-C", CHECKOUT, "HOME=/root", "USER=root", "LOGNAME=root"]
        .map(str::to_owned)
        .into_iter()
        .chain(["SHELL=/bin/bash", "LANG=C.UTF-8", "TERM=dumb"].map(str::to_owned))
        .chain(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()])
        .collect();
    words.extend(machine.filter(|(name, _)| is_needed(name)).map(|(name, value)| format!("{name}={value}")));
    words
}

/// Returns the sources list of a Debian with these mirrors.
fn sources(debian: &str, security: &str) -> [String; 3] {
    let keyring = KEYRING.program;
    [
        format!("deb [signed-by={keyring}] {debian} {SUITE} main"),
        format!("deb [signed-by={keyring}] {debian} {SUITE}-updates main"),
        format!("deb [signed-by={keyring}] {security} {SUITE}-security main"),
    ]
}

/// Returns the settings in the output of `apt-config dump` for reaching archives and for their age,
/// as options for mmdebstrap, which stores them in the root.
pub(crate) fn acquire_options(dump: &str) -> Vec<String> {
    let wanted = ["http::", "https::", "Check-", "Retries ", "ForceIPv"];
    let is_wanted = |line: &&str| {
        let name = line.strip_prefix("Acquire::").unwrap_or_default();
        // An empty value is apt's default.
        wanted.iter().any(|prefix| name.starts_with(prefix)) && !line.ends_with(" \"\";")
    };
    dump.lines().filter(is_wanted).map(|line| format!("--aptopt={line}")).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(from, to));
    copied.map(|_| ()).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_user_has_few_variables() {
        let machine = [
            ("HOME", "/home/me"),
            ("CARGO_TARGET_DIR", "/t"),
            ("RUSTFLAGS", "-g"),
            ("https_proxy", "http://p.example:1"),
            ("NO_PROXY", "localhost"),
            ("CARGO_HTTP_CAINFO", "/c"),
            ("CARGO_REGISTRIES_X_INDEX", "sparse+https://x.example/"),
            ("CARGO_REGISTRIES_X_TOKEN", "t"),
        ];
        let words = environment(machine.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter());
        assert_eq!(words.iter().filter(|word| word.starts_with("HOME=")).collect::<Vec<_>>(), ["HOME=/root"]);
        assert_eq!(
            words[words.len() - 4..],
            [
                "https_proxy=http://p.example:1",
                "NO_PROXY=localhost",
                "CARGO_HTTP_CAINFO=/c",
                "CARGO_REGISTRIES_X_INDEX=sparse+https://x.example/"
            ]
        );
        assert!(words[words.len() - 5].starts_with("PATH="), "{words:?}");
    }

    #[test]
    fn archives_are_reached_as_on_this_machine() {
        let dump = "APT::Architecture \"amd64\";\nAcquire \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"\";\n\
            Acquire::http::Timeout \"9\";\nAcquire::Check-Date \"false\";\nAcquire::Languages \"none\";\n\
            Acquire::Retries \"3\";\nDPkg::Post-Invoke:: \"rm -f /x\";\n";
        assert_eq!(
            acquire_options(dump),
            [
                "--aptopt=Acquire::http::Timeout \"9\";",
                "--aptopt=Acquire::Check-Date \"false\";",
                "--aptopt=Acquire::Retries \"3\";"
            ]
        );
    }

    #[test]
    fn sources_are_of_debian_12() {
        let [main, updates, security] = sources("http://a.example/debian/", "http://b.example/security/");
        assert!(main.ends_with("http://a.example/debian/ bookworm main"), "{main}");
        assert!(updates.ends_with("http://a.example/debian/ bookworm-updates main"), "{updates}");
        assert!(security.ends_with("http://b.example/security/ bookworm-security main"), "{security}");
    }

    #[test]
    fn a_directory_with_something_else_is_not_taken() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = Root::claim(&dir.path().join("new")).expect("it is created");
        let error = Root::claim(&dir.path().join("new")).expect_err("it is in use").to_string();
        assert!(error.contains("another run"), "{error}");
        drop(first);
        Root::claim(&dir.path().join("new")).expect("it was one before");
        fs::create_dir(dir.path().join("new/root")).expect("created");
        Root::claim(&dir.path().join("new")).expect("with a root in it");
        let error = Root::claim(dir.path()).expect_err("`new` is in it").to_string();
        assert!(error.contains("neither empty nor"), "{error}");
    }
}
