// SPDX-License-Identifier: Apache-2.0
//! Bytes and descriptors that arrived over a connection and that the library has not read yet.
//!
//! One `recvmsg` reads a message with header and body, and the messages before it. The sender
//! attaches descriptors to the first byte of a send. That byte begins their message, or a
//! `DEC_STRONG` that this crate sent with it, which never has descriptors itself. The kernel ends a
//! read after a piece with descriptors, and joins it with earlier pieces without any. So the
//! descriptors of a read belong to the last message that begins in it, or to the next message that
//! can have some; if no message begins in it, to the present one.

use super::frames::{self, Address, CONNECTION_HEADER, Opening, Position};
use super::refusal;
use crate::linux::permit::Held;
use rsbinder::rpc::{RpcError, RpcResult};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes that one read can take beyond the requested ones. Calls and replies of the interface have
/// a few hundred.
const READ_AHEAD: usize = 4096;
/// Most descriptors of one message; the library has the same limit.
const MAX_FDS: usize = 64;
/// Time that a client may take for the rest of a message. Checked when bytes arrive; otherwise it
/// is the socket's deadline, so a message takes at most twice as long.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(10);

/// Purpose of reads.
enum Phase {
    /// The handshake of a connection that this process opened, and whether no byte has arrived yet.
    /// The library reports the end of the handshake.
    Connecting {
        is_first: bool,
    },
    /// The handshake of an accepted connection: its bytes up to the end of the connection header,
    /// and the total number of bytes.
    Accepting([u8; CONNECTION_HEADER], usize),
    Messages,
}

/// Result of one read.
pub(super) struct Taken {
    /// Bytes in the buffer; 0 at the end of the stream.
    pub(super) bytes: usize,
    pub(super) fds: Vec<OwnedFd>,
    /// Target of the call, if these bytes begin the body of a call that waits for a reply.
    pub(super) target: Option<Address>,
    /// Whether these bytes begin the body of a message that lost descriptors: this process had no
    /// number left for them.
    pub(super) lacks_fds: bool,
    /// Purpose of the connection, if these bytes end its header.
    pub(super) opening: Option<Opening>,
    /// Length of the text after these bytes, if they begin a refusal of the connection.
    pub(super) refused: Option<usize>,
}

/// The receiving side of one connection.
pub(super) struct Inbox {
    phase: Phase,
    /// Largest body of a message, in bytes.
    limit: usize,
    takes_oneway_calls: bool,
    /// Position of the reader, not of the socket.
    position: Position,
    buffer: Box<[u8; READ_AHEAD]>,
    /// Unread bytes in the buffer.
    start: usize,
    end: usize,
    /// Descriptors that came with the unread bytes, and the offset in the buffer of their message,
    /// or of its present part.
    fds: Vec<OwnedFd>,
    fds_at: usize,
    /// Descriptors of an earlier read of the socket whose message has not begun yet.
    earlier_fds: Vec<OwnedFd>,
    /// Number of descriptors that the library got with the present or last message.
    given_fds: usize,
    /// Time at which the present message began.
    began: Option<Instant>,
    /// Whether this or an earlier read of the socket lost descriptors whose message the reader has
    /// not reached.
    lacks_fds: bool,
    /// Whether the message that the reader is in lost descriptors.
    is_lacking: bool,
    peer_reads_ahead: bool,
}

impl Inbox {
    fn new(phase: Phase, limit: usize, takes_oneway_calls: bool) -> Self {
        let buffer = Box::new([0; READ_AHEAD]);
        Self {
            phase,
            limit,
            takes_oneway_calls,
            position: Position::new(),
            buffer,
            start: 0,
            end: 0,
            fds: Vec::new(),
            fds_at: 0,
            earlier_fds: Vec::new(),
            given_fds: 0,
            began: None,
            lacks_fds: false,
            is_lacking: false,
            peer_reads_ahead: false,
        }
    }

    /// Returns the inbox of a connection that this process opened. The library limits the size of
    /// its messages.
    pub(super) fn connecting() -> Self {
        Self::new(Phase::Connecting { is_first: true }, usize::MAX, true)
    }

    /// Returns the inbox of an accepted connection; `limit` is the largest message body in bytes.
    /// It refuses oneway calls: no object of the service has a oneway method, and the library would
    /// queue those that come out of order, with their bytes and descriptors and without a limit.
    pub(super) fn accepting(limit: usize) -> Self {
        Self::new(Phase::Accepting([0; CONNECTION_HEADER], 0), limit, false)
    }

    /// Returns whether the peer has marked itself in its handshake as a client that reads ahead.
    pub(super) fn peer_reads_ahead(&self) -> bool {
        self.peer_reads_ahead
    }

    /// Returns whether no byte has arrived yet over a connection that this process opened.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self.phase, Phase::Connecting { is_first: true })
    }

    /// Returns whether the next read goes to the socket and so can block.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Records that the reader requests more bytes. Between messages this means that it has
    /// finished the last one.
    pub(super) fn asked(&mut self) {
        if !self.position.is_within() {
            self.position = Position::new();
            self.given_fds = 0;
        }
    }

    /// Returns the bytes and descriptors that the service holds for the present message, or for the
    /// last one while it is answered, including early descriptors. Counts only the part of a body
    /// beyond the room of every connection.
    pub(super) fn held(&self) -> Held {
        let descriptors = self.given_fds + self.fds.len() + self.earlier_fds.len();
        Held { bytes: self.position.body_passed().saturating_sub(READ_AHEAD), descriptors }
    }

    /// Returns the time limit of the next read of the socket, if a message has begun.
    ///
    /// # Errors
    /// `Protocol` if the message takes too long.
    pub(super) fn patience(&self) -> RpcResult<Option<Duration>> {
        match self.began {
            Some(began) if began.elapsed() > MESSAGE_PATIENCE => {
                Err(RpcError::Protocol("a message that was not complete after 10 s"))
            }
            Some(_) => Ok(Some(MESSAGE_PATIENCE)),
            None => Ok(None),
        }
    }

    /// Reads a part of the handshake, or of a message in a session without descriptors.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_plain(&mut self, socket: BorrowedFd<'_>, out: &mut [u8]) -> RpcResult<Taken> {
        match &mut self.phase {
            Phase::Connecting { is_first } => {
                let count = receive(socket, out, &mut Vec::new())?.bytes;
                let is_first = std::mem::take(is_first);
                let refused = if is_first { refusal::text_length(&out[..count]) } else { None };
                Ok(Taken { refused, ..Taken::plain(count) })
            }
            Phase::Accepting(header, passed) => {
                let length = if *passed < CONNECTION_HEADER {
                    CONNECTION_HEADER
                } else {
                    frames::handshake_length(header)
                };
                let wanted = out.len().min(length - *passed);
                let count = receive(socket, &mut out[..wanted], &mut Vec::new())?.bytes;
                let of_header = count.min(CONNECTION_HEADER.saturating_sub(*passed));
                header[CONNECTION_HEADER.min(*passed)..][..of_header].copy_from_slice(&out[..of_header]);
                *passed += count;
                let ends_header = of_header > 0 && *passed == CONNECTION_HEADER;
                let opening = ends_header.then(|| Opening::of(header));
                if *passed >= CONNECTION_HEADER && *passed == frames::handshake_length(header) {
                    self.peer_reads_ahead = frames::reads_ahead(header);
                    self.phase = Phase::Messages;
                }
                Ok(Taken { opening, ..Taken::plain(count) })
            }
            Phase::Messages => self.read(socket, out),
        }
    }

    /// Reads a part of a message. `out` must not be longer than the rest of its header, or of its
    /// body.
    ///
    /// # Errors
    /// `FrameTooLarge` at the end of a header whose body exceeds the limit; `Protocol` for too many
    /// descriptors or a refused oneway call; `Timeout` at the socket's deadline; others as the
    /// system reports.
    pub(super) fn read(&mut self, socket: BorrowedFd<'_>, out: &mut [u8]) -> RpcResult<Taken> {
        self.phase = Phase::Messages;
        let mut fds = Vec::new();
        let begins_body = self.position.body_ahead().is_some();
        let bytes = if self.is_empty() && out.len() >= READ_AHEAD {
            // A long body is read directly into `out`, without reading ahead.
            let received = receive(socket, out, &mut fds)?;
            self.is_lacking |= received.lacks_fds;
            received.bytes
        } else {
            if self.is_empty() {
                self.fill(socket)?;
            }
            let count = out.len().min(self.end - self.start);
            out[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            count
        };
        let target = self.position.target(&out[..bytes]);
        self.position.advance(&out[..bytes]);
        self.began = match self.began {
            _ if !self.position.is_within() || self.limit == usize::MAX => None,
            None => Some(Instant::now()),
            began => began,
        };
        if self.position.can_have_descriptors() {
            fds.append(&mut self.earlier_fds);
            if self.fds_at < self.start {
                fds.append(&mut self.fds);
                self.is_lacking |= std::mem::take(&mut self.lacks_fds);
            }
        }
        self.given_fds += fds.len();
        let mut lacks_fds = false;
        if begins_body && std::mem::take(&mut self.is_lacking) {
            lacks_fds = true;
            self.position.fail_reply(&mut out[..bytes]);
        }
        if !self.takes_oneway_calls && self.position.is_oneway_call() {
            return Err(RpcError::Protocol("a oneway call, and no object of the service takes one"));
        }
        match self.position.body_ahead() {
            Some(declared) if declared > self.limit => {
                Err(RpcError::FrameTooLarge { declared, max: self.limit })
            }
            _ => Ok(Taken { fds, target, lacks_fds, ..Taken::plain(bytes) }),
        }
    }

    /// Fills the empty buffer from the socket: at least one byte, unless the stream has ended.
    fn fill(&mut self, socket: BorrowedFd<'_>) -> RpcResult<()> {
        self.earlier_fds.append(&mut self.fds);
        if self.earlier_fds.len() > MAX_FDS {
            return Err(RpcError::Protocol("descriptors without a message"));
        }
        let received = receive(socket, &mut self.buffer[..], &mut self.fds)?;
        (self.start, self.end) = (0, received.bytes);
        self.lacks_fds |= received.lacks_fds;
        // If no message begins, they belong to the present one.
        self.fds_at = self.position.clone().advance(&self.buffer[..received.bytes]).unwrap_or(0);
        Ok(())
    }
}

impl Taken {
    fn plain(bytes: usize) -> Self {
        Self { bytes, fds: Vec::new(), target: None, lacks_fds: false, opening: None, refused: None }
    }
}

/// Result of one recvmsg(2).
#[derive(Debug)]
struct Received {
    bytes: usize,
    /// Whether descriptors were lost; the kernel has closed them.
    lacks_fds: bool,
}

/// Receives once, and appends the received descriptors to `fds`.
fn receive(socket: BorrowedFd<'_>, out: &mut [u8], fds: &mut Vec<OwnedFd>) -> RpcResult<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(out)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Err(RpcError::Timeout),
            Err(error) => return Err(io::Error::from(error).into()),
        }
    };
    let before = fds.len();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    // There was room for the most descriptors of a message, so missing ones mean that no numbers
    // were left.
    let is_cut = received.flags.contains(ReturnFlags::CTRUNC);
    let lacks_fds = is_cut && fds.len() - before < MAX_FDS;
    // Their space is rounded up.
    if (is_cut && !lacks_fds) || fds.len() > MAX_FDS {
        return Err(RpcError::Protocol("more descriptors than a message can have"));
    }
    Ok(Received { bytes: received.bytes, lacks_fds })
}

#[cfg(test)]
mod tests;
