// SPDX-License-Identifier: Apache-2.0
//! Tests the ownership of the socket's path.

use crate::place::{Daemon, Place, eventually};
use nix::sys::signal::Signal;
use nix::unistd::{getegid, geteuid};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Creates a socket file without a listener, as a killed server leaves it.
fn leave_stale_socket(path: &Path) {
    fs::create_dir_all(path.parent().expect("has one")).expect("made");
    drop(UnixListener::bind(path).expect("bound"));
    // Another test of this process may be starting a program, which has a copy until it is
    // executed.
    eventually("nothing listens there", || UnixStream::connect(path).is_err().then_some(()));
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
    // Without root, a user can give files only to its own groups.
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
    assert!(place.logged().contains("replaced a stale socket"), "{}", place.logged());
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
fn a_file_that_is_not_a_socket_is_never_removed() {
    let place = Place::new();
    fs::create_dir_all(place.run_directory()).expect("made");
    fs::write(place.socket(), "precious").expect("written");
    let message = place.refusal();
    assert!(message.contains("the path has a file that is no socket"), "{message}");
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
fn a_socket_that_took_its_place_survives_its_stop() {
    let place = Place::new();
    let daemon = place.start(&[]);
    fs::remove_file(place.socket()).expect("removed");
    let _other = UnixListener::bind(place.socket()).expect("bound");
    assert_eq!(daemon.stop(Signal::SIGTERM).0.code(), Some(0));
    assert!(place.socket().exists());
}
