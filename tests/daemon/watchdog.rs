// SPDX-License-Identifier: Apache-2.0
//! Tests threads that hang, and threads that only appear to hang.

use super::place::{Daemon, Place, eventually};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

/// The supervisor's timeout in microseconds. A thread counts as hanging after half of it.
const WAIT: &str = "2000000";

fn start(place: &Place) -> Daemon {
    place.start_command(place.daemon(&[]).env("WATCHDOG_USEC", WAIT))
}

fn await_sign_of_life(place: &Place) {
    assert_eq!(place.notification().trim(), "WATCHDOG=1", "{}", place.logged());
}

/// Returns the thread of this name.
fn thread_called(daemon: &Daemon, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("running");
    let mut numbers = tasks.map(|task| task.expect("running").file_name().into_string().expect("a number"));
    let is_wanted = |number: &String| {
        let place = format!("/proc/{}/task/{number}/comm", daemon.pid());
        fs::read_to_string(place).is_ok_and(|comm| comm.trim() == name)
    };
    Pid::from_raw(numbers.find(is_wanted).expect("it has the thread").parse().expect("a number"))
}

#[test]
fn a_thread_that_hangs_ends_the_service_and_is_named() {
    let place = Place::new();
    for (name, task) in [("accept", "accepts clients"), ("anion-reaper", "detects releases")] {
        let mut daemon = start(&place);
        (0..3).for_each(|_| await_sign_of_life(&place));
        let thread = thread_called(&daemon, name);
        ptrace::seize(thread, Options::empty()).expect("seized");
        ptrace::interrupt(thread).expect("stopped");
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stopped");
        // Without a client, the thread has nothing to accept.
        let client = place.stream();
        let status = eventually("the service ends", || {
            // As tracer, this process must reap the thread before the process can end.
            let _ = waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
            daemon.child.try_wait().expect("our child")
        });
        assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{}", place.logged());
        assert!(place.logged().contains(&format!("the thread that {task} hangs")), "{}", place.logged());
        drop(client);
        // Discards notifications from before its end.
        place.forget_notifications();
    }
}

#[test]
fn a_service_that_was_stopped_for_a_while_goes_on() {
    let place = Place::new();
    let daemon = start(&place);
    await_sign_of_life(&place);
    kill(daemon.pid(), Signal::SIGSTOP).expect("stopped");
    thread::sleep(Duration::from_secs(2));
    place.forget_notifications();
    kill(daemon.pid(), Signal::SIGCONT).expect("continued");
    (0..6).for_each(|_| await_sign_of_life(&place));
    assert!(place.connect().is_ok(), "{}", place.logged());
}

#[test]
fn threads_are_watched_where_that_is_asked_for_and_nowhere_else() {
    let place = Place::new();
    let has_watchdog = |daemon: &Daemon| {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("running");
        let names = tasks.map(|task| fs::read_to_string(task.expect("running").path().join("comm")));
        names.flatten().any(|name| name.trim() == "anion-watchdog").then_some(())
    };
    let daemon = place.start(&[]);
    assert_eq!(has_watchdog(&daemon), None);
    drop(daemon);
    let daemon = place.start(&["--watchdog", "60"]);
    // A new thread gives itself its name.
    eventually("the thread has its name", || has_watchdog(&daemon));
}
