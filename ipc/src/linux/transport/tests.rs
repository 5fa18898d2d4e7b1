// SPDX-License-Identifier: Apache-2.0

use super::*;
use rsbinder::rpc::transport::UnixTransport;
use std::io::Read;

/// Returns a call of the object `address`, which waits for a reply.
fn call(address: u8) -> Vec<u8> {
    let mut call = vec![0; 16 + 40];
    (call[4], call[16]) = (40, address);
    call
}

/// Returns a message that releases the object `address` once.
fn payment(address: u8) -> Vec<u8> {
    let mut payment = vec![0; 32];
    (payment[0], payment[4], payment[16], payment[24]) = (2, 16, address, 1);
    payment
}

fn reply() -> Vec<u8> {
    let mut reply = vec![0; 16 + 20];
    (reply[0], reply[4]) = (1, 20);
    reply
}

/// Returns an accepted connection after the handshake of a client that does not read ahead, and the
/// client's socket.
fn accepted() -> (Transport<()>, UnixStream) {
    after_handshake(&[0; 24])
}

fn after_handshake(handshake: &[u8; 24]) -> (Transport<()>, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let transport = Transport::accepting(ours, ()).expect("a connection");
    io::Write::write_all(&mut theirs, handshake).expect("sent");
    for length in [16, 8] {
        assert_eq!(transport.recv_raw(&mut vec![0; length]).expect("received"), length);
    }
    (transport, theirs)
}

fn receive_call(transport: &Transport<()>, client: &mut UnixStream, address: u8) {
    io::Write::write_all(client, &call(address)).expect("sent");
    assert_eq!(transport.recv_raw_with_fds(&mut [0; 16]).expect("a header").0, 16);
    assert_eq!(transport.recv_raw_with_fds(&mut [0; 40]).expect("a body").0, 40);
}

/// Returns all bytes that the client can read now.
fn received(client: &mut UnixStream) -> Vec<u8> {
    client.set_nonblocking(true).expect("set");
    let mut bytes = [0; 1000];
    let count = client.read(&mut bytes).or_else(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Ok(0),
        _ => Err(error),
    });
    client.set_nonblocking(false).expect("set");
    bytes[..count.expect("open")].to_vec()
}

#[test]
fn the_payment_for_a_call_is_sent_with_its_reply() {
    let (transport, mut client) = accepted();
    receive_call(&transport, &mut client, 7);
    transport.send_raw_with_fds(&payment(7), &[]).expect("held back");
    assert_eq!(received(&mut client), []);
    transport.send_raw_with_fds(&reply(), &[]).expect("sent");
    assert_eq!(received(&mut client), [payment(7), reply()].concat());
}

#[test]
fn a_release_goes_out_at_once() {
    let (transport, mut client) = accepted();
    transport.send_raw_with_fds(&payment(7), &[]).expect("no call waits");
    assert_eq!(received(&mut client), payment(7));
    receive_call(&transport, &mut client, 7);
    transport.send_raw_with_fds(&payment(8), &[]).expect("another object");
    assert_eq!(received(&mut client), payment(8));
    transport.send_raw_with_fds(&payment(7), &[]).expect("held back");
    transport.send_raw_with_fds(&payment(9), &[]).expect("another object");
    assert_eq!(received(&mut client), [payment(7), payment(9)].concat());
    transport.send_raw_with_fds(&payment(7), &[]).expect("the call was paid for");
    assert_eq!(received(&mut client), payment(7));
}

#[test]
fn a_held_back_payment_is_sent_before_a_read_waits_and_before_a_call() {
    let (transport, mut client) = accepted();
    transport.set_read_timeout(Some(Duration::from_millis(10))).expect("set");
    receive_call(&transport, &mut client, 7);
    transport.send_raw_with_fds(&payment(7), &[]).expect("held back");
    assert!(matches!(transport.recv_raw_with_fds(&mut [0; 16]), Err(RpcError::Timeout)));
    assert_eq!(received(&mut client), payment(7));
    receive_call(&transport, &mut client, 7);
    transport.send_raw_with_fds(&payment(7), &[]).expect("held back");
    transport.send_raw_draining(&call(1), &[], &mut || Ok(())).expect("sent");
    assert_eq!(received(&mut client), [payment(7), call(1)].concat());
}

/// A client that does not read ahead, such as libbinder, gets them with the reply.
#[test]
fn descriptors_go_with_the_reply_and_not_with_what_pays_for_the_call() {
    let (transport, mut client) = accepted();
    receive_call(&transport, &mut client, 7);
    transport.send_raw_with_fds(&payment(7), &[]).expect("held back");
    transport.send_raw_with_fds(&reply(), &[transport.socket.as_fd()]).expect("sent");
    let client = UnixTransport::from_stream(client).expect("a connection");
    let mut bytes = [payment(7), vec![0; 16]].concat();
    let (count, fds) = client.recv_raw_with_fds(&mut bytes[..32]).expect("received");
    assert_eq!((count, &bytes[..32], fds.len()), (32, &payment(7)[..], 0));
    let (count, fds) = client.recv_raw_with_fds(&mut bytes[32..]).expect("received");
    assert_eq!((count, &bytes[32..], fds.len()), (16, &reply()[..16], 1));
}

#[test]
fn one_send_has_the_reply_of_a_client_that_reads_ahead_and_its_descriptors() {
    let mut handshake = [0; 24];
    frames::mark_reading_ahead(&mut handshake, false);
    let (transport, mut client) = after_handshake(&handshake);
    receive_call(&transport, &mut client, 7);
    transport.send_raw_with_fds(&payment(7), &[]).expect("held back");
    let fds = [client.as_fd(); 65];
    assert!(matches!(transport.send_raw_with_fds(&reply(), &fds), Err(RpcError::Protocol(_))));
    assert_eq!(received(&mut client), [], "a refused reply takes nothing with it");
    transport.send_raw_with_fds(&reply(), &[transport.socket.as_fd()]).expect("sent");
    let plain = UnixTransport::from_stream(client.try_clone().expect("copied")).expect("a connection");
    assert_eq!(plain.recv_raw_with_fds(&mut [0]).expect("received").1.len(), 1, "they lie on the first byte");
    assert_eq!(received(&mut client), [&payment(7)[1..], &reply()].concat());
}

#[test]
fn a_client_says_in_its_first_bytes_that_it_reads_ahead() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let client = Transport::connecting(ours, false, Heard::default());
    let (client, service) = (client, Transport::accepting(theirs, ()));
    let (client, service) = (client.expect("a connection"), service.expect("a connection"));
    client.send_raw(&[0; 16]).expect("sent");
    client.send_raw(&[0; 8]).expect("sent");
    assert_eq!(service.recv_raw(&mut [0; 16]).expect("received"), 16);
    let mut init = [1; 8];
    assert_eq!(service.recv_raw(&mut init).expect("received"), 8);
    assert_eq!(init, [0; 8], "and in no others");
    assert!(service.peer_reads_ahead.load(Ordering::Relaxed));
}

#[test]
fn a_long_reply_follows_what_pays_for_the_call() {
    let (transport, mut client) = accepted();
    receive_call(&transport, &mut client, 7);
    transport.send_raw_with_fds(&payment(7), &[]).expect("held back");
    let mut long = vec![9; MAX_JOINED_BYTES + 1];
    transport.send_raw_with_fds(&long, &[]).expect("sent");
    let mut bytes = vec![0; 32];
    client.read_exact(&mut bytes).expect("received");
    assert_eq!(bytes, payment(7));
    long.fill(0);
    client.read_exact(&mut long).expect("received");
    assert!(long.iter().all(|byte| *byte == 9));
}

#[test]
fn descriptors_pass() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let (ours, theirs) = (
        Transport::connecting(ours, false, Heard::default()).expect("a connection"),
        UnixTransport::from_stream(theirs),
    );
    let theirs = theirs.expect("a connection");
    assert!(ours.supports_fd_passing());
    let file = std::fs::File::open("/dev/null").expect("opened");
    theirs.send_raw_with_fds(&reply(), &[file.as_fd()]).expect("sent");
    assert_eq!(ours.recv_raw_with_fds(&mut [0; 16]).expect("received").1.len(), 1);
    ours.send_raw_draining(b"x", &[file.as_fd()], &mut || Ok(())).expect("sent");
    assert_eq!(theirs.recv_raw_with_fds(&mut [0]).expect("received").1.len(), 1);
}

#[test]
fn a_deadline_holds_for_reads_that_wait_and_can_be_taken_back() {
    let (transport, mut client) = accepted();
    assert!(transport.set_read_timeout(Some(Duration::ZERO)).is_err());
    transport.set_read_timeout(Some(Duration::from_millis(10))).expect("set");
    assert!(matches!(transport.recv_raw_with_fds(&mut [0; 16]), Err(RpcError::Timeout)));
    transport.set_read_timeout(None).expect("taken back");
    let set =
        |transport: &Transport<()>| rustix::net::sockopt::socket_timeout(&transport.socket, Timeout::Recv);
    assert!(set(&transport).expect("known").is_some(), "the socket is told when a read waits");
    receive_call(&transport, &mut client, 1);
    assert_eq!(set(&transport), Ok(None));
}

#[test]
fn the_end_of_a_connection_is_seen_on_both_sides() {
    let (transport, mut client) = accepted();
    assert_eq!(transport.peer_closed(), Some(false));
    transport.shutdown_handle().expect("it has one")();
    assert_eq!(client.read(&mut [0]).expect("the end"), 0);
    assert_eq!(transport.recv_raw_with_fds(&mut [0; 16]).expect("the end").0, 0);
    drop(client);
    assert_eq!(transport.peer_closed(), Some(true));
    assert!(transport.peer_identity().is_local());
}

/// Returns a connection that this process opened, its store for a refusal, and the service's
/// socket.
fn connecting() -> (Transport<()>, Heard, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let heard = Heard::default();
    let transport = Transport::connecting(ours, false, Heard::clone(&heard)).expect("a connection");
    (transport, heard, theirs)
}

#[test]
fn a_refusal_is_heard_wherever_it_meets_the_handshake() {
    let told = |heard: &Heard| heard.get().cloned();
    // Instead of the response, instead of the header of a reply, and before a send.
    for length in [8, 16] {
        let (transport, heard, service) = connecting();
        transport.send_raw(&[0; 24]).expect("sent");
        send_refusal(&service, "no room");
        transport.recv_raw(&mut vec![0; length]).expect_err("refused");
        assert_eq!(told(&heard).as_deref(), Some("no room"), "a read of {length}");
    }
    let (transport, heard, service) = connecting();
    send_refusal(&service, "no room");
    drop(service);
    transport.send_raw(&[0; 24]).expect_err("it is closed");
    assert_eq!(told(&heard).as_deref(), Some("no room"));
}

#[test]
fn bytes_of_a_refusal_after_the_first_response_are_ordinary_data() {
    let (transport, heard, mut service) = connecting();
    io::Write::write_all(&mut service, &[2, 0, 0, 0, 0, 0, 0, 0]).expect("sent");
    assert_eq!(transport.recv_raw(&mut [0; 8]).expect("a response"), 8);
    io::Write::write_all(&mut service, &[0xff; 8]).expect("sent");
    assert_eq!(transport.recv_raw(&mut [0; 8]).expect("bytes"), 8);
    assert!(heard.get().is_none());
}

/// Refuses everything.
struct Refusing;

impl Permit for Refusing {
    fn opens(&self, opening: Opening) -> Result<(), Refused> {
        Err(Refused(format!("founds a session: {}", opening.founds_session)))
    }
}

#[test]
fn a_client_that_is_not_admitted_is_told_why() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let transport = Transport::accepting(ours, Refusing).expect("a connection");
    io::Write::write_all(&mut theirs, &[0; 16]).expect("sent");
    transport.recv_raw(&mut [0; 16]).expect_err("it is refused");
    let answer = received(&mut theirs);
    assert_eq!(refusal::text_length(&answer), Some(22));
    assert_eq!(&answer[refusal::HEADER..], b"founds a session: true");
}

#[test]
fn a_connection_that_no_thread_serves_is_told_so() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    drop(Transport::accepting(ours, ()).expect("a connection"));
    assert!(refusal::text_length(&received(&mut theirs)).is_some());
    let (served, mut client) = accepted();
    drop(served);
    assert_eq!(received(&mut client), [], "one that was served just ends");
}

#[test]
fn a_reply_without_its_descriptors_is_not_taken_for_the_clients_lack() {
    let (transport, mut client) = accepted();
    let status = |status: i32| {
        let mut reply = reply();
        reply[16..20].copy_from_slice(&status.to_le_bytes());
        reply
    };
    for (sent, arrives) in [(0, 0), (frames::NO_DESCRIPTORS_HERE, frames::NO_DESCRIPTORS_THERE), (-22, -22)] {
        transport.send_raw_with_fds(&status(sent), &[]).expect("sent");
        assert_eq!(received(&mut client), status(arrives), "{sent}");
    }
}
