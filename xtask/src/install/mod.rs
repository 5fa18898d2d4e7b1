// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask install`: installs the service, its command line and all files that a machine with
//! systemd needs to run them, as one tree. `deb.rs` packs it.

mod deb;
mod tree;

pub(crate) use deb::{DistArgs, Packing, dist, package};

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::tree::Tree;
use crate::process::output_of;
use crate::release;
use crate::tally::Tally;

/// Install aniond and anionctl with manual pages, completions, heaps.dts, systemd units, and the
/// group and udev rules that permit the service to open its devices
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Directory that is used as the machine's root
    #[arg(long, value_name = "DIR", default_value = "/")]
    destdir: PathBuf,

    /// Directory of programs, units and pages; the configuration is always in /etc
    #[arg(long, value_name = "DIR", default_value = "/usr", value_parser = tree::prefix)]
    prefix: PathBuf,
}

/// Builds the programs and installs the tree. Keeps an existing configuration.
///
/// # Errors
/// If the build fails, or a file cannot be written.
pub(crate) fn install(args: &InstallArgs) -> Result<()> {
    let destdir = std::path::absolute(&args.destdir).context("cannot resolve the directory --destdir")?;
    let tree = Tree { root: &destdir, prefix: &args.prefix };
    let files = tree.install(&release::build()?)?;
    println!("installed {files} files below {}", destdir.display());
    if destdir == Path::new("/") {
        println!(
            "to serve, run as root: systemd-sysusers && udevadm control --reload && udevadm trigger && \
             systemctl daemon-reload && systemctl enable --now anion.socket"
        );
    }
    Ok(())
}

/// The files of the package, except the pages of `anionctl`'s commands.
const EXPECTED: [&str; 23] = [
    "/etc/anion/heaps.dts",
    "/usr/bin/anionctl",
    "/usr/bin/aniond",
    "/usr/lib/modules-load.d/anion.conf",
    "/usr/lib/systemd/system/anion.service",
    "/usr/lib/systemd/system/anion.socket",
    "/usr/lib/systemd/user/anion.service",
    "/usr/lib/systemd/user/anion.socket",
    "/usr/lib/sysusers.d/anion.conf",
    "/usr/lib/tmpfiles.d/anion.conf",
    "/usr/lib/udev/rules.d/60-anion.rules",
    "/usr/share/bash-completion/completions/anionctl",
    "/usr/share/bash-completion/completions/aniond",
    "/usr/share/doc/anion/changelog.gz",
    "/usr/share/doc/anion/copyright",
    "/usr/share/fish/vendor_completions.d/anionctl.fish",
    "/usr/share/fish/vendor_completions.d/aniond.fish",
    "/usr/share/man/man1/anionctl.1.gz",
    "/usr/share/man/man5/anion-heaps.5.gz",
    "/usr/share/man/man8/aniond.8.gz",
    "/usr/share/lintian/overrides/anion",
    "/usr/share/zsh/vendor-completions/_anionctl",
    "/usr/share/zsh/vendor-completions/_aniond",
];

/// Creates the package and checks its files. A guest with systemd installs it (`cargo xtask vm
/// --systemd`).
///
/// # Errors
/// If it cannot be created, or a file is missing, unexpected, or not owned by root.
pub(crate) fn test(tally: &mut Tally) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot create a scratch directory")?;
    let programs = release::build()?;
    let package = package(&programs, env!("CARGO_PKG_VERSION"), Packing::Xz, scratch.path())?;
    let listed = output_of(Command::new("dpkg-deb").arg("--contents").arg(&package))?;
    let page = output_of(Command::new(&programs.anionctl).arg("man"))?;
    let commands = tree::subcommands(&page).map(|name| format!("/usr/share/man/man1/anionctl-{name}.1.gz"));
    let mut expected: Vec<String> = EXPECTED.iter().map(|path| (*path).to_owned()).chain(commands).collect();
    ensure!(expected.len() > EXPECTED.len() + 10, "anionctl(1) lists fewer than 11 commands");
    expected.sort();
    let mut found = Vec::new();
    for line in listed.lines() {
        let (mode, path) = (line.split(' ').next().unwrap_or_default(), line.rsplit(' ').next());
        ensure!(line.contains(" root/root "), "the owner and group are not root: {line}");
        let wanted = match path {
            Some(path) if path.ends_with('/') => "drwxr-xr-x",
            Some(path) if path.starts_with("./usr/bin/") => "-rwxr-xr-x",
            _ => "-rw-r--r--",
        };
        ensure!(mode == wanted, "the mode is not {wanted}: {line}");
        found.extend(path.and_then(|path| path.strip_prefix('.')).filter(|path| !path.ends_with('/')));
    }
    found.sort_unstable();
    ensure!(found == expected, "the package contains {found:#?}\nbut the expected files are {expected:#?}");
    *tally += Tally::one(true);
    Ok(())
}
