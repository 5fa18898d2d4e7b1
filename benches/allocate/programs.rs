// SPDX-License-Identifier: Apache-2.0
//! Measures the cost for a program that uses dma-heaps and does not know Anion. `anionctl run`
//! starts it with the preload library, and with trapped system calls. The comparison is a program
//! that calls the Rust client, and, on machines with a dma-heap, the bare request.
//!
//! Every variant is a process of its own, started once. In each round, all of them allocate a few
//! buffers in sequence.

use crate::client::Client;
use crate::name_of;
use crate::report::{Section, micros, progress};
use crate::servers::{Process, Servers, program};
use anion::testing::{DMA_HEAPS, DmaHeap, HeapName};
use anion_client::BufferAllocator;
use anion_memory::Access;
use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::json;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// First argument that runs this program as one of the measured programs.
pub(crate) const PROGRAM: &str = "--program";
/// The program that opens a device node.
const OF_NODES: &str = "nodes";
/// The program that calls the Rust client.
const OF_CLIENT: &str = "client";

/// The folder into which `cargo xtask install-c` installed.
const PREFIX: &str = "ANION_C_PREFIX";
const PRELOAD: &str = "libanion-preload.so";
/// The variant that all others are compared with.
const CLIENT: &str = "Rust client";
const BARE: &str = "bare dma-heap";
/// The kernel's heap of ordinary memory.
const SYSTEM: &str = "system";

/// Sizes in bytes, and the heap of the buffers: new ones, and those of a pool.
const SIZES: [(u64, &str); 2] = [(4 << 10, "fresh"), (64 << 10, "pooled")];
/// Buffers of one turn, and turns.
const TURN: usize = 50;
const ROUNDS: usize = 40;

/// Allocates a turn of buffers for each byte of standard input, and writes the nanoseconds of each
/// as eight bytes.
///
/// # Errors
/// If there is no heap, or an allocation fails.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let mut next = || args.next().and_then(|word| word.into_string().ok()).context("three words");
    let (kind, heap, bytes) = (next()?, next()?, next()?.parse()?);
    if kind == OF_NODES {
        let heap = DmaHeap::open(Path::new(DMA_HEAPS), &HeapName::new(&heap)?)?;
        take_turns(|| Ok(heap.allocate(bytes, Access::ReadWrite)?))
    } else {
        let client = BufferAllocator::new()?;
        let bytes = usize::try_from(bytes)?;
        take_turns(|| Ok(client.alloc(&heap, bytes, 0)?))
    }
}

fn take_turns(allocate: impl Fn() -> anyhow::Result<OwnedFd>) -> anyhow::Result<()> {
    let (mut input, mut output) = (std::io::stdin(), std::io::stdout());
    while input.read(&mut [0])? == 1 {
        let mut times = Vec::with_capacity(TURN * size_of::<u64>());
        for _ in 0..TURN {
            let start = Instant::now();
            let buffer = allocate()?;
            times.extend(u64::try_from(start.elapsed().as_nanos())?.to_ne_bytes());
            drop(buffer);
        }
        output.write_all(&times)?;
        output.flush()?;
    }
    Ok(())
}

/// One program, and the times of its buffers.
struct Variant {
    name: &'static str,
    input: ChildStdin,
    output: ChildStdout,
    /// Nanoseconds.
    times: Histogram<u64>,
    _process: Process,
}

impl Variant {
    /// Starts it and lets it run one turn, so that it has connected.
    fn start(name: &'static str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("starting {command:?}"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.context("the program has no pipes")?;
        let times = Histogram::new(3)?;
        let mut started = Self { name, input, output, times, _process: Process(child) };
        started.turn().with_context(|| format!("the first turn of {name} failed"))?;
        started.times.reset();
        Ok(started)
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        self.input.write_all(&[0])?;
        let mut times = [0; TURN * size_of::<u64>()];
        self.output.read_exact(&mut times)?;
        for time in times.as_chunks().0 {
            self.times.record(u64::from_ne_bytes(*time))?;
        }
        Ok(())
    }

    fn time(&self, share: f64) -> Duration {
        Duration::from_nanos(self.times.value_at_quantile(share))
    }
}

/// Measures the variants that are possible on this machine, and lists the others.
pub(crate) fn measure(servers: &Servers) -> anyhow::Result<Section> {
    progress("programs");
    let mut about = "A buffer in µs, until the program has its descriptor, for programs that were written for /dev/dma_heap: \
                     `anionctl run` starts them with its library before their own (preload), or traps their system calls \
                     (trap). The others are the Rust client, and the kernel's own dma-heap if the machine has one."
        .to_owned();
    let header = ["size", "heap", "program", "min", "p50", "p99", "p50 - client"];
    let mut rows = Vec::new();
    let mut missing = None;
    let client = Client::new(servers)?;
    for (bytes, heap) in SIZES {
        let (mut variants, absent) = variants(servers, heap, bytes)?;
        missing = Some(absent);
        for round in 0..ROUNDS {
            for turn in 0..variants.len() {
                // The memory that the last variant released is clean again.
                client.settle()?;
                let next = (round + turn) % variants.len();
                variants[next].turn()?;
            }
        }
        let floor = variants.iter().find(|variant| variant.name == CLIENT).context("the client")?;
        let floor = floor.time(0.5).as_secs_f64() * 1e6;
        for variant in &variants {
            let [min, p50, p99] = [0.0, 0.5, 0.99].map(|share| variant.time(share));
            let above = p50.as_secs_f64() * 1e6 - floor;
            let heap = if variant.name == BARE { SYSTEM } else { heap };
            let above_text = if variant.name == CLIENT { String::new() } else { format!("{above:.1}") };
            rows.push((
                [
                    name_of(bytes),
                    heap.to_owned(),
                    variant.name.to_owned(),
                    micros(min),
                    micros(p50),
                    micros(p99),
                    above_text,
                ],
                json!({
                    "bytes": bytes, "heap": heap, "program": variant.name, "min_ns": min.as_nanos(),
                    "p50_ns": p50.as_nanos(), "p99_ns": p99.as_nanos(), "above_client_us": above,
                }),
            ));
        }
    }
    for (name, why) in missing.unwrap_or_default() {
        write!(about, "\nNot run: {name}: {why}.")?;
    }
    let mut section = Section::new("programs", about, &header);
    for (cells, json) in rows {
        section.row(cells, json);
    }
    Ok(section)
}

/// The variants that cannot be measured, and the causes.
type Missing = Vec<(&'static str, String)>;

/// Starts every program that can run on this machine, with buffers of one heap.
fn variants(servers: &Servers, heap: &str, bytes: u64) -> anyhow::Result<(Vec<Variant>, Missing)> {
    let own = std::env::current_exe()?;
    let words = |kind: &str, heap: &str| [PROGRAM, kind, heap, &bytes.to_string()].map(str::to_owned);
    let mut client = Command::new(&own);
    client.args(words(OF_CLIENT, heap)).env("ANION_SOCKET", servers.socket());
    let mut variants = vec![Variant::start(CLIENT, &mut client)?];
    let mut missing = Missing::new();

    let run = |options: &[OsString]| {
        let mut command = Command::new(program("anionctl"));
        command.arg("--socket").arg(servers.socket()).arg("run").args(options).arg("--").arg(&own);
        command.args(words(OF_NODES, heap));
        command
    };
    match library() {
        Some(library) => {
            variants.push(Variant::start("preload", &mut run(&["--preload".into(), library.into()]))?);
        }
        None => missing.push((
            "preload",
            format!("{PREFIX} does not name the DIR of `cargo xtask install-c --prefix DIR`"),
        )),
    }
    variants.push(Variant::start("trap", &mut run(&["--trap".into()]))?);
    match DmaHeap::open(Path::new(DMA_HEAPS), &HeapName::new(SYSTEM)?) {
        Ok(_) => {
            variants.push(Variant::start(BARE, Command::new(&own).args(words(OF_NODES, SYSTEM)))?);
        }
        Err(error) => missing.push((BARE, format!("{DMA_HEAPS}/{SYSTEM}: {error}"))),
    }
    Ok((variants, missing))
}

/// Returns the library of `anionctl run`: the installed one, or the one beside the programs.
fn library() -> Option<PathBuf> {
    let installed = std::env::var_os(PREFIX).map(|prefix| Path::new(&prefix).join("lib").join(PRELOAD));
    installed.into_iter().chain([program(PRELOAD)]).find(|library| library.is_file())
}
