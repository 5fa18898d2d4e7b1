// SPDX-License-Identifier: Apache-2.0
//! A directory for a daemon, and a daemon under test.

use anion_ipc::{Connection, Endpoint, SERVICE_NAME, connect};
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// Longest wait for an operation that should be immediate, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Returns the service under test: the one that was built with the tests, or the program in
/// `ANION_TEST_SERVICE`.
pub(crate) fn program() -> OsString {
    env::var_os("ANION_TEST_SERVICE").unwrap_or_else(|| env!("CARGO_BIN_EXE_aniond").into())
}

/// A directory with a socket, a log and a socket for readiness notifications.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    notifications: UnixDatagram,
}

/// A daemon. Killed when dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let notifications = UnixDatagram::bind(directory.path().join("notify")).expect("bound");
        notifications.set_read_timeout(Some(PATIENCE)).expect("set");
        Self { directory, notifications }
    }

    pub(crate) fn run_directory(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run_directory().join("allocator.sock")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.run_directory().join("allocator.sock.lock")
    }

    /// Returns `program` with this directory's notification socket, and without other variables of
    /// the tests that the daemon reads.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let settings = ["ANION_CONFIG", "ANION_SOCKET", "ANION_TRANSPORT", "ANION_LOG", "ANION_CGROUP"];
        for name in settings.into_iter().chain(["JOURNAL_STREAM"]) {
            command.env_remove(name);
        }
        let log = fs::File::options().create(true).append(true).open(self.directory.path().join("log"));
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command.stdin(Stdio::null()).stderr(log.expect("opened"));
        command
    }

    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("read")
    }

    pub(crate) fn daemon(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(program());
        command.arg("--socket").arg(self.socket()).args(arguments);
        command
    }

    /// Returns a daemon that receives its socket as from systemd.
    pub(crate) fn activated(&self, socket: OwnedFd) -> Command {
        self.passed("LISTEN_FDS=1 LISTEN_PID=$$", vec![socket])
    }

    /// Returns a daemon with descriptors from 3 on, and variables that `sh` sets: LISTEN_PID is the
    /// daemon's own pid, which is unknown before it runs.
    pub(crate) fn passed(&self, variables: &str, descriptors: Vec<OwnedFd>) -> Command {
        let mut command = self.command("sh");
        command.args(["-c", &format!("{variables} exec \"$0\" \"$@\"")]).arg(program());
        let numbered = (3..).zip(descriptors);
        let mappings = numbered.map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(mappings).expect("no number twice");
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Daemon {
        self.start_command(&mut self.daemon(arguments))
    }

    /// Starts a daemon and waits until it is ready.
    pub(crate) fn start_command(&self, command: &mut Command) -> Daemon {
        let daemon = Daemon { child: command.spawn().expect("started") };
        let state = self.notification();
        assert!(state.contains("READY=1"), "{state}\n{}", self.logged());
        daemon
    }

    pub(crate) fn notification(&self) -> String {
        self.notification_with_descriptors().0
    }

    pub(crate) fn notification_with_descriptors(&self) -> (String, Vec<OwnedFd>) {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        // Signals that restart other calls interrupt a socket with a timeout.
        let received = loop {
            let parts = &mut [IoSliceMut::new(&mut buffer)];
            match recvmsg(&self.notifications, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received,
            }
        };
        let received = received.unwrap_or_else(|error| panic!("no notification: {error}\n{}", self.logged()));
        let rights = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        (String::from_utf8_lossy(&buffer[..received.bytes]).into_owned(), rights.flatten().collect())
    }

    /// Discards the notifications that have arrived.
    pub(crate) fn forget_notifications(&self) {
        self.notifications.set_nonblocking(true).expect("set");
        while self.notifications.recv(&mut [0; 4096]).is_ok() {}
        self.notifications.set_nonblocking(false).expect("set");
    }

    /// Fills the queue of notifications, so that a daemon waits when it sends the next one.
    pub(crate) fn fill_notifications(&self) {
        let sender = UnixDatagram::unbound().expect("a socket");
        sender.set_nonblocking(true).expect("set");
        while sender.send_to(b"X_TEST=1", self.directory.path().join("notify")).is_ok() {}
    }

    /// Runs a daemon that must fail, and returns its error message.
    pub(crate) fn refusal(&self) -> String {
        failure(&mut self.daemon(&[]))
    }

    pub(crate) fn connect(&self) -> io::Result<Connection<dyn IHeapAllocator>> {
        connect(&Endpoint::Socket(self.socket()), SERVICE_NAME, 1)
    }

    /// Returns a connection without data.
    pub(crate) fn stream(&self) -> UnixStream {
        UnixStream::connect(self.socket()).expect("connected")
    }
}

impl Daemon {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// Sends a signal and waits for the end. Also returns the time of the main thread, because the
    /// thread of lowest priority may wait long for a processor.
    pub(crate) fn stop(mut self, signal: Signal) -> (ExitStatus, Duration) {
        let start = Instant::now();
        kill(self.pid(), signal).expect("sent");
        let stat = format!("/proc/{}/stat", self.pid());
        eventually("the main thread ends", || {
            let stat = fs::read_to_string(&stat).expect("not waited for");
            stat.contains(") Z ").then_some(())
        });
        let took = start.elapsed();
        (eventually("the daemon exits", || self.child.try_wait().expect("our child")), took)
    }

    /// Returns the voluntary and involuntary context switches of each thread.
    pub(crate) fn switches(&self) -> BTreeMap<u32, Vec<String>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("running");
        let counts = tasks.filter_map(|task| {
            let task = task.ok()?;
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let counts = status.lines().filter(|line| line.contains("voluntary_ctxt_switches"));
            Some((task.file_name().to_str()?.parse().ok()?, counts.map(str::to_owned).collect()))
        });
        counts.collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn failure(daemon: &mut Command) -> String {
    let Output { status, stderr, .. } = daemon.stderr(Stdio::piped()).output().expect("started");
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).expect("text")
}

/// Calls `ask` until it returns a value.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns whether the server has closed this silent connection.
pub(crate) fn is_closed(stream: &UnixStream) -> bool {
    closes(stream, PATIENCE)
}

/// Returns whether the server waits for data from this silent connection.
pub(crate) fn is_kept(stream: &UnixStream) -> bool {
    !closes(stream, Duration::from_millis(300))
}

fn closes(mut stream: &UnixStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).expect("set");
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return true,
            // The server sends the reason.
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}
