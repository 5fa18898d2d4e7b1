// SPDX-License-Identifier: Apache-2.0
//! The part of the binder RPC wire format that this crate reads: where messages begin, and which
//! messages release a call's target. Layouts are those of AOSP's `RpcWireFormat.h`, wire versions 0
//! to 2.

use crate::linux::WIRE_VERSION;
use rustix::io::Errno;

/// Length of a message's header in bytes: command, length of the body, 8 reserved bytes.
pub(super) const HEADER: usize = 16;
/// Length of the connection header that a client sends first, without the session id that may
/// follow.
pub(super) const CONNECTION_HEADER: usize = 16;
/// Length of the `cci` message that ends the client's part of the handshake.
const CONNECTION_INIT: usize = 8;
/// The mark of this crate's clients in the reserved bytes of their connection header. They read
/// ahead: if descriptors come with the first byte of a send, and the send begins with a
/// `DEC_STRONG`, the descriptors belong to the next message. Other servers ignore these bytes. A
/// later wire version can give them a meaning only for clients that offer that version.
const READS_AHEAD: [u8; 8] = *b"anion-ra";
/// The mark of an operator's connection, which administers the service and allocates nothing.
const READS_AHEAD_FOR_OPERATOR: [u8; 8] = *b"anion-op";
/// Offset of the reserved bytes of the connection header.
const RESERVED: usize = 6;
/// Option bit of the connection header: the client receives calls on this connection.
const OPTION_INCOMING: u8 = 1;

const TRANSACT: u32 = 0;
const REPLY: u32 = 1;
const DEC_STRONG: u32 = 2;
const FLAG_ONEWAY: u32 = 1;
/// Offset of a call's flags in its body.
const FLAGS: usize = 12;
/// Length of the first part of a call's body: address, code, flags.
const CALL_START: usize = 16;
/// Length of the status at the beginning of a reply's body.
const STATUS: usize = 4;
/// Status of a reply whose descriptors did not fit into the client's process.
pub(in crate::linux) const NO_DESCRIPTORS_HERE: i32 = -(Errno::MFILE.raw_os_error());
/// Status of the reply to a call whose descriptors did not fit into the service's process.
pub(in crate::linux) const NO_DESCRIPTORS_THERE: i32 = -(Errno::NFILE.raw_os_error());
/// Length of the body of a `DEC_STRONG`: address, amount, reserved.
const DEC_STRONG_BODY: usize = 16;

/// An object's address in a session.
pub(super) type Address = [u8; 8];

fn word_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn address_at(bytes: &[u8], offset: usize) -> Option<Address> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// Returns the length in bytes of the session id after a connection header: 0 for a new session.
fn session_id_length(header: &[u8; CONNECTION_HEADER]) -> usize {
    u16::from_le_bytes([header[14], header[15]]).into()
}

/// Properties of a connection, from the client's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Whether it begins a new session instead of joining one.
    pub founds_session: bool,
    /// Whether it is for administration and allocates nothing.
    pub is_operator: bool,
}

impl Opening {
    /// Returns the properties in this header.
    pub(super) fn of(header: &[u8; CONNECTION_HEADER]) -> Self {
        let is_operator = header[RESERVED..].starts_with(&READS_AHEAD_FOR_OPERATOR) && knows_marks(header);
        Self { founds_session: session_id_length(header) == 0, is_operator }
    }
}

/// Returns the number of bytes that a client sends before its first message, computed from its
/// connection header.
pub(super) fn handshake_length(header: &[u8; CONNECTION_HEADER]) -> usize {
    let init = if header[4] & OPTION_INCOMING == 0 { CONNECTION_INIT } else { 0 };
    CONNECTION_HEADER + session_id_length(header) + init
}

/// Puts the mark, an operator's or the ordinary one, into the connection header at the beginning of
/// a client's handshake.
pub(super) fn mark_reading_ahead(handshake: &mut [u8], is_operator: bool) {
    if let Some(reserved) = handshake.get_mut(RESERVED..RESERVED + READS_AHEAD.len()) {
        let mark = if is_operator { READS_AHEAD_FOR_OPERATOR } else { READS_AHEAD };
        reserved.copy_from_slice(&mark);
    }
}

/// Returns whether the client with this connection header reads ahead.
pub(super) fn reads_ahead(header: &[u8; CONNECTION_HEADER]) -> bool {
    let marks = [READS_AHEAD, READS_AHEAD_FOR_OPERATOR];
    knows_marks(header) && marks.iter().any(|mark| header[RESERVED..].starts_with(mark))
}

/// Returns whether the client with this connection header offers a wire version in which the
/// reserved bytes can have this crate's marks.
fn knows_marks(header: &[u8; CONNECTION_HEADER]) -> bool {
    word_at(header, 0).is_some_and(|version| version <= WIRE_VERSION)
}

/// Returns the address that a whole message releases, if it is a `DEC_STRONG`.
pub(super) fn paid_address(message: &[u8]) -> Option<Address> {
    let is_one = word_at(message, 0) == Some(DEC_STRONG) && message.len() == HEADER + DEC_STRONG_BODY;
    is_one.then(|| address_at(message, HEADER)).flatten()
}

/// Returns the status of a whole message if it is a reply.
pub(super) fn reply_status(message: &[u8]) -> Option<i32> {
    let status = i32::from_ne_bytes(word_at(message, HEADER)?.to_ne_bytes());
    (word_at(message, 0) == Some(REPLY)).then_some(status)
}

/// Returns the reply with the status for a service without free descriptors.
pub(super) fn blaming_descriptors(reply: &[u8]) -> Vec<u8> {
    let mut blaming = reply.to_vec();
    if let Some(status) = blaming.get_mut(HEADER..HEADER + STATUS) {
        status.copy_from_slice(&NO_DESCRIPTORS_THERE.to_le_bytes());
    }
    blaming
}

/// A position in a stream of messages.
#[derive(Clone)]
pub(super) struct Position {
    header: [u8; HEADER],
    /// Bytes of the header that have passed; all of them during the body.
    passed: usize,
    /// Bytes of the body that have not passed yet.
    left: usize,
    /// First bytes of the present body, or of the last one; zero before the first.
    start: [u8; CALL_START],
}

impl Position {
    /// Returns the position before a first message.
    pub(super) fn new() -> Self {
        Self { header: [0; HEADER], passed: 0, left: 0, start: [0; CALL_START] }
    }

    /// Advances by `bytes`. Returns the offset in them at which the last message begins, if one
    /// does.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut last = None;
        let mut at = 0;
        while at < bytes.len() {
            if self.passed < HEADER {
                if self.passed == 0 {
                    last = Some(at);
                    self.start = [0; CALL_START];
                }
                let count = (HEADER - self.passed).min(bytes.len() - at);
                self.header[self.passed..self.passed + count].copy_from_slice(&bytes[at..at + count]);
                self.passed += count;
                at += count;
                self.left = self.announced();
            } else {
                let count = self.left.min(bytes.len() - at);
                let before = self.announced() - self.left;
                if let Some(start) = self.start.get_mut(before..) {
                    let known = start.len().min(count);
                    start[..known].copy_from_slice(&bytes[at..at + known]);
                }
                self.left -= count;
                at += count;
            }
            if self.passed == HEADER && self.left == 0 {
                self.passed = 0;
            }
        }
        last
    }

    /// Returns the length of the body in the header. Valid only once the header has passed.
    fn announced(&self) -> usize {
        let length = u32::from_le_bytes([self.header[4], self.header[5], self.header[6], self.header[7]]);
        usize::try_from(length).unwrap_or(usize::MAX)
    }

    /// Returns whether the position is inside a message: after its first byte and before its last.
    pub(super) fn is_within(&self) -> bool {
        self.passed > 0
    }

    /// Returns the number of bytes that have passed of the present or last body; 0 inside a header.
    pub(super) fn body_passed(&self) -> usize {
        if matches!(self.passed, 0 | HEADER) { self.announced() - self.left } else { 0 }
    }

    /// Returns whether the present message, or the one that ends here, can have descriptors.
    /// Unknown inside a header.
    pub(super) fn can_have_descriptors(&self) -> bool {
        matches!(self.passed, 0 | HEADER) && word_at(&self.header, 0) != Some(DEC_STRONG)
    }

    /// Returns the length of the next body if the position is between a header and its body.
    pub(super) fn body_ahead(&self) -> Option<usize> {
        (self.passed == HEADER && self.left == self.announced()).then_some(self.left)
    }

    /// Sets the status of a reply, whose body begins with `bytes` and has passed, to the one for a
    /// process without free descriptors. Does nothing for other messages.
    pub(super) fn fail_reply(&self, bytes: &mut [u8]) {
        if word_at(&self.header, 0) != Some(REPLY) {
            return;
        }
        if let Some(status) = bytes.get_mut(..STATUS) {
            status.copy_from_slice(&NO_DESCRIPTORS_HERE.to_le_bytes());
        }
    }

    /// Returns whether the present or last message is a call that waits for no reply, as far as its
    /// body has passed.
    pub(super) fn is_oneway_call(&self) -> bool {
        let flags = word_at(&self.start, FLAGS).unwrap_or(0);
        word_at(&self.header, 0) == Some(TRANSACT) && flags & FLAG_ONEWAY != 0
    }

    /// Returns the target of a call that waits for a reply, if the position is between the header
    /// of a call and its body, which begins with `body`.
    pub(super) fn target(&self, body: &[u8]) -> Option<Address> {
        let is_call = self.body_ahead().is_some() && word_at(&self.header, 0) == Some(TRANSACT);
        let is_twoway = word_at(body, FLAGS).is_some_and(|flags| flags & FLAG_ONEWAY == 0);
        (is_call && is_twoway).then(|| address_at(body, 0)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_message_that_begins_is_found_wherever_the_bytes_end() {
        // Bodies of 3, 0 and 20 bytes begin at 0, 19 and 35.
        let mut stream = Vec::new();
        for body in [3, 0, 20] {
            let header = [[0; 4], u32::to_le_bytes(body), [0; 4], [0; 4]].concat();
            stream.extend(header);
            stream.resize(stream.len() + usize::try_from(body).expect("small"), 0xff);
        }
        let begins = [0, 19, 35];
        for cut in 0..=stream.len() {
            let mut position = Position::new();
            let expected = begins.iter().rfind(|begin| **begin < cut).copied();
            assert_eq!(position.advance(&stream[..cut]), expected, "the first {cut} bytes");
            let expected = begins.iter().rfind(|begin| **begin >= cut).map(|begin| begin - cut);
            assert_eq!(position.advance(&stream[cut..]), expected, "what follows the first {cut} bytes");
            assert_eq!(position.passed, 0, "it ends between messages");
        }
    }

    #[test]
    fn a_oneway_call_is_known_once_its_flags_have_passed() {
        let mut body = [0xff; 40];
        for (command, flags, is_oneway) in [(TRANSACT, 0x21, true), (TRANSACT, 0x20, false), (1, 0x21, false)]
        {
            body[FLAGS..][..4].copy_from_slice(&u32::to_le_bytes(flags));
            let header = [u32::to_le_bytes(command), u32::to_le_bytes(40), [0; 4], [0; 4]].concat();
            for piece in [1, 3, 13, 56] {
                let mut position = Position::new();
                position.advance(&[0; HEADER]);
                for (at, bytes) in [header.as_slice(), &body].concat().chunks(piece).enumerate() {
                    position.advance(bytes);
                    let passed = (at + 1) * piece;
                    let is_known = passed >= HEADER + CALL_START || passed == HEADER + body.len();
                    let expected = is_oneway && (is_known || passed > HEADER + FLAGS);
                    assert_eq!(position.is_oneway_call(), expected, "{passed} bytes in pieces of {piece}");
                }
                position.advance(&[0]);
                assert!(!position.is_oneway_call(), "another message has begun");
            }
        }
    }

    #[test]
    fn a_client_that_reads_ahead_is_known_unless_its_wire_is_newer() {
        let mut header = [0; CONNECTION_HEADER];
        header[0] = 2;
        assert!(!reads_ahead(&header));
        for is_operator in [false, true] {
            mark_reading_ahead(&mut header, is_operator);
            assert!(reads_ahead(&header));
            assert_eq!(Opening::of(&header), Opening { founds_session: true, is_operator });
        }
        assert_eq!((header[4], header[5], header[14], header[15]), (0, 0, 0, 0), "no other field is touched");
        header[0] = 3;
        assert!(!reads_ahead(&header) && !Opening::of(&header).is_operator);
    }

    #[test]
    fn handshakes_are_as_long_as_their_header_says() {
        let mut header = [0; CONNECTION_HEADER];
        assert_eq!(handshake_length(&header), 24, "a new session");
        assert!(Opening::of(&header).founds_session);
        header[14] = 32;
        assert!(!Opening::of(&header).founds_session);
        assert_eq!(handshake_length(&header), 56, "one more connection for calls");
        header[4] = OPTION_INCOMING;
        assert_eq!(handshake_length(&header), 48, "one more that takes calls");
    }
}
