// SPDX-License-Identifier: Apache-2.0
//! Tests what clients can and cannot cause in the daemon.

use crate::place::{PATIENCE, Place, eventually, is_kept, program};
use anion_ipc::{Connection, Endpoint, SERVICE_NAME, connect};
use nix::unistd::geteuid;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;
use vendor_anion_allocator::aidl::vendor::anion::allocator::IHeapAllocator::IHeapAllocator;

/// The first bytes of an RPC binder client, for a new session.
const CLIENT_HEADER: [u8; 16] = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn connections_over_a_users_budget_are_closed_at_once() {
    let place = Place::new();
    let _daemon = place.start(&["--max-connections-per-uid", "3"]);
    // Silent ones are closed after ten seconds. On a busy machine, more connections are needed.
    let mut held = eventually("three silent connections keep all others out", || {
        let held: Vec<UnixStream> = (0..3).map(|_| place.stream()).collect();
        let keep_out = (0..5).all(|_| place.connect().is_err()) && held.iter().all(is_kept);
        keep_out.then_some(held)
    });
    held.pop();
    let client = eventually("a place is free again", || place.connect().ok());
    client.service.listHeaps().expect("answered");
    let complaint = format!("uid {} has 3 connections already", geteuid());
    assert!(place.logged().contains(&complaint), "{}", place.logged());
}

#[test]
fn one_user_has_sixteen_sessions_of_as_many_connections_as_libbinder_opens() {
    let place = Place::new();
    let _daemon = place.start(&[]);
    let endpoint = Endpoint::Socket(place.socket());
    let clients: Vec<Connection<dyn IHeapAllocator>> =
        (0..16).map(|_| connect(&endpoint, SERVICE_NAME, 8).expect("within the budget")).collect();
    // One call on each connection of a session, at the same time.
    thread::scope(|scope| {
        for client in clients.iter().flat_map(|client| [client; 8]) {
            scope.spawn(|| client.service.listHeaps().expect("answered"));
        }
    });
}

#[test]
fn sessions_over_a_users_budget_are_closed_at_once() {
    let place = Place::new();
    let _daemon = place.start(&["--max-sessions-per-uid", "2"]);
    let endpoint = Endpoint::Socket(place.socket());
    let first: Connection<dyn IHeapAllocator> = connect(&endpoint, SERVICE_NAME, 8).expect("one session");
    let second = place.connect().expect("two sessions");
    assert!(place.connect().is_err());
    first.service.listHeaps().expect("the first is served");
    second.service.listHeaps().expect("the second is served");
    let complaint = format!("uid {} has 2 sessions already (--max-sessions-per-uid)", geteuid());
    assert!(place.logged().contains(&complaint), "{}", place.logged());
}

#[test]
fn running_out_of_descriptors_refuses_clients_without_spinning() {
    let place = Place::new();
    let mut limited = place.command("sh");
    limited
        .args(["-c", "ulimit -n 40 && exec \"$0\" \"$@\""])
        .arg(program())
        .arg("--socket")
        .arg(place.socket());
    let daemon = place.start_command(limited.arg("--max-sessions-per-uid=256"));
    let crowd: Vec<UnixStream> = (0..60).map(|_| place.stream()).collect();
    eventually("someone is refused or has to wait", || {
        place.logged().contains("out of file descriptors").then_some(())
    });
    // On a busy machine the crowd is slow; a loop that spins never has an idle second.
    eventually(
        "a second passes in which no client comes or leaves, and nothing wakes up or is logged",
        || {
            let before = (daemon.switches(), place.logged());
            thread::sleep(Duration::from_secs(1));
            (before == (daemon.switches(), place.logged())).then_some(())
        },
    );
    drop(crowd);
    let client = eventually("the crowd is gone", || place.connect().ok());
    client.service.listHeaps().expect("answered");
}

#[test]
fn a_long_message_ends_its_connection_before_it_is_read() {
    let place = Place::new();
    let _daemon = place.start(&[]);
    // One session each: RPC binder's connection header, the client's greeting, and the header of a
    // message.
    let connection_after = |body_bytes: u32, patience: Duration| {
        let mut stream = place.stream();
        let mut message = [0; 16];
        message[4..8].copy_from_slice(&body_bytes.to_le_bytes());
        for part in [&CLIENT_HEADER[..], b"cci\0\0\0\0\0", &message] {
            stream.write_all(part).expect("sent");
        }
        stream.set_read_timeout(Some(patience)).expect("set");
        stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
    };
    let waits = connection_after(600 * 1024, Duration::from_millis(500));
    assert_eq!(waits, Err(io::ErrorKind::WouldBlock), "it waits for the message");
    assert!(connection_after(600 * 1024 + 1, PATIENCE).is_ok(), "it hangs up");
    place.connect().expect("connected").service.listHeaps().expect("others are served");
}

#[test]
fn a_oneway_call_ends_its_connection_and_is_kept_by_none() {
    let place = Place::new();
    let _daemon = place.start(&[]);
    let after_a_call_with = |flags: u8, number: u8| {
        let mut stream = place.stream();
        let mut call = [0; 16 + 40];
        (call[4], call[16 + 12], call[16 + 16]) = (40, flags, number);
        for part in [&CLIENT_HEADER[..], b"cci\0\0\0\0\0", &call] {
            stream.write_all(part).expect("sent");
        }
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        // The answer to the greeting, then the reply to the call or the end.
        let mut answer = [0; 8 + 16];
        stream.read_exact(&mut answer).map_err(|error| error.kind())
    };
    after_a_call_with(0x20, 0).expect("a call for the root object has a reply");
    for number in [0, 1, 5] {
        let ended = after_a_call_with(0x21, number);
        assert_eq!(ended, Err(io::ErrorKind::UnexpectedEof), "number {number}");
    }
    place.connect().expect("connected").service.listHeaps().expect("others are served");
}

#[test]
fn nothing_wakes_up_while_no_client_talks() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let threads = daemon.switches().len();
    place.connect().expect("connected").service.listHeaps().expect("answered");
    eventually("the client is gone", || (daemon.switches().len() == threads).then_some(()));
    // Threads may be slow to finish their work; a thread that polls never has two idle seconds.
    let idle = |state: &str| {
        eventually(state, || {
            let before = daemon.switches();
            thread::sleep(Duration::from_secs(2));
            (daemon.switches() == before).then_some(())
        });
    };
    idle("two quiet seconds after a client left");
    let client = place.connect().expect("connected");
    client.service.listHeaps().expect("answered");
    idle("two quiet seconds with a silent client");
}
