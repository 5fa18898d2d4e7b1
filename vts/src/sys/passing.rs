// SPDX-License-Identifier: Apache-2.0
//! Passes descriptors over a Unix socket.

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Queues a copy of `fd` on `socket`. The sender may close its own copy before the receiver reads.
///
/// # Errors
/// The error of sendmsg.
pub(crate) fn send_descriptor(socket: &UnixStream, fd: impl AsFd) -> io::Result<()> {
    let fds = [fd.as_fd().as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"f")], &rights, MsgFlags::empty(), None)?;
    Ok(())
}

/// Receives one descriptor from `socket`, close-on-exec.
///
/// # Errors
/// The error of recvmsg; `InvalidData` if the message has no descriptor.
pub(crate) fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let received = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let fd = received.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no descriptor arrived"))?;
    // SAFETY: the kernel has just installed this descriptor for this message; the control message
    // contains its bare number, and no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
