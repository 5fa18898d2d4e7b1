// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask vm`: the service and its conformance suite over kernel binder, in a guest.

mod guest;
mod initramfs;
mod kernel;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use self::guest::Progress;
use self::initramfs::Initramfs;
use self::kernel::{Kernel, SERIES};
use crate::process::{find_program, leashed, line_of, lossy_lines};
use crate::release;
use crate::tally::{Tally, plain};
use crate::tools::{RSBINDER_TOOLS, Tool, cache_dir, ensure_crate, ensure_tools};

/// Seconds. An idle machine with two cores takes a quarter of it.
const TIMEOUT: u64 = 900;

/// Boot a guest and run the service and its conformance suite over kernel binder in it
#[derive(Debug, Clone, Args)]
pub(crate) struct VmArgs {
    /// Keep the guest's serial log in this file
    #[arg(long, value_name = "FILE")]
    keep_log: Option<PathBuf>,

    /// Stop a guest that has not come to an end after this many seconds
    #[arg(long, value_name = "SECS", default_value_t = TIMEOUT, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

impl Default for VmArgs {
    fn default() -> Self {
        Self { keep_log: None, timeout: TIMEOUT }
    }
}

/// What this needs beyond a Debian base system and Rust.
const TOOLS: [Tool; 6] = [
    Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" },
    Tool { program: "busybox", package: "busybox-static" },
    Tool { program: "xz", package: "xz-utils" },
    Tool { program: "strip", package: "binutils" },
    Tool { program: "dpkg-deb", package: "dpkg" },
    Tool { program: "setpriv", package: "util-linux" },
];

/// Runs the guest and adds the tests it ran to `tally`.
///
/// # Errors
/// What is missing to run it, or everything that went wrong in it.
pub(crate) fn run(args: &VmArgs, tally: &mut Tally) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "guests are booted on x86-64 only: the programs are this machine's"
    );
    ensure!(
        find_program("apt-get").is_some() && find_program("apt-cache").is_some(),
        "guest kernels come from Debian's package manager, but apt-get and apt-cache are not in PATH"
    );
    ensure_tools(&TOOLS)?;
    let [series] = &SERIES;
    let kernel = series.newest(&cache_dir()?)?;
    println!("kernel: {}", kernel.title);
    let hub = ensure_crate(RSBINDER_TOOLS)?;
    let mut programs = release::build()?.all();
    programs.extend(RSBINDER_TOOLS.programs.iter().map(|program| hub.join(program)));

    let scratch = tempfile::tempdir().context("no scratch directory")?;
    let initrd = scratch.path().join("initramfs.gz");
    write_initramfs(&initrd, &programs, &kernel)?;
    boot(&kernel.image, &initrd, args, tally)
}

fn write_initramfs(path: &Path, programs: &[PathBuf], kernel: &Kernel) -> Result<()> {
    let busybox = find_program("busybox").context("busybox has gone")?;
    let mut root = Initramfs::default();
    guest::furnish(&mut root);
    root.programs(programs.iter().chain([&busybox]))?;
    for (number, module) in kernel.modules.iter().enumerate() {
        // The script inserts them in the order of their names.
        root.file(format!("/modules/{number:02}.ko"), 0o644, initramfs::unpack_module(module)?);
    }
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    root.write_to(file).with_context(|| format!("cannot write {}", path.display()))
}

/// A running guest, killed when dropped.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots the guest, follows its serial log to the end and judges it.
fn boot(image: &Path, initrd: &Path, args: &VmArgs, tally: &mut Tally) -> Result<()> {
    let mut command = leashed("qemu-system-x86_64");
    // Software emulation is the same everywhere; a panic ends the emulator instead of rebooting.
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1G"])
        .args(["-nographic", "-no-reboot", "-nic", "none"])
        .args(["-append", "console=ttyS0 quiet panic=-1", "-kernel"])
        .args([image.as_os_str(), "-initrd".as_ref(), initrd.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut log = match &args.keep_log {
        Some(path) => Some(File::create(path).with_context(|| format!("cannot create {}", path.display()))?),
        None => None,
    };

    let start = Instant::now();
    let deadline = start + Duration::from_secs(args.timeout);
    let line = line_of(&command);
    let mut guest = Guest(command.spawn().with_context(|| format!("cannot start `{line}`"))?);
    let serial = guest.0.stdout.take().context("the emulator has no output")?;
    let (sender, lines) = mpsc::channel();
    // Ends with the emulator's output or, if the guest was given up, with the next line after that.
    std::thread::spawn(move || lossy_lines(serial).try_for_each(|line| sender.send(line)));

    let mut progress = Progress::new();
    let result = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(text) => {
                let text = plain(&text.context("cannot read the guest's serial log")?);
                if let Some(log) = &mut log {
                    writeln!(log, "{text}").context("cannot write the guest's log")?;
                }
                println!("guest| {text}");
                if let Some(told) = progress.feed(&text, Instant::now()) {
                    println!("guest: {told}");
                }
            }
            Err(RecvTimeoutError::Disconnected) => break progress.judge(),
            Err(RecvTimeoutError::Timeout) => {
                let place = progress.place();
                break Err(anyhow!("the guest did not end within {} s; it was {place}", args.timeout));
            }
        }
    };
    *tally += progress.tally();
    println!("guest: {} in {:.1} s", progress.tally(), start.elapsed().as_secs_f64());
    result
}
