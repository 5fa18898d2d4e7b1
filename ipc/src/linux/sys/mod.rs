// SPDX-License-Identifier: Apache-2.0
//! The only folder of this crate with `unsafe` code: access to the socket that the library's
//! transport owns.

#![allow(unsafe_code, reason = "the one folder of this crate that may; every block argues for itself")]

use rsbinder::rpc::RpcResult;
use rsbinder::rpc::transport::UnixTransport;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

/// A connected socket in the library's transport, which gives no access to it. A duplicate would
/// need a second descriptor for every connection.
pub(super) struct Socket {
    transport: UnixTransport,
    fd: RawFd,
}

impl Socket {
    /// Passes `stream` to the library's transport.
    ///
    /// # Errors
    /// As `UnixTransport::from_stream`; on Linux never.
    pub(super) fn new(stream: UnixStream) -> RpcResult<Self> {
        let fd = stream.as_raw_fd();
        Ok(Self { transport: UnixTransport::from_stream(stream)?, fd })
    }

    /// Returns the library's transport over this socket.
    pub(super) fn transport(&self) -> &UnixTransport {
        &self.transport
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `fd` is the descriptor of the stream from which `transport` was made. The
        // transport keeps that stream and closes it when it is dropped, with `self`. No code takes
        // it out or replaces it: the field is private, and only shared references to it are
        // returned. So `fd` stays open and stays this socket for as long as the borrow of `self`
        // lasts.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsbinder::rpc::RpcTransport;
    use std::io::Write;

    #[test]
    fn the_descriptor_is_the_transports_socket() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let socket = Socket::new(ours).expect("connected");
        theirs.write_all(b"xy").expect("sent");
        let mut byte = [0];
        assert_eq!(rustix::net::recv(&socket, &mut byte, rustix::net::RecvFlags::empty()), Ok((1, 1)));
        assert_eq!((socket.transport().recv_raw(&mut byte).expect("received"), byte), (1, [b'y']));
    }
}
