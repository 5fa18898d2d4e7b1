// SPDX-License-Identifier: Apache-2.0
//! Measures a restart by systemd with live buffers: the service stores them, and the next service
//! takes them over. This program stands for systemd.

use crate::report::{Section, median, progress};
use crate::servers::{Process, Servers, aniond, program};
use anion_client::{Buffer, Client, Endpoint, Request, Settings};
use anyhow::{Context, ensure};
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Uid;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Live buffers of one client.
const LIVE: [usize; 4] = [0, 100, 1_000, 5_000];
/// Buffers of one call.
const BATCH: u32 = 50;
/// Restarts with each number.
const ROUNDS: usize = 9;
/// Most descriptors that a service stores.
const MOST_STORED: usize = 16;
/// Longest time without a notification.
const PATIENCE: Duration = Duration::from_secs(120);
const HEAPS: &str = r#"/dts-v1/; / { anion { compatible = "anion,heaps-v1";
    system { type = "system"; heap-id = <1>; device = "memfd"; };
    clients { max-bytes = <0x40000000>; max-buffers = <6000>; }; }; };"#;

/// A service that reports to this program.
struct Supervised {
    directory: tempfile::TempDir,
    notifications: UnixDatagram,
    process: Process,
}

impl Supervised {
    fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("heaps.dts"), HEAPS)?;
        let notifications = UnixDatagram::bind(directory.path().join("notify"))?;
        notifications.set_read_timeout(Some(PATIENCE))?;
        let process = begin(directory.path(), Vec::new())?;
        let supervised = Self { directory, notifications, process };
        supervised.await_readiness()?;
        Ok(supervised)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Restarts the service. Returns the durations of the stop and of the start.
    fn restart(&mut self) -> anyhow::Result<(Duration, Duration)> {
        let stop = Instant::now();
        kill(self.process.pid(), Signal::SIGTERM)?;
        ensure!(self.process.0.wait()?.success(), "the service failed to stop");
        let stopped = stop.elapsed();
        let mut stored = Vec::new();
        while !stored.iter().any(|(name, _)| name == "anion-buffers") {
            let (text, descriptors) = self.notification()?;
            if let Some(name) = text.lines().find_map(|line| line.strip_prefix("FDNAME=")) {
                stored.extend(descriptors.into_iter().map(|descriptor| (name.to_owned(), descriptor)));
            }
        }
        let start = Instant::now();
        self.process = begin(self.directory.path(), stored)?;
        self.await_readiness()?;
        Ok((stopped, start.elapsed()))
    }

    fn await_readiness(&self) -> anyhow::Result<()> {
        while !self.notification()?.0.contains("READY=1") {}
        Ok(())
    }

    fn notification(&self) -> anyhow::Result<(String, Vec<OwnedFd>)> {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_STORED))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut buffer)];
        let received = recvmsg(&self.notifications, parts, &mut control, RecvFlags::CMSG_CLOEXEC)
            .context("the service sends no notification")?;
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        let descriptors = rights.flatten().collect();
        Ok((String::from_utf8_lossy(&buffer[..received.bytes]).into_owned(), descriptors))
    }
}

/// Starts a service in the directory, with what the previous one stored. `sh` sets its own process
/// id, which is that of the service, in the environment.
fn begin(directory: &Path, stored: Vec<(String, OwnedFd)>) -> anyhow::Result<Process> {
    let (names, descriptors): (Vec<_>, Vec<_>) = stored.into_iter().unzip();
    let variables = match names.len() {
        0 => String::new(),
        count => format!("LISTEN_FDS={count} LISTEN_FDNAMES={} LISTEN_PID=$$", names.join(":")),
    };
    let service = aniond("socket", &directory.join("heaps.dts"), &directory.join("socket"));
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{variables} exec \"$0\" \"$@\"")]);
    command.arg(program("aniond")).args(service.get_args());
    command.env("NOTIFY_SOCKET", directory.join("notify"));
    let numbered = (3..).zip(descriptors);
    command.fd_mappings(numbered.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect())?;
    Ok(Process(command.spawn().context("cannot start the service")?))
}

/// Measures restarts with increasing numbers of live buffers.
pub(crate) fn measure(_: &Servers) -> anyhow::Result<Section> {
    progress("restarts");
    let about = "Time in ms, p50, of a restart by systemd with this number of live buffers of one client, of 4 KiB each: until \
                 the service has stored them and ended, until the next one is ready, and of the client's first call, in \
                 which it connects again and presents its buffers.";
    let header = ["live buffers", "stop", "start", "first call"];
    let mut section = Section::new("restart", about, &header);
    for live in LIVE {
        let mut service = Supervised::start()?;
        let endpoint = Some(Endpoint::Socket(service.socket()));
        let client = Client::with(Settings { endpoint, ..Settings::default() })?;
        let request = Request::new(4096).count(BATCH);
        let mut held: Vec<Buffer> = Vec::new();
        while held.len() < live {
            held.extend(client.allocate(&request)?);
        }
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let (stop, start) = service.restart()?;
            let call = Instant::now();
            let usage = client.call(|service| service.getUsage())?;
            for (times, time) in times.iter_mut().zip([stop, start, call.elapsed()]) {
                times.push(time);
            }
            let own = usage.iter().find(|row| row.uid.cast_unsigned() == Uid::current().as_raw());
            let counted = own.map_or(0, |row| row.buffers);
            ensure!(usize::try_from(counted) == Ok(live), "{counted} of {live} buffers are in the books");
        }
        let [stop, start, call] = &mut times;
        let p50 = [median(stop)?, median(start)?, median(call)?];
        let cells = p50.map(|time| format!("{:.1}", time.as_secs_f64() * 1000.0));
        section.row(
            [live.to_string()].into_iter().chain(cells),
            serde_json::json!({
                "live": live, "stop_ns": p50[0].as_nanos(), "start_ns": p50[1].as_nanos(),
                "first_call_ns": p50[2].as_nanos(),
            }),
        );
    }
    Ok(section)
}
