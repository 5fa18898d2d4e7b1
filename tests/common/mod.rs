// SPDX-License-Identifier: Apache-2.0
//! Starts a service for each test on a socket in a temporary directory, so that tests can run at
//! the same time.

#![allow(dead_code, reason = "every test program uses another part")]

pub(crate) mod anionctl;
pub(crate) mod example;
pub(crate) mod holders;
pub(crate) mod terminal;
pub(crate) mod vitals;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time limit for operations that take milliseconds on an idle machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);
/// Pause between two checks of a state that another process changes.
const PAUSE: Duration = Duration::from_millis(1);

/// Heaps for tests of client libraries: the same on every machine, with any devices.
pub(crate) const CLIENT_HEAPS: &str = r#"/dts-v1/;
/ { anion { compatible = "anion,heaps-v1";
    system { type = "system"; heap-id = <25>; aliases = "ion_system_heap"; device = "memfd"; cached; };
    camera { type = "carveout"; heap-id = <20>; size = <0x4000000>; device = "memfd"; cached; stride-align = <256>; };
    clients { max-bytes = <0x40000000>; };
}; };"#;

/// Environment variables of the tests that the service must not see.
const INHERITED_SETTINGS: [&str; 5] =
    ["ANION_CGROUP", "ANION_CONFIG", "ANION_LOG", "ANION_SOCKET", "ANION_TRANSPORT"];

/// Returns the service under test: the one that was built with the tests, or the program in
/// `ANION_TEST_SERVICE`.
fn program() -> OsString {
    env::var_os("ANION_TEST_SERVICE").unwrap_or_else(|| env!("CARGO_BIN_EXE_aniond").into())
}

/// A child process. Dropping it kills it, and waits for its end.
pub(crate) struct Killed(pub(crate) Child);

impl Deref for Killed {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Killed {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.kill();
        let _ = self.wait();
    }
}

/// A running `aniond`. Dropping it kills the process, and prints its log if the test failed.
pub(crate) struct Daemon {
    process: Child,
    directory: TempDir,
    /// The command and its arguments, to start it again.
    words: Vec<OsString>,
}

impl Daemon {
    /// Starts the service with the embedded heaps and `extra_args`, and waits until it accepts
    /// connections.
    pub(crate) fn start(extra_args: &[&str]) -> Self {
        Self::start_under(&[], extra_args)
    }

    /// Starts the same as the last arguments of another command, which prepares the environment and
    /// executes it.
    pub(crate) fn start_under(wrapper: &[&str], extra_args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary directory"), wrapper, extra_args)
    }

    /// Starts the same with the heaps of this device tree.
    pub(crate) fn with_heaps(text: &str) -> Self {
        Self::with_heaps_under(&[], text, &[])
    }

    /// Starts the same with these heaps and arguments, as the last arguments of `wrapper`.
    pub(crate) fn with_heaps_under(wrapper: &[&str], text: &str, extra_args: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("heaps.dts");
        fs::write(&file, text).expect("written");
        let arguments = [&["--config", file.to_str().expect("text")], extra_args].concat();
        Self::start_in(directory, wrapper, &arguments)
    }

    fn start_in(directory: TempDir, wrapper: &[&str], extra_args: &[&str]) -> Self {
        let words: Vec<OsString> = (wrapper.iter().map(OsString::from))
            .chain([program()])
            .chain(["--transport", "socket", "--socket"].map(OsString::from))
            .chain([directory.path().join("socket").into_os_string()])
            .chain(extra_args.iter().map(OsString::from))
            .collect();
        let process = spawn(&words, directory.path());
        let mut daemon = Self { process, directory, words };
        daemon.await_readiness();
        daemon
    }

    /// Kills it with SIGKILL, so that it cannot clean up.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("a child");
    }

    /// Starts another service after the old one was killed. It may not serve yet.
    pub(crate) fn start_again(&mut self) {
        self.process = spawn(&self.words, self.directory.path());
    }

    /// Returns the path of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Returns the directory of this test, which is removed with the daemon.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    /// Returns its log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("the log file")
    }

    /// Removes the lines of its log so far.
    pub(crate) fn clear_log(&self) {
        let log = File::options().write(true).open(self.directory.path().join("log")).expect("the log file");
        log.set_len(0).expect("a file");
    }

    /// Stops it, and waits until it has ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        kill(self.pid(), Signal::SIGTERM).expect("the daemon runs");
        self.wait()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the daemon stops", || {
            status = self.process.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("it stopped")
    }

    /// Connects until a connection is accepted. The existence of the socket file is not enough.
    fn await_readiness(&mut self) {
        let socket = self.socket();
        let mut exited = None;
        eventually("the daemon accepts connections", || {
            exited = self.process.try_wait().expect("a child");
            exited.is_some() || UnixStream::connect(&socket).is_ok()
        });
        if let Some(status) = exited {
            panic!("the daemon ended at once: {status}");
        }
    }
}

/// Starts a command that serves in `directory`, and writes its log there.
fn spawn(words: &[OsString], directory: &Path) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log")).expect("a log file");
    let (program, arguments) = words.split_first().expect("at least the daemon itself");
    let mut command = Command::new(program);
    for name in INHERITED_SETTINGS {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log)
        .spawn()
        .expect("aniond starts")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            #[expect(clippy::print_stderr, reason = "the test harness shows it with the failure")]
            {
                eprintln!("---- log of the daemon ----\n{log}---- end of the log ----");
            }
        }
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not hold within [`DEADLINE`].
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?}, but not: {what}");
        thread::sleep(PAUSE);
    }
    started.elapsed()
}
