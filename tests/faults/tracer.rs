// SPDX-License-Identifier: Apache-2.0
//! Attaches strace to a running service, so that some of its system calls fail.

use crate::common::{Daemon, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A system call that fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) call: &'static str,
    pub(crate) error: &'static str,
    /// The calls of each thread that fail, in the form of strace's option: `1+2` are the first, the
    /// third and so on.
    pub(crate) when: &'static str,
    /// Whether the service makes such calls in this test.
    pub(crate) must_occur: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:error={}:when={}", self.call, self.error, self.when)
    }
}

/// The tracer of a service. Dropping it detaches it.
pub(crate) struct Tracer {
    process: Child,
    trace: PathBuf,
    fault: Fault,
}

impl Tracer {
    /// Attaches to all threads of a service, present and future. The trace is written by line,
    /// because its reader is a pipe.
    pub(crate) fn attach(daemon: &Daemon, fault: Fault) -> Self {
        let [trace, complaints] = ["trace", "complaints"].map(|name| daemon.directory().join(name));
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-e", "signal=SIGSTOP", "-p", &daemon.pid().to_string()]);
        command.args(["-o", &format!("|exec cat >'{}'", trace.display())]);
        command.args(["-e", &format!("inject={fault}"), "-e"]);
        // The C library calls clone if the kernel, or a filter, has no clone3.
        match fault.call {
            "clone" => command.args(["trace=clone,clone3", "-e", "inject=clone3:error=ENOSYS"]),
            call => command.arg(format!("trace={call}")),
        };
        command.stdin(Stdio::null()).stderr(fs::File::create(&complaints).expect("our directory"));
        let process = command.spawn().expect("strace is installed (Debian's package strace)");
        let mut tracer = Self { process, trace, fault };
        eventually("strace attaches to every thread", || {
            let ended = tracer.process.try_wait().expect("our child");
            let why = || fs::read_to_string(&complaints).unwrap_or_default();
            assert!(ended.is_none(), "strace ended with {ended:?}: {}", why());
            are_all_traced(daemon.pid())
        });
        tracer
    }

    /// Returns whether the fault must occur and has not occurred yet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.fault.must_occur && self.failures() == 0
    }

    /// Returns how many calls have failed so far.
    fn failures(&self) -> usize {
        let failed = format!("-1 {} ", self.fault.error);
        self.trace().lines().filter(|line| line.contains("(INJECTED)") && line.contains(&failed)).count()
    }

    /// Detaches, and returns how many calls failed.
    ///
    /// The service is stopped meanwhile. If strace detached from a thread inside of a call that it
    /// makes fail, the call would return `ENOSYS` in place of the error.
    pub(crate) fn detach(mut self, service: Pid) -> usize {
        kill(service, Signal::SIGSTOP).expect("the service runs");
        eventually("every thread of the service stops", || {
            let trace = self.trace();
            let is_stopped = |thread: &str| {
                let is_its = |line: &str| line.split_whitespace().next() == Some(thread);
                trace.lines().any(|line| is_its(line) && line.contains("--- stopped by SIGSTOP ---"))
            };
            threads(service).all(|task| is_stopped(&task.file_name().unwrap_or_default().to_string_lossy()))
        });
        let failures = self.failures();
        self.end();
        kill(service, Signal::SIGCONT).expect("the service is stopped");
        failures
    }

    fn trace(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.trace).unwrap_or_default()).into_owned()
    }

    fn end(&mut self) {
        // Fails only if it has already ended.
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// Returns the directories of a process's threads.
fn threads(pid: Pid) -> impl Iterator<Item = PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the service runs");
    tasks.flatten().map(|task| task.path())
}

/// Returns whether each thread of a process has a tracer.
fn are_all_traced(pid: Pid) -> bool {
    threads(pid).all(|task| is_traced(&task))
}

/// Returns whether a thread has a tracer, or has ended.
fn is_traced(task: &Path) -> bool {
    let Ok(status) = fs::read_to_string(task.join("status")) else { return true };
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
}
