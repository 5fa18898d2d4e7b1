// SPDX-License-Identifier: Apache-2.0
//! Defines the machines of guests: an emulator, and the origin of the guest's programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cross::{self, Rust, Target};
use crate::debian::{Bundle, SID};
use crate::libanion::{self, InstallArgs};
use crate::needs;
use crate::process::{find_program, leashed};
use crate::release;
use crate::tools::{RSBINDER_TOOLS, Tool, cache_dir, ensure_crate, ensure_crate_for};

/// A kind of machine.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The name of the architecture.
    pub(super) name: &'static str,
    emulator: &'static str,
    /// Packages that guests of this kind need, beyond those of every kind.
    pub(super) tools: &'static [Tool],
    /// Board and processor, for the emulator.
    board: &'static [&'static str],
    /// The serial line that the emulator shows, under the name in the guest's kernel.
    console: &'static str,
    /// The target of its programs; without one, they are built for this machine.
    target: Option<&'static Target>,
}

/// A PC.
pub(super) const PC: Machine = Machine {
    name: "x86-64",
    emulator: "qemu-system-x86_64",
    tools: needs::PC,
    board: &["-cpu", "max"],
    console: "ttyS0",
    target: None,
};

/// QEMU's board for 64-bit ARM, without pointer authentication, which would take most of the time.
pub(super) const ARM64: Machine = Machine {
    name: "arm64",
    emulator: "qemu-system-aarch64",
    tools: needs::ARM64,
    board: &["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
    console: "ttyAMA0",
    target: Some(&cross::ARM64),
};

/// The shell and its commands, for guests of another architecture.
const BUSYBOX: Bundle =
    Bundle { name: "busybox-arm64", suite: &SID, with_dependencies: &[], alone: &["busybox-static:arm64"] };

/// The programs for guests of one kind of machine.
#[derive(Debug)]
pub(super) struct Programs {
    /// By their names in `/bin`.
    pub(super) files: BTreeMap<&'static str, PathBuf>,
    /// The program that strips them.
    pub(super) strip: &'static str,
    /// The folder of their libraries; none for this machine's own.
    pub(super) libraries: Option<&'static Path>,
}

impl Machine {
    /// Returns the service, its suite and the other programs, with the benchmark if requested.
    /// Builds them if they are out of date.
    ///
    /// # Errors
    /// If a program cannot be built or downloaded, or the benchmark is requested for a machine on
    /// which times are meaningless.
    pub(super) fn programs(&self, with_benchmark: bool) -> Result<Programs> {
        let (programs, mapper, hub, busybox) = match self.target {
            None => {
                let busybox = find_program("busybox").context("busybox is not in PATH")?;
                (release::build()?, release::build_mapper()?, ensure_crate(RSBINDER_TOOLS)?, busybox)
            }
            Some(target) => {
                let rust = Rust::find()?;
                let busybox = BUSYBOX.obtain(&cache_dir()?)?.path("usr/bin/busybox");
                let (programs, mapper) = release::build_for(target, &rust)?;
                (programs, mapper, ensure_crate_for(RSBINDER_TOOLS, target, &rust)?, busybox)
            }
        };
        let mut files = BTreeMap::from([
            ("aniond", programs.aniond),
            ("anionctl", programs.anionctl),
            ("anion-vts", programs.vts),
            ("anion-contract", programs.contract),
            ("mapper.anion.so", mapper),
            ("busybox", busybox),
        ]);
        files.extend(RSBINDER_TOOLS.programs.iter().map(|program| (*program, hub.join(program))));
        if with_benchmark {
            ensure!(
                self.target.is_none(),
                "the benchmark runs only in guests of this machine's own architecture"
            );
            let bench = release::build_benchmark()?;
            let prefix = bench.with_file_name("libanion");
            libanion::install(&InstallArgs { prefix: prefix.clone() })?;
            files.insert(libanion::PRELOAD, prefix.join("lib").join(libanion::PRELOAD));
            files.insert("anion-bench", bench);
        }
        let strip = self.target.map_or("strip", |target| target.strip);
        Ok(Programs { files, strip, libraries: self.target.map(|target| Path::new(target.libraries)) })
    }

    /// Returns the downloads and builds for its guests, without those in the cache.
    pub(super) fn unfetched(&self, cache: &Path) -> Vec<String> {
        let bundles = if self.target.is_some() { &[&cross::RUST, &BUSYBOX][..] } else { &[] };
        let downloads = bundles.iter().filter_map(|bundle| bundle.unfetched(cache));
        downloads.chain(RSBINDER_TOOLS.unbuilt(cache, self.target)).collect()
    }

    /// Returns the command that boots a guest.
    pub(super) fn boot(&self, image: &Path, initrd: &Path, append: &str) -> Command {
        let mut command = leashed(self.emulator);
        // Software emulation is the same on all machines; a panic ends the emulator instead of
        // rebooting.
        command
            .args(self.board)
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1G"])
            .args(["-nographic", "-no-reboot", "-nic", "none"])
            .arg("-append")
            .arg(format!("console={} quiet panic=-1 {append}", self.console))
            .arg("-kernel")
            .args([image.as_os_str(), "-initrd".as_ref(), initrd.as_os_str()]);
        command
    }
}
