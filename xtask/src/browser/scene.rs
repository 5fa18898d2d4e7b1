// SPDX-License-Identifier: Apache-2.0
//! Prepares the scene of the screenshots: a service whose camera heap a pipeline and some programs
//! have used.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Killed, leashed, run};
use crate::release::{self, Programs};
use crate::server::Server;

/// The heap whose charts are checked.
pub(super) const HEAP: &str = "camera";

/// A heap for cameras with memory that is set aside, which the service tries first, and a heap with
/// ordinary memory.
const HEAPS: &str = r#"/dts-v1/;
/ {
    anion {
        compatible = "anion,heaps-v1";
        camera { type = "carveout"; heap-id = <30>; size = <0x4000000>; device = "memfd"; deferred-free; };
        system { type = "system"; heap-id = <25>; device = "memfd"; deferred-free; };
    };
};
"#;

/// The name of the service's socket, which the page shows.
pub(super) const SOCKET: &str = "allocator.sock";

/// Sizes of the buffers that programs hold or release, so that free memory is fragmented.
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

/// Longest time for the service to start.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs of the pipeline: the second one gets the buffers of the first from the pool.
const RUNS: u32 = 3;

/// Starts a service in `scratch`, uses it, and returns the path of the page that `anionctl report`
/// writes.
///
/// # Errors
/// If a program cannot be built or started, or fails.
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

/// Lets programs hold and release buffers, runs the pipeline, and causes a refusal. Returns the
/// programs that still hold buffers.
fn use_memory(programs: &Programs, pipeline: &Path, scratch: &Path) -> Result<Vec<Killed>> {
    let mut kept = Vec::new();
    let mut released = Vec::new();
    for (size, is_kept) in SIZES {
        let holder = hold(programs, scratch, size)?;
        if is_kept { kept.push(holder) } else { released.push(holder) }
    }
    drop(released);
    // Frees the released memory between the held buffers.
    run(anionctl(programs, scratch).arg("trim"))?;
    for _ in 0..RUNS {
        let mut pipeline = leashed(pipeline);
        run(pipeline.args(["--socket", SOCKET, "--frames", "30"]).current_dir(scratch))?;
    }
    let mut refused = anionctl(programs, scratch);
    refused.args(["alloc", "--heap", HEAP, "--size", "100M"]).stderr(Stdio::null());
    let status = refused.status().context("cannot start anionctl")?;
    ensure!(!status.success(), "anionctl allocated 100 MiB from a heap of 64 MiB");
    Ok(kept)
}

/// Starts a program that holds a buffer, and waits until it does.
fn hold(programs: &Programs, scratch: &Path, size: &str) -> Result<Killed> {
    let mut command = anionctl(programs, scratch);
    command.args(["alloc", "--heap", HEAP, "--size", size, "--hold", "1h"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start anionctl")?;
    let output = child.stdout.take().context("the standard output of anionctl is not piped")?;
    let holder = Killed(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).context("anionctl wrote no text")?;
    ensure!(!line.is_empty(), "anionctl could not allocate {size} from {HEAP}");
    Ok(holder)
}
