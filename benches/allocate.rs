// SPDX-License-Identifier: Apache-2.0
//! What a client waits for, beside the floor: a bare exchange that hands over a fresh memfd by SCM_RIGHTS, without
//! binder, heaps or books. `cargo bench`; `cargo bench -- --json` for scripts.
//!
//! All variants take turns within one run, so that a noisy machine disturbs them alike; read the ratios. A ratio is
//! withheld when its own floor moved by more than a fifth between the halves of the run.

use anion::sys::map::SharedMap;
use anion::sys::memfd::MemfdFactory;
use anion::units::Access;
use anion_ipc::{Endpoint, SERVICE_NAME, connect};
use anyhow::{Context, ensure};
use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use vendor_anion_allocator::aidl::vendor::anion::allocator::{
    AllocationRequest::AllocationRequest, IHeapAllocator::IHeapAllocator,
};

/// Runs of every variant.
const ROUNDS: usize = 2000;
/// Runs of variants that touch this much or more.
const HEAVY_ROUNDS: usize = 60;
const HEAVY_BYTES: u64 = 1 << 20;
/// A floor whose median moved more than this between the halves tells nothing.
const STEADY: f64 = 0.20;
/// A heap that keeps what is released, and one that makes every buffer anew.
const HEAPS: &str = r#"/dts-v1/;
/ { anion { compatible = "anion,heaps-v1";
    pooled { type = "system"; heap-id = <1>; };
    fresh { type = "system"; heap-id = <0>; immediate-free; };
}; };"#;
/// First argument that turns this program into the bare server.
const RAW_SERVER: &str = "--raw-server";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|word| word == RAW_SERVER) {
        return raw_server(Path::new(args.get(1).context("the socket's path")?));
    }
    let directory = tempfile::tempdir()?;
    let (service_path, raw_path) = (directory.path().join("anion"), directory.path().join("raw"));
    let heaps = directory.path().join("heaps.dts");
    std::fs::write(&heaps, HEAPS)?;
    let _service = serve(
        Command::new(env!("CARGO_BIN_EXE_aniond"))
            .args(["--log-level", "warn", "--transport", "socket", "--config"])
            .arg(heaps)
            .arg("--socket")
            .arg(&service_path),
        &service_path,
    )?;
    let _raw = serve(Command::new(std::env::current_exe()?).arg(RAW_SERVER).arg(&raw_path), &raw_path)?;
    let connection = connect::<dyn IHeapAllocator>(&Endpoint::Socket(service_path), SERVICE_NAME, 1)?;
    let raw = UnixStream::connect(raw_path)?;
    let variants = run(connection.service.as_ref(), &raw)?;
    report(&variants, args.iter().any(|word| word == "--json"))
}

/// A process of ours, ended with the benchmark.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(command: &mut Command, socket: &PathBuf) -> anyhow::Result<Server> {
    let server = Server(command.spawn().with_context(|| format!("starting {command:?}"))?);
    let deadline = Instant::now() + Duration::from_secs(10);
    while UnixStream::connect(socket).is_err() {
        ensure!(Instant::now() < deadline, "{} does not answer", socket.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(server)
}

/// Answers every eight bytes, a size, with a fresh sealed memfd of that size.
fn raw_server(path: &Path) -> anyhow::Result<()> {
    let factory = MemfdFactory::probe()?;
    for stream in UnixListener::bind(path)?.incoming() {
        let mut stream = stream?;
        let mut size = [0; 8];
        while stream.read_exact(&mut size).is_ok() {
            let fd = factory.create("raw", u64::from_le_bytes(size))?;
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [fd.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&fds));
            sendmsg(&stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
        }
    }
    Ok(())
}

fn raw_allocate(mut socket: &UnixStream, bytes: u64) -> anyhow::Result<OwnedFd> {
    socket.write_all(&bytes.to_le_bytes())?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.flatten().next().context("the bare server sent no descriptor")
}

fn allocate(
    service: &dyn IHeapAllocator,
    heap: &str,
    bytes: u64,
    count: i32,
) -> anyhow::Result<Vec<OwnedFd>> {
    let size = i64::try_from(bytes)?;
    let request = AllocationRequest { size, count, heapNames: vec![heap.to_owned()], ..Default::default() };
    let allocation = service.allocate(&request).map_err(|status| anyhow::anyhow!("{status}"))?;
    let fds = allocation.buffers.into_iter().filter_map(|buffer| buffer.fd).map(OwnedFd::from);
    Ok(fds.collect())
}

/// What a variant lets go of after its time was taken.
type Held = Option<(OwnedFd, SharedMap)>;

/// Maps and touches every page, as a client does before its first use.
fn touch(fd: OwnedFd, bytes: u64) -> anyhow::Result<Held> {
    let page = usize::try_from(anion::sys::memory::page_size()?.bytes())?;
    let map = SharedMap::new(&fd, usize::try_from(bytes)?, Access::ReadWrite)?;
    for offset in (0..map.len()).step_by(page) {
        map.write_at(offset, &[1])?;
    }
    Ok(Some((fd, map)))
}

/// One thing that is timed.
struct Variant<'a> {
    name: String,
    /// Name of the variant that it is compared with; its own for a floor.
    floor: String,
    rounds: usize,
    work: Box<dyn Fn() -> anyhow::Result<Held> + 'a>,
    /// Nanoseconds, in the first and second half of the run.
    halves: [Histogram<u64>; 2],
}

impl<'a> Variant<'a> {
    fn new(
        name: &str,
        floor: &str,
        bytes: u64,
        work: impl Fn() -> anyhow::Result<Held> + 'a,
    ) -> anyhow::Result<Self> {
        let rounds = if bytes < HEAVY_BYTES { ROUNDS } else { HEAVY_ROUNDS };
        let halves = [Histogram::new(3)?, Histogram::new(3)?];
        Ok(Self { name: name.to_owned(), floor: floor.to_owned(), rounds, work: Box::new(work), halves })
    }

    fn all(&self) -> Histogram<u64> {
        let mut all = self.halves[0].clone();
        // The halves have the same shape, so adding them cannot fail.
        let _ = all.add(&self.halves[1]);
        all
    }

    fn moved(&self) -> f64 {
        let [first, second] = [0, 1].map(|half: usize| micros(self.halves[half].value_at_quantile(0.5)));
        (first - second).abs() / first.min(second)
    }
}

fn run<'a>(service: &'a dyn IHeapAllocator, raw: &'a UnixStream) -> anyhow::Result<Vec<Variant<'a>>> {
    let closed = |fds: Vec<OwnedFd>| {
        drop(fds);
        None
    };
    let mut variants = Vec::new();
    let floor = "bare: memfd 4 KiB, close";
    variants.push(Variant::new(floor, floor, 0, move || raw_allocate(raw, 4096).map(|fd| closed(vec![fd])))?);
    variants.push(Variant::new("anion: list heaps", floor, 0, move || {
        service.listHeaps().map(|_| None).map_err(|status| anyhow::anyhow!("{status}"))
    })?);
    for (text, bytes) in [("4 KiB", 4 << 10), ("1 MiB", 1 << 20), ("32 MiB", 32 << 20)] {
        let name = format!("anion: allocate {text}, close");
        variants
            .push(Variant::new(&name, floor, 0, move || allocate(service, "fresh", bytes, 1).map(closed))?);
    }
    variants.push(Variant::new("anion: allocate 16 x 4 KiB, close", floor, 0, move || {
        allocate(service, "fresh", 4096, 16).map(closed)
    })?);
    for (text, bytes) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("8 MiB", 8 << 20), ("32 MiB", 32 << 20)]
    {
        let floor = format!("bare: ready {text}");
        variants.push(Variant::new(&floor, &floor, bytes, move || touch(raw_allocate(raw, bytes)?, bytes))?);
        for heap in ["fresh", "pooled"] {
            variants.push(Variant::new(&format!("anion: ready {text}, {heap}"), &floor, bytes, move || {
                touch(allocate(service, heap, bytes, 1)?.pop().context("a buffer")?, bytes)
            })?);
        }
    }
    for round in 0..ROUNDS {
        for variant in variants.iter_mut().filter(|variant| round < variant.rounds) {
            let start = Instant::now();
            let held = (variant.work)()?;
            let elapsed = start.elapsed();
            drop(held);
            let half = usize::from(round * 2 >= variant.rounds);
            variant.halves[half].record(u64::try_from(elapsed.as_nanos())?)?;
        }
    }
    Ok(variants)
}

#[expect(clippy::cast_precision_loss, reason = "a time that is shown")]
fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

fn report(variants: &[Variant<'_>], json: bool) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["variant (µs)", "min", "p50", "p99", "to its floor"]);
    let mut rows = Vec::new();
    for variant in variants {
        let floor =
            variants.iter().find(|other| other.name == variant.floor).context("every floor is a variant")?;
        let (all, floor_p50) = (variant.all(), micros(floor.all().value_at_quantile(0.5)));
        let [min, p50, p99] =
            [all.min(), all.value_at_quantile(0.5), all.value_at_quantile(0.99)].map(micros);
        let steady = floor.moved() <= STEADY;
        let ratio = if steady { format!("{:.2}", p50 / floor_p50) } else { "floor moved".to_owned() };
        table.add_row([
            variant.name.clone(),
            format!("{min:.1}"),
            format!("{p50:.1}"),
            format!("{p99:.1}"),
            ratio,
        ]);
        rows.push(serde_json::json!({
            "variant": variant.name, "floor": variant.floor, "rounds": all.len(),
            "min_us": min, "p50_us": p50, "p99_us": p99, "ratio": steady.then_some(p50 / floor_p50),
        }));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let text = if json { serde_json::to_string_pretty(&rows)? } else { table.to_string() };
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
