// SPDX-License-Identifier: Apache-2.0
//! What the pictures show: a service whose memory for cameras a pipeline and some programs have
//! used.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{leashed, run};
use crate::release::{self, Programs};
use crate::server::Server;

/// The heap whose pictures are looked at.
pub(super) const HEAP: &str = "camera";

/// Memory that is set aside for cameras, which requests that name no heap get first; ordinary
/// memory for all else.
const HEAPS: &str = r#"/dts-v1/;
/ {
    anion {
        compatible = "anion,heaps-v1";
        camera { type = "carveout"; heap-id = <30>; size = <0x4000000>; device = "memfd"; deferred-free; };
        system { type = "system"; heap-id = <25>; device = "memfd"; deferred-free; };
    };
};
"#;

/// The service's socket in its directory: the page shows it.
pub(super) const SOCKET: &str = "allocator.sock";

/// Sizes of the buffers that programs hold or give back, so that free memory is in several pieces.
const SIZES: [(&str, bool); 9] = [
    ("3M", true),
    ("2M", false),
    ("1M", true),
    ("6M", false),
    ("4M", true),
    ("1M", false),
    ("512K", true),
    ("8M", false),
    ("2M", true),
];

/// How long the service may take to start.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often the pipeline runs: the second run gets the buffers of the first from the pool.
const RUNS: u32 = 3;

/// A program that holds buffers until this is dropped.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a service in `scratch`, has it used, and returns the page that `anionctl report` writes.
///
/// # Errors
/// If something cannot be built or started, or does not do what it is for.
pub(super) fn report(scratch: &Path) -> Result<PathBuf> {
    let programs = release::build()?;
    let pipeline = release::build_example("camera_pipeline")?;
    fs::write(scratch.join("heaps.dts"), HEAPS).context("cannot write the configuration")?;
    let mut service = leashed(&programs.aniond);
    service.args(["--transport", "socket", "--seccomp", "built-in", "--config", "heaps.dts"]);
    let server = Server::start(
        service.args(["--socket", SOCKET]).current_dir(scratch),
        &scratch.join(SOCKET),
        PATIENCE,
    )?;
    let holders = use_memory(&programs, &pipeline, scratch)?;
    run(anionctl(&programs, scratch).args(["report", "--html", "report.html"]))?;
    drop(holders);
    server.stop()?;
    Ok(scratch.join("report.html"))
}

fn anionctl(programs: &Programs, scratch: &Path) -> Command {
    let mut command = leashed(&programs.anionctl);
    command.args(["--socket", SOCKET]).current_dir(scratch);
    command
}

/// Has programs hold and release buffers, the pipeline run, and a request refused. Returns those
/// that still hold buffers.
fn use_memory(programs: &Programs, pipeline: &Path, scratch: &Path) -> Result<Vec<Holder>> {
    let mut kept = Vec::new();
    let mut released = Vec::new();
    for (size, is_kept) in SIZES {
        let holder = hold(programs, scratch, size)?;
        if is_kept { kept.push(holder) } else { released.push(holder) }
    }
    drop(released);
    // What they had is free again, between what is kept.
    run(anionctl(programs, scratch).arg("trim"))?;
    for _ in 0..RUNS {
        let mut pipeline = leashed(pipeline);
        run(pipeline.args(["--socket", SOCKET, "--frames", "30"]).current_dir(scratch))?;
    }
    let mut refused = anionctl(programs, scratch);
    refused.args(["alloc", "--heap", HEAP, "--size", "100M"]).stderr(Stdio::null());
    let status = refused.status().context("cannot start anionctl")?;
    ensure!(!status.success(), "100 MiB of 64 were allocated");
    Ok(kept)
}

/// Starts a program that holds a buffer; returns once it does.
fn hold(programs: &Programs, scratch: &Path, size: &str) -> Result<Holder> {
    let mut command = anionctl(programs, scratch);
    command.args(["alloc", "--heap", HEAP, "--size", size, "--hold", "1h"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start anionctl")?;
    let output = child.stdout.take().context("a pipe")?;
    let holder = Holder(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).context("anionctl wrote no text")?;
    ensure!(!line.is_empty(), "anionctl could not allocate {size} of {HEAP}");
    Ok(holder)
}
