// SPDX-License-Identifier: Apache-2.0
//! One connection: the library's Unix transport with fewer system calls, a bound on what a peer can
//! make the service buffer, and a permit with the same lifetime as the connection.
//!
//! The transport joins two sends of the library into one ([`outbox`]), and two reads into one
//! ([`inbox`]). A deadline that the library sets and clears around every reply reaches the socket
//! only before a read that would wait with another deadline. Reads end at that deadline: the
//! library's own transport checks before each read whether the peer still receives, and waits
//! longer; this one does not.

mod frames;
mod inbox;
mod outbox;
mod refusal;

pub use frames::Opening;
pub(super) use frames::{NO_DESCRIPTORS_HERE, NO_DESCRIPTORS_THERE};
pub use refusal::Refused;
pub(super) use refusal::{Heard, send_refusal};

use super::permit::{Held, Permit};
use super::sys::Socket;
use inbox::{Inbox, Taken};
use outbox::Outbox;
use rsbinder::rpc::{PeerIdentity, RpcError, RpcResult, RpcTransport};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Largest message body that a client can send, in bytes. libbinder has the same limit; Anion's
/// requests have a few KiB. The library's own limit is 64 MiB: one client with some hundred
/// connections could then use up the machine's memory.
const MAX_MESSAGE_BYTES: usize = 600 * 1024;

/// Longest message that is copied after a delayed one, in bytes. Copying a longer one costs more
/// than a send.
const MAX_JOINED_BYTES: usize = 16 * 1024;

/// The text for a client whose connection no thread can serve.
const NO_THREAD: &str = "the service can start no thread for it (RLIMIT_NPROC of its user, TasksMax= of its unit, \
                         pids.max of its cgroup); connections that end make room";

/// A connection that holds `P` until the library drops it.
pub(super) struct Transport<P: Permit> {
    socket: Socket,
    inbox: Mutex<Inbox>,
    outbox: Mutex<Outbox>,
    deadline: Mutex<ReadDeadline>,
    /// A copy of the inbox's value, since a waiting read has locked the inbox.
    peer_reads_ahead: AtomicBool,
    /// Resources of the last call of the permit.
    held: Mutex<Held>,
    permit: P,
    /// Whether this process accepted the connection and no thread of the library has begun to serve
    /// it.
    is_unserved: AtomicBool,
    /// Store for a refusal of the connection that this process opened.
    heard: Option<Heard>,
}

/// The read deadline that the library has set, and the one that the socket has.
#[derive(Default)]
struct ReadDeadline {
    wanted: Option<Duration>,
    set: Option<Duration>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves no half-done change, so a poisoned lock is used.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport<()> {
    /// Wraps a connection that this process opened, an operator's or an ordinary one. Stores the
    /// text of a refusal in `heard`.
    ///
    /// # Errors
    /// If the socket is already dead.
    pub(super) fn connecting(stream: UnixStream, is_operator: bool, heard: Heard) -> RpcResult<Self> {
        let mut transport = Self::new(stream, Inbox::connecting(), Outbox::connecting(is_operator), ())?;
        transport.heard = Some(heard);
        Ok(transport)
    }
}

impl<P: Permit> Transport<P> {
    /// Wraps an accepted connection. Ends it if `permit` refuses.
    ///
    /// # Errors
    /// If the socket is already dead.
    pub(super) fn accepting(stream: UnixStream, permit: P) -> RpcResult<Self> {
        let inbox = Inbox::accepting(MAX_MESSAGE_BYTES);
        let mut transport = Self::new(stream, inbox, Outbox::default(), permit)?;
        transport.is_unserved = AtomicBool::new(true);
        Ok(transport)
    }

    fn new(stream: UnixStream, inbox: Inbox, outbox: Outbox, permit: P) -> RpcResult<Self> {
        // `ReadDeadline` starts without a deadline, also if the socket had one.
        stream.set_read_timeout(None)?;
        let (socket, inbox, outbox) = (Socket::new(stream)?, Mutex::new(inbox), Mutex::new(outbox));
        Ok(Self {
            socket,
            inbox,
            outbox,
            deadline: Mutex::default(),
            peer_reads_ahead: AtomicBool::new(false),
            held: Mutex::default(),
            permit,
            is_unserved: AtomicBool::new(false),
            heard: None,
        })
    }

    fn receive(&self, read: impl FnOnce(&mut Inbox, BorrowedFd<'_>) -> RpcResult<Taken>) -> RpcResult<Taken> {
        self.is_unserved.store(false, Ordering::Relaxed);
        let received = self.receive_within_limits(read);
        if let Err(error @ (RpcError::Protocol(_) | RpcError::FrameTooLarge { .. })) = &received {
            self.permit.refused(error);
        }
        received
    }

    fn receive_within_limits(
        &self,
        read: impl FnOnce(&mut Inbox, BorrowedFd<'_>) -> RpcResult<Taken>,
    ) -> RpcResult<Taken> {
        let mut inbox = lock(&self.inbox);
        inbox.asked();
        self.hold(inbox.held())?;
        if inbox.is_empty() {
            self.send_held()?;
            self.set_deadline(inbox.patience()?)?;
        }
        let taken = read(&mut inbox, self.socket.as_fd())?;
        self.hold(inbox.held())?;
        self.peer_reads_ahead.store(inbox.peer_reads_ahead(), Ordering::Relaxed);
        self.permit.active();
        if let Some(opening) = taken.opening {
            self.permit.opens(opening).map_err(|why| {
                send_refusal(&self.socket, &why.0);
                RpcError::Io(io::Error::other("the client may not have this connection"))
            })?;
        }
        if let Some(target) = taken.target {
            let mut outbox = lock(&self.outbox);
            outbox.call_came(target);
            if taken.lacks_fds {
                outbox.call_lacks_descriptors();
            }
        }
        Ok(taken)
    }

    /// Reads a part of the handshake, or of a message without descriptors.
    fn read_plain(&self, buf: &mut [u8]) -> RpcResult<usize> {
        let taken = self.receive(|inbox, socket| inbox.read_plain(socket, buf))?;
        if let Some(length) = taken.refused {
            self.hear(&buf[refusal::HEADER..taken.bytes], length);
            return Err(RpcError::Protocol("the service refuses the connection"));
        }
        Ok(taken.bytes)
    }

    /// Stores the service's refusal: `begun` and the rest of the `length` bytes of text, which it
    /// reads.
    fn hear(&self, begun: &[u8], length: usize) {
        let mut text = begun.to_vec();
        let mut piece = [0; 256];
        while text.len() < length {
            match self.socket.transport().recv_raw(&mut piece) {
                Ok(count) if count > 0 => text.extend_from_slice(&piece[..count]),
                _ => break,
            }
        }
        text.truncate(length);
        if let Some(heard) = &self.heard {
            // The first text is the reason; later ones follow from it.
            let _ = heard.set(String::from_utf8_lossy(&text).into_owned());
        }
    }

    /// Reads a refusal after a failed send: the service may have refused and closed the connection
    /// before it.
    fn hear_after_failure(&self) {
        if self.heard.is_some() && lock(&self.inbox).awaits_answer() {
            // The refusal has already arrived, or the connection has ended.
            let _ = self.read_plain(&mut [0; refusal::HEADER]);
        }
    }

    /// Asks the permit whether the service may hold `held` for this connection.
    fn hold(&self, held: Held) -> RpcResult<()> {
        let mut last = lock(&self.held);
        if *last == held {
            return Ok(());
        }
        *last = held;
        if self.permit.admits(held) {
            return Ok(());
        }
        Err(RpcError::Protocol("more of unfinished messages than a client may have the service hold"))
    }

    /// Sends the delayed message if no reply came to send it with.
    fn send_held(&self) -> RpcResult<()> {
        let held = lock(&self.outbox).take();
        if held.is_empty() {
            return Ok(());
        }
        // The library treats `Timeout` as a read that lost nothing.
        let lost = |error: RpcError| RpcError::Io(io::Error::other(error.to_string()));
        self.socket.transport().send_raw(&held).map_err(lost)
    }

    /// Sets the socket's deadline for the next read: the library's, or `patience` if that is
    /// sooner.
    fn set_deadline(&self, patience: Option<Duration>) -> RpcResult<()> {
        let mut deadline = lock(&self.deadline);
        let wanted = deadline.wanted.into_iter().chain(patience).min();
        if deadline.set != wanted {
            set_socket_timeout(&self.socket, Timeout::Recv, wanted).map_err(io::Error::from)?;
            deadline.set = wanted;
        }
        Ok(())
    }
}

impl<P: Permit> Drop for Transport<P> {
    fn drop(&mut self) {
        // Only if no thread could be started to serve it.
        if *self.is_unserved.get_mut() {
            send_refusal(&self.socket, NO_THREAD);
            if let Ok(socket) = self.socket.as_fd().try_clone_to_owned() {
                self.permit.unserved(socket);
            }
        }
        self.permit.closing();
    }
}

/// Every method that `UnixTransport` implements is forwarded or replaced. A default method of the
/// trait would compile, and lose descriptors, deadlines or the end of the connection without an
/// error.
impl<P: Permit> RpcTransport for Transport<P> {
    fn send_frame(&self, buf: &[u8]) -> RpcResult<()> {
        self.socket.transport().send_frame(buf)
    }

    fn recv_frame(&self) -> RpcResult<Vec<u8>> {
        self.socket.transport().recv_frame()
    }

    fn peer_identity(&self) -> PeerIdentity {
        self.socket.transport().peer_identity()
    }

    fn describe(&self) -> &str {
        self.socket.transport().describe()
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> RpcResult<()> {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a read deadline of 0 s").into());
        }
        lock(&self.deadline).wanted = timeout;
        Ok(())
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> RpcResult<()> {
        self.socket.transport().set_write_timeout(timeout)
    }

    fn set_liveness(&self, timeout: Option<Duration>) -> RpcResult<()> {
        self.socket.transport().set_liveness(timeout)
    }

    fn peer_closed(&self) -> Option<bool> {
        self.socket.transport().peer_closed()
    }

    fn shutdown_handle(&self) -> Option<Box<dyn FnOnce() + Send>> {
        self.socket.transport().shutdown_handle()
    }

    fn shutdown(&self) -> RpcResult<()> {
        self.socket.transport().shutdown()
    }

    fn supports_fd_passing(&self) -> bool {
        self.socket.transport().supports_fd_passing()
    }

    fn send_frame_with_fds(&self, buf: &[u8], fds: &[BorrowedFd<'_>]) -> RpcResult<()> {
        self.socket.transport().send_frame_with_fds(buf, fds)
    }

    fn recv_frame_with_fds(&self) -> RpcResult<(Vec<u8>, Vec<OwnedFd>)> {
        self.socket.transport().recv_frame_with_fds()
    }

    fn send_raw(&self, buf: &[u8]) -> RpcResult<()> {
        self.send_raw_with_fds(buf, &[]).inspect_err(|_| self.hear_after_failure())
    }

    fn recv_raw(&self, buf: &mut [u8]) -> RpcResult<usize> {
        self.read_plain(buf)
    }

    fn send_raw_with_fds(&self, buf: &[u8], fds: &[BorrowedFd<'_>]) -> RpcResult<()> {
        let mut outbox = lock(&self.outbox);
        if fds.is_empty() && outbox.hold(buf) {
            return Ok(());
        }
        let replaced = outbox.replace(buf);
        let buf = replaced.as_deref().unwrap_or(buf);
        let held = outbox.take();
        // A send can wait for the peer; a read must not wait for it.
        drop(outbox);
        let transport = self.socket.transport();
        if held.is_empty() {
            return transport.send_raw_with_fds(buf, fds);
        }
        // Descriptors are attached to the first byte of a send. Clients that do not read ahead,
        // libbinder's and the library's, would get them with the delayed message, and close them.
        let can_join = fds.is_empty() || self.peer_reads_ahead.load(Ordering::Relaxed);
        if !can_join || buf.len() > MAX_JOINED_BYTES {
            transport.send_raw(&held)?;
            return transport.send_raw_with_fds(buf, fds);
        }
        let sent = transport.send_raw_with_fds(&[&held, buf].concat(), fds);
        if let Err(RpcError::Protocol(_) | RpcError::FrameTooLarge { .. }) = sent {
            // It was refused before any byte was sent, and the session continues.
            lock(&self.outbox).put_back(held);
        }
        sent
    }

    fn recv_raw_with_fds(&self, buf: &mut [u8]) -> RpcResult<(usize, Vec<OwnedFd>)> {
        self.receive(|inbox, socket| inbox.read(socket, buf)).map(|taken| (taken.bytes, taken.fds))
    }

    fn send_raw_draining(
        &self,
        buf: &[u8],
        fds: &[BorrowedFd<'_>],
        drain: &mut dyn FnMut() -> RpcResult<()>,
    ) -> RpcResult<()> {
        self.send_held()?;
        self.socket.transport().send_raw_draining(buf, fds, drain)
    }
}

#[cfg(test)]
mod tests;
