// SPDX-License-Identifier: Apache-2.0
//! A client process, as the test sees it.

use crate::client;
use crate::common::{Daemon, Killed};
use nix::unistd::Pid;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// What a client has reported.
#[derive(Default)]
struct Report {
    /// Whether it has executed the last order, and waits.
    waits: AtomicBool,
    /// Allocations of the last order that the service served, and that it refused.
    served: AtomicU64,
    refused: AtomicU64,
}

/// Returns the command that runs this program again, with only the test `test`, in another process
/// whose input and output are pipes.
pub(crate) fn this_program(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A client process.
pub(crate) struct Process {
    pub(crate) child: Killed,
    pub(crate) uid: u32,
    report: Arc<Report>,
    pub(crate) is_killed: bool,
}

impl Process {
    /// Starts a client, which runs the test `test` of this program and allocates from `heaps`.
    pub(crate) fn start(daemon: &Daemon, test: &str, uid: u32, heaps: &str) -> Self {
        let child = this_program(test)
            .env(client::SOCKET, daemon.socket())
            .env(client::UID, uid.to_string())
            .env(client::HEAPS, heaps)
            .current_dir("/")
            .spawn();
        let mut child = Killed(child.expect("a client starts"));
        let (report, output) = (Arc::new(Report::default()), child.stdout.take().expect("a pipe"));
        report.waits.store(true, Ordering::Relaxed);
        let told = Arc::clone(&report);
        thread::spawn(move || {
            // On a machine with one processor, the first line begins with the name of the test.
            let words = |line: String| Some(line.rsplit_once(client::WAITS)?.1.to_owned());
            for words in BufReader::new(output).lines().map_while(Result::ok).filter_map(words) {
                let numbers: Vec<u64> = words.split_whitespace().flat_map(str::parse).collect();
                let [served, refused] = numbers[..] else { panic!("no report: {words:?}") };
                told.served.store(served, Ordering::Relaxed);
                told.refused.store(refused, Ordering::Relaxed);
                told.waits.store(true, Ordering::Release);
            }
        });
        Self { child, uid, report, is_killed: false }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Returns whether it has executed the last order.
    pub(crate) fn waits(&self) -> bool {
        self.report.waits.load(Ordering::Acquire)
    }

    /// Returns the allocations of the last order that were served and refused, once.
    pub(crate) fn take_allocations(&self) -> [u64; 2] {
        [&self.report.served, &self.report.refused].map(|count| count.swap(0, Ordering::Relaxed))
    }

    /// Orders it to make calls in an order that `seed` determines. Without operations it only
    /// presents its buffers to a new service, which must count all of them.
    pub(crate) fn order(&mut self, seed: u64, operations: u64) {
        self.report.waits.store(false, Ordering::Release);
        let line = format!("{seed} {operations}\n");
        // Fails if the client has just ended; `has_ended` detects this.
        let _ = self.child.stdin.as_mut().expect("a pipe").write_all(line.as_bytes());
    }

    pub(crate) fn kill(&mut self) {
        self.is_killed = true;
        self.child.kill().expect("not waited for");
    }

    /// Returns whether it has ended.
    ///
    /// # Panics
    /// If it ended for another reason than [`Process::kill`]: it says why.
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().expect("our child");
        assert!(status.is_none() || self.is_killed, "a client ended with {status:?}; it said why above");
        status.is_some()
    }
}
