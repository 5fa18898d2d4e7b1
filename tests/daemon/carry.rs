// SPDX-License-Identifier: Apache-2.0
//! Tests that live buffers outlive a restart by systemd, which stores the descriptors that a
//! service sends and passes them to the next one.

use crate::place::{Daemon, Place, eventually};
use anion_ipc::{Endpoint, ParcelFileDescriptor, SERVICE_NAME, connect};
use nix::sys::signal::{Signal, kill};
use nix::unistd::geteuid;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;
use vendor_anion_allocator::aidl::vendor::anion::allocator::AllocationRequest::AllocationRequest;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Buffer::Buffer;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// The descriptors that a service stores, each with its name.
type Stored = Vec<(String, OwnedFd)>;

/// The arguments of the unit: the filter permits the calls that storing needs.
const CONFINED: [&str; 2] = ["--seccomp", "built-in"];
const STORED: &str = "systemd stores descriptors";
/// The first bytes of a client of RPC binder, to which the service sends an answer.
const NEW_SESSION: [u8; 16] = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn allocate(place: &Place, count: i32, size: i64) -> Vec<Buffer> {
    let client = place.connect().expect("connected");
    let request =
        AllocationRequest { size, count, heapNames: vec!["system".to_owned()], ..Default::default() };
    client.service.allocate(&request).expect("room").buffers
}

/// Returns the bytes and buffers that this user holds.
fn held(place: &Place) -> (i64, i64) {
    let usage = place.connect().expect("connected").service.getUsage().expect("answered");
    let own = usage.iter().find(|usage| usage.uid.cast_unsigned() == geteuid().as_raw());
    own.map_or((0, 0), |own| (own.bytes, own.buffers))
}

/// Stops the service, and returns what it stores.
fn stop(place: &Place, daemon: Daemon) -> Stored {
    place.forget_notifications();
    assert_eq!(daemon.stop(Signal::SIGTERM).0.code(), Some(0), "{}", place.logged());
    stored(place)
}

/// Returns what the service stores.
fn stored(place: &Place) -> Stored {
    let mut stored = Vec::new();
    loop {
        let (text, descriptors) = place.notification_with_descriptors();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        if text.contains("FDSTORE=1") {
            assert_eq!(field("FDPOLL=").as_deref(), Some("0"), "{text}");
            let name = field("FDNAME=").expect("a name");
            stored.extend(descriptors.into_iter().map(|descriptor| (name.clone(), descriptor)));
        }
        if stored.iter().any(|(name, _)| name == "anion-buffers") {
            return stored;
        }
    }
}

/// Returns a service to which systemd passes descriptors.
fn command(place: &Place, passed: Stored) -> Command {
    let (names, descriptors): (Vec<_>, Vec<_>) = passed.into_iter().unzip();
    let variables = format!("LISTEN_FDS={} LISTEN_FDNAMES={} LISTEN_PID=$$", names.len(), names.join(":"));
    let mut command = place.passed(&variables, descriptors);
    command.args(CONFINED);
    command
}

/// Starts a service to which systemd passes what another one stored.
fn start(place: &Place, stored: Stored) -> Daemon {
    begin(place, command(place, stored).arg("--socket").arg(place.socket()))
}

/// Starts the command of a service, which must remove what systemd stores.
fn begin(place: &Place, command: &mut Command) -> Daemon {
    let daemon = Daemon { child: command.spawn().expect("started") };
    let mut removed = Vec::new();
    loop {
        let text = place.notification();
        removed.extend(text.strip_prefix("FDSTOREREMOVE=1\nFDNAME=").map(|name| name.trim().to_owned()));
        if text.contains("READY=1") {
            break;
        }
    }
    assert_eq!(removed, ["anion-state", "anion-buffers"], "{STORED} until they are removed");
    daemon
}

fn described(place: &Place, buffer: &Buffer) -> i64 {
    let copy = buffer.fd.as_ref().expect("a descriptor").as_fd().try_clone_to_owned().expect("copied");
    let client = place.connect().expect("connected");
    client.service.describe(&ParcelFileDescriptor::new(copy)).expect("known").id
}

#[test]
fn a_restart_keeps_the_books_and_the_pages() {
    let place = Place::new();
    let mut daemon = place.start(&CONFINED);
    // More than the descriptors of one message.
    let mut buffers: Vec<Buffer> = (0..8).flat_map(|_| allocate(&place, 60, 4096)).collect();
    buffers.extend(allocate(&place, 1, 8 << 20));
    let before = held(&place);
    assert_eq!(before.1, 481);
    let last = buffers.last().and_then(|buffer| buffer.fd.as_ref()).expect("a descriptor");
    let mut file = File::from(last.as_fd().try_clone_to_owned().expect("copied"));
    file.write_all(b"written before").expect("writable");
    for _ in 0..2 {
        let stored = stop(&place, daemon);
        assert!(stored.len() <= 8, "{STORED} for the unit, and few of them: {}", stored.len());
        daemon = start(&place, stored);
        assert_eq!(held(&place), before);
        for buffer in buffers.iter().step_by(60) {
            assert_eq!(described(&place, buffer), buffer.id);
        }
    }
    assert!(place.logged().contains("481 buffers of the previous service are counted"), "{}", place.logged());
    let new = allocate(&place, 1, 4096);
    assert!(buffers.iter().all(|old| old.id < new[0].id), "ids do not repeat");
    file.rewind().expect("a file");
    drop((file, buffers, new));
    eventually("releases are noticed as before", || (held(&place) == (0, 0)).then_some(()));
}

#[test]
fn a_client_that_connects_while_the_service_stops_is_served_by_the_next_one() {
    let place = Place::new();
    fs::create_dir_all(place.run_directory()).expect("made");
    let listener = UnixListener::bind(place.socket()).expect("bound");
    let socket = || ("anion.socket".to_owned(), OwnedFd::from(listener.try_clone().expect("copied")));
    let mut daemon = place.start_command(&mut command(&place, vec![socket()]));
    let buffers = allocate(&place, 2, 65536);
    let before = place.connect().expect("connected");
    // The service announces the stop, ends its connections, and waits when it stores the buffers.
    place.fill_notifications();
    kill(daemon.pid(), Signal::SIGTERM).expect("it runs");
    place.notification();
    eventually("its connections end", || before.service.listHeaps().is_err().then_some(()));
    let mut early = place.stream();
    let late = thread::spawn({
        let socket = Endpoint::Socket(place.socket());
        move || {
            connect::<dyn IHeapAllocator>(&socket, SERVICE_NAME, 1).and_then(|client| {
                client.service.getUsage().map_err(|status| io::Error::other(status.to_string()))
            })
        }
    });
    early.write_all(&NEW_SESSION).expect("sent");
    let passed = stored(&place).into_iter().chain([socket()]).collect();
    eventually("the service ends", || daemon.child.try_wait().expect("our child"));
    let _next = begin(&place, &mut command(&place, passed));
    early.read_exact(&mut [0; 1]).expect("the next service answers");
    let usage = late.join().expect("no panic").expect("answered");
    assert_eq!(usage.iter().map(|own| (own.bytes, own.buffers)).collect::<Vec<_>>(), [(131_072, 2)]);
    drop(buffers);
}

#[test]
fn buffers_that_are_closed_during_the_restart_are_free_after_it() {
    let place = Place::new();
    let daemon = place.start(&CONFINED);
    let mut buffers = allocate(&place, 4, 65536);
    let stored = stop(&place, daemon);
    buffers.truncate(1);
    let _daemon = start(&place, stored);
    eventually("three were released", || (held(&place) == (65536, 1)).then_some(()));
}

#[test]
fn a_state_that_cannot_be_read_is_named_and_the_service_serves() {
    let place = Place::new();
    let daemon = place.start(&CONFINED);
    let buffers = allocate(&place, 2, 65536);
    let mut stored = stop(&place, daemon);
    let state = stored.iter_mut().find(|(name, _)| name == "anion-state").expect("stored");
    let mut file = File::from(state.1.try_clone().expect("copied"));
    assert!(file.metadata().expect("fstat").size() > 16);
    file.seek(std::io::SeekFrom::Start(8)).and_then(|_| file.write_all(&[2])).expect("written");
    let _daemon = start(&place, stored);
    assert_eq!(held(&place), (0, 0));
    let complaint = "buffers of the previous service are not counted: the state of the previous service: it \
                     has version 2, but this service reads version 1";
    assert!(place.logged().contains(complaint), "{}", place.logged());
    drop(buffers);
}

#[test]
fn sockets_that_were_read_already_are_named_and_nothing_is_counted() {
    let place = Place::new();
    let daemon = place.start(&CONFINED);
    let buffers = allocate(&place, 2, 65536);
    let stored = stop(&place, daemon);
    let copies = stored.iter().map(|(name, fd)| (name.clone(), fd.try_clone().expect("copied"))).collect();
    let first = start(&place, copies);
    assert_eq!(held(&place), (2 * 65536, 2));
    drop(first);
    let _second = start(&place, stored);
    assert_eq!(held(&place), (0, 0));
    assert!(place.logged().contains("of 2 buffers the descriptors are missing"), "{}", place.logged());
    drop(buffers);
}
