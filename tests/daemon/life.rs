// SPDX-License-Identifier: Apache-2.0
//! Starting, stopping, and systemd.

use crate::place::{Place, eventually, failure, is_refused};
use nix::sys::signal::{Signal, kill};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

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
fn a_second_signal_ends_a_stop_that_waits() {
    let place = Place::new();
    let daemon = place.start(&[]);
    // A client in its handshake holds the stop up for half a second.
    let _silent = place.stream();
    eventually("it is accepted", || (daemon.switches().len() > 3).then_some(()));
    kill(daemon.pid(), Signal::SIGTERM).expect("sent");
    assert!(place.notification().contains("STOPPING=1"));
    let (status, took) = daemon.stop(Signal::SIGTERM);
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32), "{status} after {took:?}");
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
fn lines_to_the_journal_carry_priorities() {
    let place = Place::new();
    let mut command = place.daemon(&[]);
    let log = fs::metadata(place.directory.path().join("log")).expect("the daemon's standard error");
    command.env("JOURNAL_STREAM", format!("{}:{}", log.dev(), log.ino()));
    let daemon = place.start_command(&mut command);
    daemon.stop(Signal::SIGTERM);
    let logged = place.logged();
    assert!(
        logged.contains("<6>Serving at unix:") && logged.lines().all(|line| line.starts_with('<')),
        "{logged}"
    );
}
