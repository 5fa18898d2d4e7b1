// SPDX-License-Identifier: Apache-2.0
//! Tests that forbidden system calls end the service, and are named. All other tests of the daemon
//! check that the policy is sufficient; `cargo xtask test --only seccomp` runs them under it.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use common::Daemon;
use common::anionctl::{client, text};
use std::fs;
use std::os::unix::process::ExitStatusExt;

/// The policy in the service's program on this machine.
#[cfg(target_arch = "x86_64")]
const BUILT_IN: &str = include_str!("../seccomp/aniond-x86_64.policy");
#[cfg(target_arch = "aarch64")]
const BUILT_IN: &str = include_str!("../seccomp/aniond-arm64.policy");

#[test]
fn every_thread_is_filtered_while_the_service_serves() {
    let daemon = Daemon::start(&["--seccomp", "built-in"]);
    text(&daemon, &["alloc", "--size", "8M"]);
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let mut threads = 0;
    for task in tasks {
        let status = fs::read_to_string(task.expect("an entry").path().join("status"));
        // A thread of the closed connection may have ended since.
        let Ok(status) = status else { continue };
        assert!(status.lines().any(|line| line == "Seccomp:\t2"), "{status}");
        assert!(status.lines().any(|line| line == "NoNewPrivs:\t1"), "{status}");
        threads += 1;
    }
    assert!(threads >= 3, "the main thread, the reaper and the keeper at least, not {threads}");
    assert!(daemon.stop().success(), "it stops cleanly under the filter");
}

#[test]
fn a_call_that_a_policy_lacks_ends_the_service_and_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("short.policy");
    let short = BUILT_IN.replace("memfd_create: 1\n", "");
    assert_ne!(short, BUILT_IN, "the policy allows it otherwise");
    fs::write(&file, short).expect("written");
    let mut daemon = Daemon::start(&["--seccomp", file.to_str().expect("text")]);
    client(&daemon).args(["alloc", "--size", "8M"]).assert().failure();
    let status = daemon.wait();
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
    let named = format!("system call {} is not in the seccomp policy", libc::SYS_memfd_create);
    assert!(daemon.log().contains(&named), "{}", daemon.log());
}

#[test]
fn a_policy_that_is_not_understood_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("wrong.policy");
    fs::write(&file, "read: 1\n\nwrite: maybe\n").expect("written");
    let mut aniond = assert_cmd::Command::new(env!("CARGO_BIN_EXE_aniond"));
    aniond.args(["--transport", "socket", "--seccomp"]).arg(&file).timeout(common::DEADLINE);
    let said = common::anionctl::stderr(aniond.assert().failure().code(1));
    assert!(said.contains("wrong.policy") && said.contains("line 3"), "{said}");
}
