// SPDX-License-Identifier: Apache-2.0
//! Tests messages with descriptors over a real socket: they are read as they were sent, wherever
//! the stream was cut.

use super::*;
use crate::linux::transport::frames::HEADER;
use proptest::prelude::*;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::thread;

/// Length of a body that no buffer of the inbox holds.
const LONG: usize = 3 * READ_AHEAD;

/// A message: its bytes, and the files whose descriptors go with it.
#[derive(Clone)]
struct Message {
    bytes: Vec<u8>,
    files: Vec<usize>,
}

fn message(body: usize, files: &[usize]) -> Message {
    let mut bytes = vec![0; HEADER];
    bytes[4..8].copy_from_slice(&u32::try_from(body).expect("small").to_le_bytes());
    bytes.extend((0..body).map(|at| u8::try_from(at % 251).expect("less than 251")));
    Message { bytes, files: files.to_vec() }
}

/// Returns a message that releases a call's target, without descriptors.
fn payment() -> Message {
    let mut payment = message(16, &[]);
    payment.bytes[0] = 2;
    payment
}

/// Files with different identities.
struct Files(Vec<File>);

impl Files {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| tempfile::tempfile().expect("a file")).collect())
    }

    fn inode(file: &File) -> u64 {
        file.metadata().expect("it is open").ino()
    }

    /// Returns the index of the file of each descriptor.
    fn indices(&self, fds: Vec<OwnedFd>) -> Vec<usize> {
        let known: Vec<_> = self.0.iter().map(Self::inode).collect();
        let inodes = fds.into_iter().map(|fd| Self::inode(&fd.into()));
        inodes.map(|inode| known.iter().position(|own| *own == inode).expect("one of these")).collect()
    }

    /// Sends all bytes, with the descriptors on the first.
    fn send(&self, socket: &UnixStream, bytes: &[u8], files: &[usize]) {
        let fds: Vec<_> = files.iter().map(|index| self.0[*index].as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(&fds)));
        let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).expect("sent");
        (&mut &*socket).write_all(&bytes[sent..]).expect("sent");
    }
}

/// Reads one message as the library does: the header, then the body, each with as many reads as
/// necessary.
fn read_message(inbox: &mut Inbox, socket: &UnixStream) -> RpcResult<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut bytes, mut fds) = (vec![0; HEADER], Vec::new());
    let mut filled = 0;
    while filled < bytes.len() {
        let taken = inbox.read(socket.as_fd(), &mut bytes[filled..])?;
        assert_ne!(taken.bytes, 0, "the stream ends after {filled} bytes of a message");
        filled += taken.bytes;
        fds.extend(taken.fds);
        if filled == HEADER && bytes.len() == HEADER {
            let body = u32::from_le_bytes(*bytes[4..].first_chunk().expect("a header"));
            bytes.resize(HEADER + usize::try_from(body).expect("small"), 0);
        }
    }
    Ok((bytes, fds))
}

fn expect(inbox: &mut Inbox, socket: &UnixStream, files: &Files, messages: &[Message]) {
    for (index, sent) in messages.iter().enumerate() {
        let (bytes, fds) = read_message(inbox, socket).expect("a message");
        assert!(bytes == sent.bytes, "message {index}: {} bytes of {}", bytes.len(), sent.bytes.len());
        assert_eq!(files.indices(fds), sent.files, "message {index}");
    }
    assert!(inbox.is_empty() && inbox.fds.is_empty(), "something is left");
}

#[test]
fn a_stream_that_is_cut_anywhere_gives_the_same_messages() {
    let files = Files::new(4);
    let messages =
        [message(3, &[]), message(40, &[0, 1]), message(0, &[]), message(5, &[2]), message(0, &[3])];
    let length: usize = messages.iter().map(|message| message.bytes.len()).sum();
    for (cut, waits) in (0..=length).flat_map(|cut| [(cut, false), (cut, true)]) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut begins = 0;
                for message in &messages {
                    let at = cut.saturating_sub(begins).min(message.bytes.len());
                    begins += message.bytes.len();
                    let (first, second) = message.bytes.split_at(at);
                    let (whole_or_first, rest) =
                        if first.is_empty() { (second, first) } else { (first, second) };
                    files.send(&theirs, whole_or_first, &message.files);
                    if waits && !rest.is_empty() {
                        await_read(&ours);
                    }
                    (&theirs).write_all(rest).expect("sent");
                }
            });
            expect(&mut Inbox::connecting(), &ours, &files, &messages);
        });
    }
}

/// Waits until `socket` has passed on all bytes that were sent to it.
fn await_read(socket: &UnixStream) {
    let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    while rustix::net::recv(socket, &mut [0], peek) != Err(rustix::io::Errno::AGAIN) {
        thread::yield_now();
    }
}

/// The buffer may end anywhere in one send, and another message with descriptors follows.
#[test]
fn descriptors_that_came_with_what_pays_for_a_call_are_the_replys() {
    let files = Files::new(3);
    for before in READ_AHEAD - 100..=READ_AHEAD {
        let first = message(before - HEADER, &[]);
        let (reply, next) = (message(100, &[0, 1]), message(0, &[2]));
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        files.send(&theirs, &first.bytes, &[]);
        files.send(&theirs, &[payment().bytes, reply.bytes.clone()].concat(), &[0, 1]);
        files.send(&theirs, &next.bytes, &[2]);
        let (mut inbox, mut header) = (Inbox::connecting(), [0; HEADER]);
        assert_eq!(inbox.read(ours.as_fd(), &mut header).expect("a header").bytes, HEADER);
        let mut body = vec![0; before - HEADER];
        assert_eq!(inbox.read(ours.as_fd(), &mut body).expect("a body").bytes, body.len());
        expect(&mut inbox, &ours, &files, &[payment(), reply, next]);
    }
}

#[test]
fn descriptors_of_messages_that_can_have_none_do_not_heap_up() {
    let files = Files::new(1);
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut inbox = Inbox::accepting(1000);
    let refused = (0..10).find_map(|_| {
        files.send(&theirs, &payment().bytes, &[0; 30]);
        read_message(&mut inbox, &ours).map(|(_, fds)| assert_eq!(fds.len(), 0)).err()
    });
    assert!(matches!(refused, Some(RpcError::Protocol(_))), "{refused:?}");
}

#[test]
fn one_read_of_the_socket_brings_a_message_and_what_came_before_it() {
    let files = Files::new(1);
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let messages = [message(16, &[]), message(100, &[0])];
    for message in &messages {
        files.send(&theirs, &message.bytes, &message.files);
    }
    let mut inbox = Inbox::connecting();
    assert_eq!(inbox.read(ours.as_fd(), &mut [0; HEADER]).expect("a header").bytes, HEADER);
    ours.set_nonblocking(true).expect("set");
    let empty = receive(ours.as_fd(), &mut [0], &mut Vec::new());
    assert!(matches!(empty, Err(RpcError::Timeout)), "{empty:?}");
}

#[test]
fn a_header_beyond_the_limit_is_refused_before_its_end_and_what_came_before_it_is_not() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut inbox = Inbox::accepting(1000);
    let mut hostile = message(0, &[]).bytes;
    hostile[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let fine = message(1000, &[]);
    (&theirs).write_all(&[fine.bytes.clone(), hostile].concat()).expect("sent");
    assert_eq!(read_message(&mut inbox, &ours).expect("within the limit").0, fine.bytes);
    let refused = read_message(&mut inbox, &ours).map(|_| ());
    let expected = usize::try_from(u32::MAX).expect("it fits");
    assert!(
        matches!(refused, Err(RpcError::FrameTooLarge { declared, max: 1000 }) if declared == expected),
        "{refused:?}"
    );
}

#[test]
fn an_accepted_connection_takes_no_oneway_calls_and_a_client_does() {
    let mut call = message(40, &[]).bytes;
    call[..4].fill(0);
    call[HEADER..].fill(0);
    call[HEADER + 12] = 0x21;
    for (mut inbox, is_taken) in [(Inbox::accepting(1000), false), (Inbox::connecting(), true)] {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (&theirs).write_all(&call).expect("sent");
        let read = read_message(&mut inbox, &ours);
        assert!(is_taken == read.is_ok() && is_taken != matches!(read, Err(RpcError::Protocol(_))));
    }
}

#[test]
fn more_descriptors_than_a_message_can_have_are_refused_and_closed() {
    let files = Files::new(1);
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let fds = [files.0[0].as_fd(); MAX_FDS + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&theirs, &[IoSlice::new(&message(0, &[]).bytes)], &mut control, SendFlags::NOSIGNAL)
        .expect("sent");
    let mut inbox = Inbox::connecting();
    assert!(matches!(read_message(&mut inbox, &ours), Err(RpcError::Protocol(_))));
}

#[test]
fn an_accepted_connection_reads_its_handshake_to_the_byte() {
    for (options, id, init) in [(0, 0, 8), (0, 32, 8), (1, 32, 0)] {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut header = [0; CONNECTION_HEADER];
        (header[4], header[14]) = (options, id);
        let first = message(20, &[]);
        let handshake = [header.as_slice(), &vec![7; usize::from(id) + init]].concat();
        let mut sent = handshake.clone();
        sent.extend(&first.bytes);
        (&theirs).write_all(&sent).expect("sent");
        let mut inbox = Inbox::accepting(1000);
        let mut read = vec![0; handshake.len()];
        let mut filled = 0;
        while filled < read.len() {
            filled += inbox.read_plain(ours.as_fd(), &mut read[filled..]).expect("read").bytes;
        }
        assert_eq!(read, handshake);
        // A session without descriptors also reads messages with `read_plain`, and the limit
        // applies there too.
        let mut plain = vec![0; HEADER];
        assert_eq!(inbox.read_plain(ours.as_fd(), &mut plain).expect("read").bytes, HEADER);
        assert_eq!(plain, first.bytes[..HEADER]);
        let mut body = vec![0; 20];
        assert_eq!(inbox.read_plain(ours.as_fd(), &mut body).expect("read").bytes, 20);
        (&theirs).write_all(&message(1001, &[]).bytes).expect("sent");
        assert!(inbox.read_plain(ours.as_fd(), &mut plain).is_err(), "1001 bytes are more than 1000");
    }
}

/// Returns how each message is sent: the length of its body, its number of descriptors, whether it
/// shares a send with the previous ones if it has none, and where it is cut into two sends.
fn sends() -> impl Strategy<Value = Vec<(usize, usize, bool, Option<usize>)>> {
    let body =
        prop_oneof![Just(0), 1..200usize, Just(READ_AHEAD - HEADER), READ_AHEAD - 40..READ_AHEAD, Just(LONG)];
    let fds = prop_oneof![3 => Just(0), 2 => 1..4usize];
    prop::collection::vec((body, fds, any::<bool>(), prop::option::of(1..2 * READ_AHEAD)), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn messages_in_are_messages_out_each_with_its_own_descriptors(plan in sends()) {
        let files = Files::new(plan.iter().map(|(_, fds, _, _)| fds).sum());
        let mut next = 0..files.0.len();
        let messages: Vec<_> =
            plan.iter().map(|(body, fds, _, _)| message(*body, &next.by_ref().take(*fds).collect::<Vec<_>>())).collect();
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut joined = Vec::new();
                for (index, message) in messages.iter().enumerate() {
                    joined.extend(&message.bytes);
                    let joins = plan.get(index + 1).is_some_and(|(_, fds, joins, _)| *joins && *fds == 0);
                    if joins && message.files.is_empty() {
                        continue;
                    }
                    let cut = plan[index].3.unwrap_or(joined.len()).min(joined.len());
                    files.send(&theirs, &joined[..cut], &message.files);
                    (&theirs).write_all(&joined[cut..]).expect("sent");
                    joined.clear();
                }
                drop(theirs);
            });
            let mut inbox = Inbox::connecting();
            expect(&mut inbox, &ours, &files, &messages);
            assert_eq!(inbox.read(ours.as_fd(), &mut [0; HEADER]).expect("the end").bytes, 0);
        });
    }
}
