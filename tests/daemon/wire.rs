// SPDX-License-Identifier: Apache-2.0
//! Clients that speak RPC binder's wire themselves, and keep to no rules.

use super::message::Wire;
use super::place::{PATIENCE, Place};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Codes of [`IHeapAllocator`](vendor_anion_allocator), in the order of its methods.
pub(crate) const ALLOCATE: u32 = 2;

/// Returns a session of one connection with the service of `place`.
pub(crate) fn session(place: &Place) -> io::Result<Wire> {
    let stream = UnixStream::connect(place.socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Wire::over(stream)
}

/// Sends bytes with `count` copies of a descriptor.
pub(crate) fn send_descriptors(
    stream: &UnixStream,
    bytes: &[u8],
    fd: BorrowedFd<'_>,
    count: usize,
) -> nix::Result<usize> {
    let rights: Vec<RawFd> = vec![fd.as_raw_fd(); count];
    let control = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], &control, MsgFlags::MSG_NOSIGNAL, None)
}
