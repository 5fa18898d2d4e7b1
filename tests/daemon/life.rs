// SPDX-License-Identifier: Apache-2.0
//! Tests the start, the stop, and systemd's interfaces.

use crate::place::{Place, eventually, failure, is_closed, is_kept};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
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
        // The silent one could delay the stop for the ten seconds of a handshake.
        assert!(took < Duration::from_secs(9), "{took:?}");
        assert!(!place.socket().exists() && !place.lock().exists());
        assert!(place.notification().contains("STOPPING=1"));
        assert!(is_closed(&silent) && client.service.listHeaps().is_err());
    }
}

#[test]
fn a_second_signal_ends_a_stop_that_waits() {
    // A client in its handshake delays the stop by half a second. On a busy machine the second
    // signal may come later.
    eventually("a second signal comes in time and ends it", || {
        let place = Place::new();
        let daemon = place.start(&[]);
        let _silent = place.stream();
        // The connection then has its own thread, beside main, reaper, keeper and accept.
        eventually("it is accepted", || (daemon.switches().len() > 4).then_some(()));
        kill(daemon.pid(), Signal::SIGTERM).expect("sent");
        assert!(place.notification().contains("STOPPING=1"));
        let (status, _) = daemon.stop(Signal::SIGTERM);
        (status.signal() == Some(Signal::SIGTERM as i32)).then_some(())
    });
}

#[test]
fn a_socket_from_systemd_is_served_and_outlives_the_daemon() {
    let place = Place::new();
    fs::create_dir_all(place.run_directory()).expect("made");
    let listener = UnixListener::bind(place.socket()).expect("bound");
    // Queued before the daemon starts.
    let early = place.stream();
    let daemon = place.start_command(&mut place.activated(listener.try_clone().expect("copied").into()));
    assert!(is_kept(&early));
    place.connect().expect("connected").service.listHeaps().expect("answered");
    assert_eq!(daemon.stop(Signal::SIGTERM).0.code(), Some(0));
    assert!(place.socket().exists());
    let _next = place.stream();
    listener.accept().expect("it still listens, for the next daemon");
}

#[test]
fn a_descriptor_from_systemd_must_be_a_listening_stream_socket() {
    let place = Place::new();
    let inet = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let wrong: [(OwnedFd, &str); 4] = [
        (UnixStream::pair().expect("a pair").0.into(), "does not listen"),
        (inet.expect("a socket"), "descriptor 3 is not a Unix stream socket"),
        (UnixDatagram::unbound().expect("a socket").into(), "descriptor 3 is not a Unix stream socket"),
        (fs::File::open("/dev/null").expect("opened").into(), "descriptor 3 is not a socket"),
    ];
    for (descriptor, complaint) in wrong {
        let message = failure(&mut place.activated(descriptor));
        assert!(message.contains(complaint), "{message}");
    }
}

#[test]
fn systemd_must_announce_exactly_one_open_socket() {
    let place = Place::new();
    let null = || OwnedFd::from(fs::File::open("/dev/null").expect("opened"));
    let message = failure(&mut place.passed("LISTEN_FDS=2 LISTEN_PID=$$", vec![null(), null()]));
    assert!(message.contains("systemd passed 2 sockets, but aniond takes one"), "{message}");
    for (announced, why) in [("1", "Bad file descriptor"), ("4294967295", "overflow"), ("x", "LISTEN_FDS")] {
        let variables = format!("exec 3>&-; LISTEN_FDS={announced} LISTEN_PID=$$");
        let message = failure(&mut place.passed(&variables, Vec::new()));
        assert!(
            message.contains("cannot take a descriptor that LISTEN_FDS announces") && message.contains(why),
            "{announced}: {message}"
        );
    }
    assert!(!place.socket().exists());
}

#[test]
fn a_descriptor_that_systemd_did_not_pass_is_not_used_and_stays_open() {
    // For another process, for no process, and without LISTEN_FDS.
    for variables in ["LISTEN_FDS=1 LISTEN_PID=1", "LISTEN_FDS=1", ""] {
        let place = Place::new();
        let listener = UnixListener::bind(place.directory.path().join("passed-on.sock")).expect("bound");
        let inode = fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).expect("open").ino();
        let mut command = place.passed(variables, vec![listener.into()]);
        let daemon = place.start_command(command.arg("--socket").arg(place.socket()));
        place.connect().expect("connected").service.listHeaps().expect("answered");
        let proc = PathBuf::from(format!("/proc/{}", daemon.pid()));
        assert_eq!(fs::metadata(proc.join("fd/3")).expect("still open").ino(), inode, "{variables}");
        let info = fs::read_to_string(proc.join("fdinfo/3")).expect("still open");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
        let flags = i32::from_str_radix(flags.trim(), 8).expect("octal");
        assert_ne!(flags & libc::O_CLOEXEC, 0, "{variables}: {flags:o}");
        assert_eq!(daemon.stop(Signal::SIGTERM).0.code(), Some(0));
    }
}

#[test]
fn a_cgroup_that_cannot_be_watched_is_named() {
    let place = Place::new();
    let message = failure(&mut place.daemon(&["--cgroup", "/proc"]));
    assert!(message.contains("/proc") && message.contains("memory.events"), "{message}");
    let logged = |arguments: &[&str]| {
        let place = Place::new();
        place.start(arguments).stop(Signal::SIGTERM);
        place.logged()
    };
    assert!(!logged(&["--cgroup", "none"]).contains("cgroup"));
    assert!(logged(&[]).contains("memory pressure of "), "watched or not, it says so");
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
        logged.contains("<6>Serving at /") && logged.lines().all(|line| line.starts_with('<')),
        "{logged}"
    );
}

#[test]
fn the_heaps_of_a_file_are_served_and_a_bad_one_costs_itself_alone() {
    let place = Place::new();
    let file = place.directory.path().join("heaps.dts");
    let tree = r#"/dts-v1/; / { anion { compatible = "anion,heaps-v1";
        good { type = "system"; heap-id = <3>; };
        bad { type = "system"; heap-id = <32>; }; }; };"#;
    fs::write(&file, tree).expect("written");
    let _daemon = place.start_command(place.daemon(&["--config"]).arg(&file));
    let heaps = place.connect().expect("connected").service.listHeaps().expect("answered");
    let names: Vec<&str> = heaps.iter().map(|heap| heap.name.as_str()).collect();
    assert_eq!(names, ["good"]);
    let complaint = place.logged().lines().find(|line| line.contains("ERROR")).map(str::to_owned);
    assert!(complaint.is_some_and(|line| line.contains("3:")), "with its line: {}", place.logged());
}

#[test]
fn the_heaps_of_a_file_with_an_overlay_are_served() {
    let place = Place::new();
    let [base, overlay] = ["base.dts", "more.dtso"].map(|name| place.directory.path().join(name));
    let tree =
        r#"/dts-v1/; / { heaps: anion { compatible = "anion,heaps-v1"; first { type = "system"; }; }; };"#;
    fs::write(&base, tree).expect("written");
    fs::write(&overlay, r#"/dts-v1/; /plugin/; &heaps { second { type = "system"; }; };"#).expect("written");
    let _daemon = place.start_command(place.daemon(&["--config"]).arg(&base).arg(&overlay));
    let heaps = place.connect().expect("connected").service.listHeaps().expect("answered");
    let names: Vec<&str> = heaps.iter().map(|heap| heap.name.as_str()).collect();
    assert_eq!(names, ["second", "first"]);
    let message = failure(place.daemon(&["--config"]).arg(&base).arg(&base));
    assert!(message.contains("cannot be applied: it is no overlay"), "{message}");
}

#[test]
fn a_configuration_without_heaps_is_not_served() {
    let place = Place::new();
    let file = place.directory.path().join("empty.dts");
    fs::write(&file, "/dts-v1/; / { };").expect("written");
    for file in [file, place.directory.path().join("missing.dts")] {
        let message = failure(place.daemon(&["--config"]).arg(&file));
        assert!(message.contains(file.to_str().expect("text")), "{message}");
        assert!(!place.socket().exists());
    }
}
