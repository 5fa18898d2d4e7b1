// SPDX-License-Identifier: Apache-2.0
//! Runs the real `anionctl` in tests.

use super::{CLIENT_HEAPS, Daemon, Killed, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitStatus, Stdio};

/// The program.
pub(crate) const ANIONCTL: &str = env!("CARGO_BIN_EXE_anionctl");

/// A uid and gid that own no file.
const STRANGER: &str = "65534";

/// Returns a command that runs a program as a user without permissions, for tests under root.
pub(crate) fn as_stranger(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", "--"]).arg(program);
    command
}

/// Starts a service that every user may call. Its directory, which every user may enter, contains a
/// copy of `anionctl`.
pub(crate) fn daemon_for_everyone() -> Daemon {
    let heaps = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(heaps.path(), CLIENT_HEAPS).expect("written");
    let config = heaps.path().to_str().expect("text");
    let daemon = Daemon::start(&["--config", config, "--socket-mode", "0666"]);
    fs::set_permissions(daemon.directory(), Permissions::from_mode(0o755)).expect("its own directory");
    fs::copy(ANIONCTL, daemon.directory().join("anionctl")).expect("copied");
    daemon
}

/// Returns `anionctl` without a service.
pub(crate) fn anionctl() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(ANIONCTL);
    command.env_remove("ANION_SOCKET").env_remove("ANION_FDS").timeout(super::DEADLINE);
    command
}

/// Returns `anionctl` connected to `daemon`.
pub(crate) fn client(daemon: &Daemon) -> assert_cmd::Command {
    let mut command = anionctl();
    command.arg("--socket").arg(daemon.socket());
    command
}

/// Returns the output of a command that succeeds.
pub(crate) fn text(daemon: &Daemon, args: &[&str]) -> String {
    stdout(client(daemon).args(args).assert().success())
}

/// Returns the JSON output of a command that succeeds.
pub(crate) fn json(daemon: &Daemon, args: &[&str]) -> Value {
    serde_json::from_str(&text(daemon, &[&["--json"], args].concat())).expect("one JSON document")
}

/// Returns the standard output of a command.
pub(crate) fn stdout(assert: assert_cmd::assert::Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).expect("text")
}

/// Returns the standard error of a command.
pub(crate) fn stderr(assert: assert_cmd::assert::Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).expect("text")
}

/// Returns the bytes and buffers that all clients hold together.
pub(crate) fn held(daemon: &Daemon) -> (i64, i64) {
    let usage = json(daemon, &["usage"]);
    let rows = usage["usage"].as_array().expect("rows").iter();
    let sum = |key: &str| rows.clone().map(|row| row[key].as_i64().expect("a number")).sum();
    (sum("bytes"), sum("buffers"))
}

/// `anionctl alloc` or `reserve` in the background, killed when dropped.
pub(crate) struct Holder(pub(crate) Killed);

impl Holder {
    /// Starts `alloc` with these arguments. Returns when the buffers are held, with the report.
    pub(crate) fn start(daemon: &Daemon, args: &[&str]) -> (Self, Value) {
        Self::of("alloc", daemon, args)
    }

    /// Does the same for any command that can hold buffers.
    pub(crate) fn of(command: &str, daemon: &Daemon, args: &[&str]) -> (Self, Value) {
        let mut child = Command::new(ANIONCTL)
            .arg("--socket")
            .arg(daemon.socket())
            .args(["--json", command, "--hold", "1h"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("anionctl starts");
        let output = child.stdout.take().expect("a pipe");
        let report = serde_json::Deserializer::from_reader(output).into_iter().next();
        (Self(Killed(child)), report.expect("a report").expect("JSON"))
    }

    /// Sends a signal, and waits until it ends.
    pub(crate) fn end_with(mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).expect("it runs");
        let mut status = None;
        eventually("the holder ends", || {
            status = self.0.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("it ended")
    }
}
