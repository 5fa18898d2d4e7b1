// SPDX-License-Identifier: Apache-2.0
//! Starts the service under test and the bare server, as separate processes.

use android_hardware_graphics_allocator::aidl::android::hardware::graphics::allocator::IAllocator::IAllocator;
use anion_ipc::{Connection, Endpoint, SERVICE_NAME, connect};
use anyhow::{Context, ensure};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// A heap with a pool, and a heap that creates every buffer new.
pub(crate) const HEAPS: &str = r#"/dts-v1/;
/ { anion { compatible = "anion,heaps-v1";
    pooled { type = "system"; heap-id = <1>; };
    fresh { type = "system"; heap-id = <0>; immediate-free; };
    graphics {
        plain { reg = <0>; usages = "cpu"; heaps = "pooled"; };
        camera { usages = "cpu", "camera"; heaps = "fresh"; };
    };
}; };"#;
/// First argument that runs this program as the bare server.
pub(crate) const RAW_SERVER: &str = "--raw-server";

/// Variable with the path of another service program than the one built with this, for machines
/// that received both programs as files.
const SERVICE: &str = "ANION_BENCH_SERVICE";

/// Both servers. They end when this is dropped.
pub(crate) struct Servers {
    service: Process,
    raw: Process,
    service_path: PathBuf,
    raw_path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Servers {
    /// Starts both and waits until they answer.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let [service_path, raw_path, heaps] =
            ["anion", "raw", "heaps.dts"].map(|name| directory.path().join(name));
        std::fs::write(&heaps, HEAPS)?;
        let mut service = aniond("socket", &heaps, &service_path);
        let service = serve(service.arg("--graphics"), &service_path)?;
        let mut raw = Command::new(std::env::current_exe()?);
        let raw = serve(raw.arg(RAW_SERVER).arg(&raw_path), &raw_path)?;
        Ok(Self { service, raw, service_path, raw_path, _directory: directory })
    }

    /// Returns a new connection to the service.
    pub(crate) fn connect(&self) -> anyhow::Result<Connection<dyn IHeapAllocator>> {
        Ok(connect(&Endpoint::Socket(self.service_path.clone()), SERVICE_NAME, 1)?)
    }

    /// Returns a new connection to its graphics allocator.
    pub(crate) fn connect_graphics(&self) -> anyhow::Result<Connection<dyn IAllocator>> {
        Ok(connect(&Endpoint::Socket(self.service_path.with_file_name("graphics.sock")), "", 1)?)
    }

    /// Returns the path of the service's socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.service_path
    }

    /// Returns a new connection to the bare server.
    pub(crate) fn connect_raw(&self) -> anyhow::Result<UnixStream> {
        Ok(UnixStream::connect(&self.raw_path)?)
    }

    /// Returns the service's process.
    pub(crate) fn service(&self) -> &Process {
        &self.service
    }

    /// Returns the bare server's process.
    pub(crate) fn raw(&self) -> &Process {
        &self.raw
    }
}

/// A service with its own heaps, over kernel binder if a service manager answers there and no other
/// service is registered.
pub(crate) struct Service {
    endpoint: Endpoint,
    _process: Process,
    _directory: tempfile::TempDir,
}

impl Service {
    /// Starts it with the heaps of this device tree and waits until it answers.
    pub(crate) fn start(heaps: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let [socket, file] = ["anion", "heaps.dts"].map(|name| directory.path().join(name));
        std::fs::write(&file, heaps)?;
        let is_free = |endpoint: &Endpoint| {
            let found = connect::<dyn IHeapAllocator>(endpoint, SERVICE_NAME, 1);
            found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        let binder = Endpoint::default_binder().filter(is_free);
        let mut command = aniond(if binder.is_some() { "both" } else { "socket" }, &file, &socket);
        let process = serve(&mut command, &socket)?;
        let endpoint = binder.unwrap_or(Endpoint::Socket(socket));
        // The socket answers before binder.
        eventually(&endpoint, || !is_free(&endpoint))?;
        Ok(Self { endpoint, _process: process, _directory: directory })
    }

    /// Returns a connection to it.
    pub(crate) fn connect(&self) -> anyhow::Result<Connection<dyn IHeapAllocator>> {
        Ok(connect(&self.endpoint, SERVICE_NAME, 1)?)
    }

    /// Returns a description of its transport.
    pub(crate) fn transport(&self) -> &'static str {
        match self.endpoint {
            Endpoint::Binder(_) => "kernel binder",
            Endpoint::Socket(_) => "a socket",
        }
    }
}

/// A graphics allocator with its own heaps, over a socket.
pub(crate) struct GraphicsService {
    connection: Connection<dyn IAllocator>,
    _process: Process,
    _directory: tempfile::TempDir,
}

impl GraphicsService {
    /// Starts it with the heaps of this device tree and waits until it answers.
    pub(crate) fn start(heaps: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let [socket, file] = ["anion", "heaps.dts"].map(|name| directory.path().join(name));
        std::fs::write(&file, heaps)?;
        let process = serve(aniond("socket", &file, &socket).arg("--graphics"), &socket)?;
        let endpoint = Endpoint::Socket(socket.with_file_name("graphics.sock"));
        let reach = || connect::<dyn IAllocator>(&endpoint, "", 1);
        // The other socket answers before this one.
        eventually(&endpoint, || reach().is_ok())?;
        Ok(Self { connection: reach()?, _process: process, _directory: directory })
    }

    /// Returns the allocator.
    pub(crate) fn allocator(&self) -> &dyn IAllocator {
        self.connection.service.as_ref()
    }
}

/// Returns the path of a program that was built with the service.
pub(crate) fn program(name: &str) -> PathBuf {
    let built = || OsString::from(env!("CARGO_BIN_EXE_aniond"));
    PathBuf::from(std::env::var_os(SERVICE).unwrap_or_else(built)).with_file_name(name)
}

/// Returns the command that starts the service with these heaps and sockets.
pub(crate) fn aniond(transport: &str, heaps: &Path, socket: &Path) -> Command {
    let mut command = Command::new(program("aniond"));
    command.args(["--log-level", "error", "--transport", transport, "--config"]).arg(heaps);
    command.arg("--socket").arg(socket);
    command
}

/// A child process, which ends with the benchmark.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Returns its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap_or_default())
    }

    /// Returns the processor time of all its threads.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        Ok(Duration::from(clock_getcpuclockid(self.pid())?.now()?))
    }

    /// Returns the bytes of its private memory.
    pub(crate) fn private_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        let kib: u64 = line.split_whitespace().next().context("no number")?.parse()?;
        Ok(kib << 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(command: &mut Command, socket: &Path) -> anyhow::Result<Process> {
    let server = Process(command.spawn().with_context(|| format!("starting {command:?}"))?);
    eventually(&socket.display(), || UnixStream::connect(socket).is_ok())?;
    Ok(server)
}

/// Waits until `place` answers.
fn eventually(place: &dyn Display, answers: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !answers() {
        ensure!(Instant::now() < deadline, "{place} does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Keeps this thread, and all threads and processes that it starts later, on one processor.
pub(crate) fn pin_to_one_processor() -> anyhow::Result<()> {
    let permitted = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|&processor| permitted.is_set(processor));
    let mut one = CpuSet::new();
    one.set(first.context("no processor is permitted")?);
    Ok(sched_setaffinity(None, &one)?)
}
