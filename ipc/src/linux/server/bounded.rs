// SPDX-License-Identifier: Apache-2.0
//! One accepted connection: the library's Unix transport, a bound on what a peer can make it buffer, and a permit
//! that lives as long as the connection does.

use rsbinder::rpc::transport::UnixTransport;
use rsbinder::rpc::{PeerIdentity, RpcError, RpcResult, RpcTransport};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// Largest message body that a client can send, in bytes. libbinder refuses messages beyond the same size; Anion's
/// requests are a few KiB. The library's own bound is 64 MiB, which some hundred connections of one client would
/// turn into the machine's memory.
pub(super) const MAX_MESSAGE_BYTES: usize = 600 * 1024;

/// A connection that holds `P` until the library is done with it.
pub(super) struct BoundedTransport<P> {
    inner: UnixTransport,
    _permit: P,
}

impl<P> BoundedTransport<P> {
    pub(super) fn new(inner: UnixTransport, permit: P) -> Self {
        Self { inner, _permit: permit }
    }
}

/// The library reads a message's body with a buffer of the size that its header declares, so a long message is
/// recognised here before any of it is read.
fn check_length(bytes: usize) -> RpcResult<()> {
    if bytes > MAX_MESSAGE_BYTES {
        return Err(RpcError::FrameTooLarge { declared: bytes, max: MAX_MESSAGE_BYTES });
    }
    Ok(())
}

/// Every method that `UnixTransport` implements is forwarded. A default of the trait in its place would compile and
/// quietly lose descriptors, deadlines or the end of the connection.
impl<P: Send + Sync> RpcTransport for BoundedTransport<P> {
    fn send_frame(&self, buf: &[u8]) -> RpcResult<()> {
        self.inner.send_frame(buf)
    }

    fn recv_frame(&self) -> RpcResult<Vec<u8>> {
        self.inner.recv_frame()
    }

    fn peer_identity(&self) -> PeerIdentity {
        self.inner.peer_identity()
    }

    fn describe(&self) -> &str {
        self.inner.describe()
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> RpcResult<()> {
        self.inner.set_read_timeout(timeout)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> RpcResult<()> {
        self.inner.set_write_timeout(timeout)
    }

    fn set_liveness(&self, timeout: Option<Duration>) -> RpcResult<()> {
        self.inner.set_liveness(timeout)
    }

    fn peer_closed(&self) -> Option<bool> {
        self.inner.peer_closed()
    }

    fn shutdown_handle(&self) -> Option<Box<dyn FnOnce() + Send>> {
        self.inner.shutdown_handle()
    }

    fn shutdown(&self) -> RpcResult<()> {
        self.inner.shutdown()
    }

    fn supports_fd_passing(&self) -> bool {
        self.inner.supports_fd_passing()
    }

    fn send_frame_with_fds(&self, buf: &[u8], fds: &[BorrowedFd<'_>]) -> RpcResult<()> {
        self.inner.send_frame_with_fds(buf, fds)
    }

    fn recv_frame_with_fds(&self) -> RpcResult<(Vec<u8>, Vec<OwnedFd>)> {
        self.inner.recv_frame_with_fds()
    }

    fn send_raw(&self, buf: &[u8]) -> RpcResult<()> {
        self.inner.send_raw(buf)
    }

    fn recv_raw(&self, buf: &mut [u8]) -> RpcResult<usize> {
        check_length(buf.len())?;
        self.inner.recv_raw(buf)
    }

    fn send_raw_with_fds(&self, buf: &[u8], fds: &[BorrowedFd<'_>]) -> RpcResult<()> {
        self.inner.send_raw_with_fds(buf, fds)
    }

    fn recv_raw_with_fds(&self, buf: &mut [u8]) -> RpcResult<(usize, Vec<OwnedFd>)> {
        check_length(buf.len())?;
        self.inner.recv_raw_with_fds(buf)
    }

    fn send_raw_draining(
        &self,
        buf: &[u8],
        fds: &[BorrowedFd<'_>],
        drain: &mut dyn FnMut() -> RpcResult<()>,
    ) -> RpcResult<()> {
        self.inner.send_raw_draining(buf, fds, drain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn pair() -> (BoundedTransport<()>, UnixTransport) {
        let (ours, theirs) = UnixTransport::pair().expect("a pair");
        (BoundedTransport::new(ours, ()), theirs)
    }

    #[test]
    fn descriptors_pass() {
        let (ours, theirs) = pair();
        assert!(ours.supports_fd_passing());
        let file = std::fs::File::open("/dev/null").expect("opened");
        theirs.send_raw_with_fds(b"x", &[file.as_fd()]).expect("sent");
        assert_eq!(ours.recv_raw_with_fds(&mut [0]).expect("received").1.len(), 1);
        ours.send_raw_draining(b"x", &[file.as_fd()], &mut || Ok(())).expect("sent");
        assert_eq!(theirs.recv_raw_with_fds(&mut [0]).expect("received").1.len(), 1);
    }

    #[test]
    fn deadlines_and_ends_are_the_sockets() {
        let (ours, theirs) = pair();
        ours.set_read_timeout(Some(Duration::from_millis(10))).expect("set");
        assert!(matches!(ours.recv_raw(&mut [0]), Err(RpcError::Timeout)));
        assert_eq!(ours.peer_closed(), Some(false));
        ours.shutdown_handle().expect("it has one")();
        assert_eq!(theirs.recv_raw(&mut [0]).expect("the end"), 0);
        drop(theirs);
        assert_eq!(ours.peer_closed(), Some(true));
        assert!(ours.peer_identity().is_local());
    }

    #[test]
    fn a_message_beyond_the_limit_is_left_in_the_socket() {
        let (ours, theirs) = pair();
        theirs.send_raw(b"x").expect("sent");
        let mut buffer = vec![0; MAX_MESSAGE_BYTES + 1];
        assert!(matches!(ours.recv_raw_with_fds(&mut buffer), Err(RpcError::FrameTooLarge { .. })));
        assert!(matches!(ours.recv_raw(&mut buffer), Err(RpcError::FrameTooLarge { .. })));
        assert_eq!(ours.recv_raw(&mut buffer[1..]).expect("within"), 1);
    }
}
