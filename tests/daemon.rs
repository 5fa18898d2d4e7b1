// SPDX-License-Identifier: Apache-2.0
//! The daemon as a process: who owns the socket, how it starts and stops, and what it does while nobody talks.

use anion_ipc::{Connection, Endpoint, SERVICE_NAME, connect};
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

const DAEMON: &str = env!("CARGO_BIN_EXE_aniond");
/// Longest wait for anything that should happen at once, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own, with room for a socket, a log and news of readiness.
struct Place {
    directory: TempDir,
    notifications: UnixDatagram,
}

/// A daemon. Killed when dropped.
struct Daemon {
    child: Child,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let notifications = UnixDatagram::bind(directory.path().join("notify")).expect("bound");
        notifications.set_read_timeout(Some(PATIENCE)).expect("set");
        Self { directory, notifications }
    }

    fn run_directory(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    fn socket(&self) -> PathBuf {
        self.run_directory().join("allocator.sock")
    }

    fn lock(&self) -> PathBuf {
        self.run_directory().join("allocator.sock.lock")
    }

    /// `program`, with this place's notifications and nothing else of the tests' environment that the daemon reads.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for name in ["ANION_CONFIG", "ANION_SOCKET", "ANION_TRANSPORT", "ANION_LOG", "JOURNAL_STREAM"] {
            command.env_remove(name);
        }
        let log = fs::File::options().create(true).append(true).open(self.directory.path().join("log"));
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command.stdin(Stdio::null()).stderr(log.expect("opened"));
        command
    }

    fn logged(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("read")
    }

    fn daemon(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(DAEMON);
        command.arg("--socket").arg(self.socket()).args(arguments);
        command
    }

    /// A daemon whose socket is passed the way systemd passes it.
    fn activated(&self, socket: OwnedFd) -> Command {
        let mut command = self.command("sh");
        // LISTEN_PID is the daemon's own pid, which nobody else knows before it runs.
        command.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\"", DAEMON]);
        let passed = FdMapping { parent_fd: socket, child_fd: 3 };
        command.fd_mappings(vec![passed]).expect("one descriptor");
        command
    }

    fn start(&self, arguments: &[&str]) -> Daemon {
        self.start_command(&mut self.daemon(arguments))
    }

    /// Starts a daemon and waits until it is ready.
    fn start_command(&self, command: &mut Command) -> Daemon {
        let daemon = Daemon { child: command.spawn().expect("started") };
        let state = self.notification();
        assert!(state.contains("READY=1"), "{state}\n{}", self.logged());
        daemon
    }

    fn notification(&self) -> String {
        let mut buffer = [0; 4096];
        let received = self.notifications.recv(&mut buffer);
        let bytes = received.unwrap_or_else(|error| panic!("no notification: {error}\n{}", self.logged()));
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    }

    /// Runs a daemon that must fail, and returns what it says.
    fn refusal(&self) -> String {
        failure(&mut self.daemon(&[]))
    }

    fn connect(&self) -> io::Result<Connection<dyn IHeapAllocator>> {
        connect(&Endpoint::Socket(self.socket()), SERVICE_NAME, 1)
    }

    /// A silent connection.
    fn stream(&self) -> UnixStream {
        UnixStream::connect(self.socket()).expect("connected")
    }
}

impl Daemon {
    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    fn stop(mut self, signal: Signal) -> (ExitStatus, Duration) {
        let start = Instant::now();
        kill(self.pid(), signal).expect("sent");
        let status = eventually("the daemon exits", || self.child.try_wait().expect("our child"));
        (status, start.elapsed())
    }

    /// Context switches of each thread, voluntary and not.
    fn switches(&self) -> BTreeMap<u32, Vec<String>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("running");
        let counts = tasks.filter_map(|task| {
            let task = task.ok()?;
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let counts = status.lines().filter(|line| line.contains("voluntary_ctxt_switches"));
            Some((task.file_name().to_str()?.parse().ok()?, counts.map(str::to_owned).collect()))
        });
        counts.collect()
    }

    fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("running").count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failure(daemon: &mut Command) -> String {
    let Output { status, stderr, .. } = daemon.stderr(Stdio::piped()).output().expect("started");
    assert_eq!(status.code(), Some(1));
    String::from_utf8(stderr).expect("text")
}

/// Asks until there is an answer.
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the server closes this silent connection, rather than waiting for what it will say.
fn is_refused(mut stream: &UnixStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
    match stream.read(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// A socket that a server left behind when it was killed.
fn leave_stale_socket(path: &Path) {
    fs::create_dir_all(path.parent().expect("has one")).expect("made");
    drop(UnixListener::bind(path).expect("bound"));
}

#[test]
fn a_client_is_served_at_a_private_socket() {
    let place = Place::new();
    let _daemon = place.start(&[]);
    let client = place.connect().expect("connected");
    assert!(!client.service.listHeaps().expect("answered").is_empty());
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let expected = if geteuid().is_root() { (0o755, 0o660) } else { (0o700, 0o600) };
    assert_eq!((mode(&place.run_directory()), mode(&place.socket())), expected);
}

#[test]
fn mode_and_group_are_as_asked() {
    let place = Place::new();
    // A user who is not root can give files to groups of its own alone.
    let group = if geteuid().is_root() { 1 } else { getegid().as_raw() };
    let _daemon = place.start(&["--socket-mode", "0606", "--socket-group", &group.to_string()]);
    let socket = fs::metadata(place.socket()).expect("there");
    assert!(socket.file_type().is_socket());
    assert_eq!((socket.permissions().mode() & 0o777, socket.gid()), (0o606, group));
}

#[test]
fn a_stale_socket_is_replaced() {
    let place = Place::new();
    leave_stale_socket(&place.socket());
    let _daemon = place.start(&[]);
    place.connect().expect("connected");
    assert!(place.logged().contains("nobody served there any more"), "{}", place.logged());
}

#[test]
fn a_killed_daemon_does_not_keep_its_successor_out() {
    let place = Place::new();
    let (status, _) = place.start(&[]).stop(Signal::SIGKILL);
    assert!(!status.success() && place.socket().exists() && place.lock().exists());
    let _successor = place.start(&[]);
    place.connect().expect("connected");
}

#[test]
fn a_live_socket_is_refused_by_its_owners_pid() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let message = place.refusal();
    assert!(message.contains(&format!("process {} is serving there", daemon.pid())), "{message}");
    place.connect().expect("the first one still serves");
}

#[test]
fn another_programs_live_socket_is_left_alone() {
    let place = Place::new();
    fs::create_dir_all(place.run_directory()).expect("made");
    let _listener = UnixListener::bind(place.socket()).expect("bound");
    let message = place.refusal();
    assert!(message.contains(&format!("process {} is serving there", std::process::id())), "{message}");
    place.stream();
}

#[test]
fn what_is_not_a_socket_is_never_removed() {
    let place = Place::new();
    fs::create_dir_all(place.run_directory()).expect("made");
    fs::write(place.socket(), "precious").expect("written");
    let message = place.refusal();
    assert!(message.contains("something that is not a socket is there"), "{message}");
    assert_eq!(fs::read_to_string(place.socket()).expect("kept"), "precious");
}

#[test]
fn of_many_starters_on_a_stale_socket_one_serves() {
    let place = Place::new();
    leave_stale_socket(&place.socket());
    let start = || Daemon { child: place.daemon(&[]).spawn().expect("started") };
    let mut starters: Vec<Daemon> = (0..8).map(|_| start()).collect();
    assert!(place.notification().contains("READY=1"));
    let winner = eventually("all but one give up", || {
        starters.retain_mut(|daemon| daemon.child.try_wait().expect("ours").is_none());
        assert!(!starters.is_empty(), "{}", place.logged());
        (starters.len() == 1).then(|| starters[0].pid())
    });
    place.connect().expect("connected");
    let message = place.refusal();
    assert!(message.contains(&format!("process {winner} is serving there")), "{message}");
}

#[test]
fn a_signal_stops_it_cleanly_with_clients_connected() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Place::new();
        let daemon = place.start(&[]);
        let client = place.connect().expect("connected");
        client.service.listHeaps().expect("answered");
        let silent = place.stream();
        let (status, took) = daemon.stop(signal);
        assert_eq!(status.code(), Some(0), "{}", place.logged());
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(!place.socket().exists() && !place.lock().exists());
        assert!(place.notification().contains("STOPPING=1"));
        assert!(is_refused(&silent) && client.service.listHeaps().is_err());
    }
}

#[test]
fn a_socket_that_took_its_place_survives_its_stop() {
    let place = Place::new();
    let daemon = place.start(&[]);
    fs::remove_file(place.socket()).expect("removed");
    let _other = UnixListener::bind(place.socket()).expect("bound");
    assert_eq!(daemon.stop(Signal::SIGTERM).0.code(), Some(0));
    assert!(place.socket().exists());
}

#[test]
fn a_socket_from_systemd_is_served_and_outlives_the_daemon() {
    let place = Place::new();
    fs::create_dir_all(place.run_directory()).expect("made");
    let listener = UnixListener::bind(place.socket()).expect("bound");
    // Queued before the daemon exists.
    let early = place.stream();
    let daemon = place.start_command(&mut place.activated(listener.try_clone().expect("copied").into()));
    assert!(!is_refused(&early));
    place.connect().expect("connected").service.listHeaps().expect("answered");
    assert_eq!(daemon.stop(Signal::SIGTERM).0.code(), Some(0));
    assert!(place.socket().exists());
    let _next = place.stream();
    listener.accept().expect("it still listens, for the next daemon");
}

#[test]
fn what_systemd_passes_must_be_a_listening_stream_socket() {
    let place = Place::new();
    let wrong: [(OwnedFd, &str); 3] = [
        (UnixStream::pair().expect("a pair").0.into(), "does not listen"),
        (UnixDatagram::unbound().expect("a socket").into(), "not a valid unix stream socket"),
        (fs::File::open("/dev/null").expect("opened").into(), "not a socket"),
    ];
    for (descriptor, complaint) in wrong {
        let message = failure(&mut place.activated(descriptor));
        assert!(message.contains(complaint), "{message}");
    }
}

#[test]
fn connections_over_a_users_budget_are_closed_at_once() {
    let place = Place::new();
    let _daemon = place.start(&["--max-connections-per-uid", "3"]);
    let mut held: Vec<UnixStream> = (0..3).map(|_| place.stream()).collect();
    assert!((0..5).all(|_| is_refused(&place.stream())));
    assert!(held.iter().all(|stream| !is_refused(stream)));
    held.pop();
    let client = eventually("a place is free again", || place.connect().ok());
    client.service.listHeaps().expect("answered");
    let complaint = format!("uid {} has 3 connections already", geteuid());
    assert!(place.logged().contains(&complaint), "{}", place.logged());
}

#[test]
fn running_out_of_descriptors_refuses_clients_without_spinning() {
    let place = Place::new();
    let mut limited = place.command("sh");
    limited.args(["-c", "ulimit -n 40 && exec \"$0\" \"$@\"", DAEMON, "--socket"]).arg(place.socket());
    let daemon = place.start_command(limited.arg("--max-connections-per-uid=256"));
    let crowd: Vec<UnixStream> = (0..60).map(|_| place.stream()).collect();
    eventually("someone is refused", || place.logged().contains("out of file descriptors").then_some(()));
    thread::sleep(Duration::from_millis(300));
    let (before, lines) = (daemon.switches(), place.logged().lines().count());
    thread::sleep(Duration::from_secs(1));
    assert_eq!(daemon.switches(), before, "nobody comes, nobody leaves");
    assert_eq!(place.logged().lines().count(), lines, "{}", place.logged());
    drop(crowd);
    let client = eventually("the crowd is gone", || place.connect().ok());
    client.service.listHeaps().expect("answered");
}

#[test]
fn nothing_wakes_up_while_nobody_talks() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let files = daemon.open_files();
    place.connect().expect("connected").service.listHeaps().expect("answered");
    eventually("the client is gone", || (daemon.open_files() == files).then_some(()));
    let idle = |state: &str| {
        // Time for threads to end what they are doing.
        thread::sleep(Duration::from_millis(300));
        let before = daemon.switches();
        thread::sleep(Duration::from_secs(2));
        assert_eq!(daemon.switches(), before, "{state}");
    };
    idle("after a client left");
    let client = place.connect().expect("connected");
    client.service.listHeaps().expect("answered");
    idle("with a silent client");
}
