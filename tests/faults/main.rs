// SPDX-License-Identifier: Apache-2.0
//! Makes system calls of a running service fail, one kind after the other, while a client makes
//! every kind of call. The service must continue, and nothing of the client may be left.
//!
//! strace injects the errors (Debian's package strace). `ANION_FAULTS=all` injects all errors of
//! `calls.rs` in all patterns, and `ANION_FAULTS_ONLY` those of one system call: `cargo xtask
//! faults`.

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod tracer;
mod workload;

use anion_client::{Client, Endpoint, Settings};
use common::vitals::{Vitals, assert_nothing_left, entries_left};
use common::{Daemon, eventually};
use nix::sys::signal::{Signal, kill};
use rustix::process::{PTracer, set_ptracer};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use tracer::{Fault, Tracer};
use workload::Workload;

/// The test that all processes of this program run.
const TEST: &str = "a_service_whose_system_calls_fail_goes_on_and_keeps_nothing";
/// The variable that makes a process of this test a client, or the process that becomes the
/// service.
const ROLE: &str = "ANION_FAULTS_ROLE";
/// The calls of a thread that fail, in the form of strace's option.
const PATTERNS: [&str; 4] = ["1+2", "2+2", "1+3", "1+"];
/// Duration of a client after which the faults end, since it may wait for a call that fails each
/// time. On a busy machine, it waits longer for the first failure.
const PATIENCE: Duration = Duration::from_secs(3);
/// Duration of a client after which the faults end although no call has failed.
const MOST_PATIENCE: Duration = Duration::from_secs(60);

/// Heaps with a pool, with memory that is set aside, and without a pool.
const HEAPS: &str = r#"/dts-v1/; / { anion { compatible = "anion,heaps-v1";
    system { type = "system"; heap-id = <25>; device = "memfd"; deferred-free; };
    carveout { type = "carveout"; heap-id = <20>; size = <0x2000000>; device = "memfd"; deferred-free; };
    direct { type = "carveout"; heap-id = <5>; size = <0x1000000>; device = "memfd"; immediate-free; };
    clients { max-bytes = <0x4000000>; };
    graphics { plain { reg = <0>; usages = "cpu"; heaps = "system"; }; };
}; };"#;

#[test]
#[ignore = "needs strace: cargo xtask faults"]
fn a_service_whose_system_calls_fail_goes_on_and_keeps_nothing() {
    match env::var(ROLE).as_deref() {
        Ok("service") => execute_service(),
        Ok("lenient") => client(false),
        Ok("strict") => client(true),
        _ => inject_all(),
    }
}

/// Replaces this process by the service that its arguments name, and permits any process of this
/// user to trace it.
fn execute_service() -> ! {
    // Fails where the kernel has no such restriction.
    let _ = set_ptracer(PTracer::Any);
    let mut words = env::args_os().skip_while(|word| word != "--").skip(1);
    let error = Command::new(words.next().expect("a program")).args(words).exec();
    panic!("the service cannot be started: {error}");
}

fn client(is_strict: bool) {
    let socket = env::args().skip_while(|word| word != "--").nth(1).expect("a socket");
    Workload::new(Path::new(&socket), is_strict).run();
}

fn inject_all() {
    let only = env::var("ANION_FAULTS_ONLY").ok();
    let is_full = only.is_some() || env::var("ANION_FAULTS").is_ok_and(|value| value == "all");
    let service = Service::start();
    let observed = calls::observed();
    let wanted = |call: &str| only.as_deref().is_none_or(|only| only == call);
    for (call, errors) in calls::ERRORS.iter().filter(|(call, _)| wanted(call)) {
        let started = Instant::now();
        let errors = if is_full { errors } else { &errors[..1] };
        let is_reached = observed.contains(&(*call, true)) && !calls::NOT_REACHED.contains(call);
        let failed: usize = errors
            .iter()
            .flat_map(|error| faults(call, error, is_full, is_reached))
            .map(|fault| service.suffer(fault))
            .sum();
        println!("{call}: {failed} calls failed, {:.1?}", started.elapsed());
        assert!(failed > 0 || !is_reached, "{call} was not called, or did not fail");
    }
    service.assert_nothing_left("at the end");
    service.assert_calm();
}

/// Returns the patterns in which a call fails. The first one must occur if the service makes the
/// call.
fn faults(
    call: &'static str,
    error: &'static str,
    is_full: bool,
    is_reached: bool,
) -> impl Iterator<Item = Fault> {
    // Code that repeats a call after these errors would repeat it without end if all calls failed.
    let is_transient = ["EINTR", "EAGAIN", "ECONNABORTED"].contains(&error);
    let count = if !is_full { 1 } else { PATTERNS.len() - usize::from(is_transient) };
    let fault = move |(index, when)| Fault { call, error, when, must_occur: is_reached && index == 0 };
    PATTERNS[..count].iter().copied().enumerate().map(fault)
}

/// A service, the connection of an observer, and the state of the service without other clients.
struct Service {
    daemon: Daemon,
    /// Connects again if a fault ended its session.
    observer: Client,
    before: Vitals,
}

impl Service {
    fn start() -> Self {
        let own = env::current_exe().expect("this program");
        let role = format!("{ROLE}=service");
        let own = own.to_str().expect("a name of ours");
        // strace replaces a call that fails by an invalid one, which a filter would not permit.
        let arguments = ["--graphics", "--seccomp", "none", "--max-connections-per-uid", "12"];
        let daemon = Daemon::with_heaps_under(
            &["env", &role, own, "--exact", TEST, "--ignored", "--nocapture", "--test-threads=1", "--"],
            HEAPS,
            &arguments,
        );
        let endpoint = Some(Endpoint::Socket(daemon.socket()));
        let observer = Client::with(Settings { endpoint, ..Settings::default() }).expect("it serves");
        let before = Vitals::of(daemon.pid());
        let service = Self { daemon, observer, before };
        // The service makes some threads and descriptors when a call needs them for the first time.
        for _ in 0..2 {
            service.run_client("strict", None);
        }
        let is_alone = || Vitals::of(service.daemon.pid()).sessions() == 1;
        eventually("the first clients are gone", || {
            service.entries_left("at the start").is_empty() && is_alone()
        });
        let before = Vitals::of(service.daemon.pid());
        println!("{before:?}");
        Self { before, ..service }
    }

    /// Lets a client use the service while its system calls fail, then checks that nothing of the
    /// client is left. Returns how many calls failed.
    fn suffer(&self, fault: Fault) -> usize {
        let tracer = Tracer::attach(&self.daemon, fault);
        // The service reads the configuration again.
        kill(self.daemon.pid(), Signal::SIGHUP).expect("the service runs");
        if calls::OF_KEEPER.contains(&fault.call) {
            self.replace_socket();
        }
        let failed = self.run_client("lenient", Some(tracer));
        self.assert_nothing_left(&fault.to_string());
        self.run_client("strict", None);
        failed
    }

    /// Removes the socket's lock, and puts a socket without a server in the socket's place, as
    /// programs that clean directories and killed servers do.
    fn replace_socket(&self) {
        let socket = self.daemon.socket();
        let directory = self.daemon.directory();
        let [lock, stale] = ["socket.lock", "stale"].map(|name| directory.join(name));
        // It is missing if it was not made again since the last fault.
        let _ = fs::remove_file(lock);
        drop(UnixListener::bind(&stale).expect("bound"));
        fs::rename(&stale, socket).expect("replaced");
    }

    /// Runs a client. If it takes long, the faults end before it. Returns how many calls failed.
    fn run_client(&self, role: &str, mut tracer: Option<Tracer>) -> usize {
        let mut client = self.start_client(role);
        let (started, mut failed) = (Instant::now(), 0);
        let mut status = None;
        eventually("the client ends", || {
            status = client.try_wait().expect("our child");
            let waited = started.elapsed();
            let is_over = status.is_some() || waited > PATIENCE;
            let is_awaited = |tracer: &Tracer| waited < MOST_PATIENCE && tracer.is_awaited();
            if is_over && !tracer.as_ref().is_some_and(is_awaited) {
                failed += tracer.take().map_or(0, |tracer| tracer.detach(self.daemon.pid()));
            }
            status.is_some() && tracer.is_none()
        });
        let status = status.expect("it ended");
        assert!(status.success(), "a {role} client ended with {status}; it said why above");
        failed
    }

    fn start_client(&self, role: &str) -> Child {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", TEST, "--ignored", "--nocapture", "--"]).arg(self.daemon.socket());
        command.env(ROLE, role).stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("a client starts")
    }

    /// Waits until nothing of clients is left.
    fn assert_nothing_left(&self, context: &str) {
        assert_nothing_left(&self.daemon, &self.before, context, || self.entries_left(context));
    }

    /// Trims the pools, and returns the entries that are left in the accounts.
    fn entries_left(&self, context: &str) -> Vec<String> {
        let left = self.observer.call(|service| entries_left(&**service));
        left.unwrap_or_else(|error| panic!("{context}: the service has ended: {error}"))
    }

    /// Waits until a second passes in which no thread runs: none may spin or poll.
    fn assert_calm(&self) {
        let switches = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.daemon.pid())).expect("the service runs");
            let statuses =
                tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
            statuses
                .map(|status| {
                    status.lines().filter(|line| line.contains("ctxt_switches")).collect::<String>()
                })
                .collect::<Vec<_>>()
        };
        eventually("a second passes in which no thread runs", || {
            let before = switches();
            thread::sleep(Duration::from_secs(1));
            before == switches()
        });
    }
}
