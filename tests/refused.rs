// SPDX-License-Identifier: Apache-2.0
//! Tests the messages for clients that the service or the system refuses, and the clients that are
//! accepted nevertheless.

mod common;

use anion_ipc::{Connection, Endpoint, SERVICE_NAME, connect, connect_as_operator, connect_for_callbacks};
use common::anionctl::{as_stranger, client, daemon_for_everyone, text};
use common::{Daemon, eventually};
use nix::unistd::geteuid;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

type Client = Connection<dyn IHeapAllocator>;

fn endpoint(daemon: &Daemon) -> Endpoint {
    Endpoint::Socket(daemon.socket())
}

fn connected(daemon: &Daemon, connections: u32) -> io::Result<Client> {
    connect(&endpoint(daemon), SERVICE_NAME, connections)
}

/// Returns the error message of a refused client.
fn refusal(outcome: io::Result<Client>) -> String {
    let error = outcome.err().expect("it is refused");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    error.to_string()
}

#[test]
fn a_client_beyond_the_sessions_of_its_user_is_told_the_limit_and_the_option() {
    let daemon = Daemon::start(&["--max-sessions-per-uid", "2"]);
    let held = [(); 2].map(|()| connected(&daemon, 1).expect("within the limit"));
    let uid = geteuid();
    let wanted = format!("refuses the connection: uid {uid} has 2 sessions already (--max-sessions-per-uid)");
    for _ in 0..20 {
        let told = refusal(connected(&daemon, 1));
        assert!(told.contains(&wanted) && told.contains("socket:"), "{told}");
        assert!(refusal(connect_for_callbacks(&endpoint(&daemon), SERVICE_NAME)).contains(&wanted));
    }
    let output = client(&daemon).args(["alloc", "--size", "4K"]).assert().failure();
    let told = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(told.contains(&wanted) && output.get_output().status.code() == Some(3), "{told}");
    drop(held);
    let mut client = None;
    eventually("there is room again", || {
        client = connected(&daemon, 1).ok();
        client.is_some()
    });
    client.expect("connected").service.listHeaps().expect("answered");
}

#[test]
fn a_connection_beyond_those_of_its_user_or_of_all_is_told_the_limit_and_the_option() {
    for (option, wanted) in [
        ("--max-connections-per-uid", format!("uid {} has 4 connections already", geteuid())),
        ("--max-connections", "all 4 connections are in use".to_owned()),
    ] {
        let daemon = Daemon::start(&[option, "4"]);
        // The refusal reaches different connections of the handshake: the first one of a session,
        // another one for calls, and one that receives calls.
        let told = refusal(connected(&daemon, 5));
        assert!(told.contains(&wanted) && told.contains(option), "{told}");
        let mut held = None;
        eventually("its connections have ended", || {
            held = connected(&daemon, 3).ok();
            held.is_some()
        });
        let told = refusal(connect_for_callbacks(&endpoint(&daemon), SERVICE_NAME));
        assert!(told.contains(&wanted) && told.contains(option), "{told}");
        let mut last = None;
        eventually("its first connection has ended", || {
            last = connected(&daemon, 1).ok();
            last.is_some()
        });
        for _ in 0..20 {
            let told = refusal(connected(&daemon, 1));
            assert!(told.contains(&wanted) && told.contains(option), "{told}");
        }
        assert!(held.expect("connected").service.listHeaps().is_ok(), "those that are in are served");
    }
}

#[test]
fn the_operator_looks_at_a_service_whose_places_are_taken() {
    for option in ["--max-sessions-per-uid", "--max-connections-per-uid", "--max-connections"] {
        let daemon = Daemon::start(&[option, "3"]);
        let held = [(); 3].map(|()| connected(&daemon, 1).expect("within the limit"));
        refusal(connected(&daemon, 1));
        // If these tests do not run as root, they run as the service's own user.
        for arguments in
            [&["usage"][..], &["list"], &["stats"], &["dump"], &["trim"], &["watch", "--count=1"]]
        {
            text(&daemon, arguments);
        }
        let doctor = client(&daemon).arg("doctor").output().expect("it runs");
        let report = String::from_utf8_lossy(&doctor.stdout).into_owned();
        let line = report.lines().find(|line| line.contains("service: ")).expect("a line for it");
        assert!(line.starts_with("ok ") && line.contains("serves version"), "{line}");
        // Clients that allocate can use only the connections of the budget.
        refusal(connected(&daemon, 1));
        drop(held);
    }
}

#[test]
fn connections_that_never_say_what_they_are_for_keep_no_operator_out() {
    let daemon = Daemon::start(&["--max-connections-per-uid", "2"]);
    // Two connections of the budget, and most of those beside it.
    let silent: Vec<UnixStream> =
        (0..8).map(|_| UnixStream::connect(daemon.socket()).expect("queued")).collect();
    let operator: Client = connect_as_operator(&endpoint(&daemon), SERVICE_NAME).expect("a place is left");
    operator.service.getUsage().expect("answered");
    drop(silent);
}

#[test]
fn a_user_outside_the_sockets_group_is_told_the_group() {
    let daemon = daemon_for_everyone();
    let anionctl = daemon.directory().join("anionctl");
    let told = || {
        let mut list = as_stranger(&anionctl);
        let output = list.arg("--socket").arg(daemon.socket()).arg("list").output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(told().0, Some(0));
    fs::set_permissions(daemon.socket(), Permissions::from_mode(0o660)).expect("its own socket");
    let (code, why) = told();
    assert!(code == Some(3) && why.contains("members of group root (mode 0660)"), "{why}");
    // The message must not advise to join that group.
    assert!(!why.contains("usermod"), "{why}");
    chown(daemon.socket(), None, Some(1)).expect("its own socket");
    let (code, why) = told();
    assert!(code == Some(3) && why.contains("members of group daemon (mode 0660)"), "{why}");
    assert!(why.ends_with("as root, and log in again: usermod -aG daemon nobody\n"), "{why}");
    fs::set_permissions(daemon.directory(), Permissions::from_mode(0o711)).expect("its own directory");
    fs::set_permissions(daemon.socket(), Permissions::from_mode(0o600)).expect("its own socket");
    let (code, why) = told();
    assert!(code == Some(3) && why.contains("uid 0 alone (mode 0600)"), "{why}");
}
