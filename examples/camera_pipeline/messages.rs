// SPDX-License-Identifier: Apache-2.0
//! The messages between the two processes.

use super::SLOTS;
use anyhow::{Context, Result, ensure};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The number of a frame and of its slot: five bytes instead of three million.
pub(super) struct Announcement {
    pub(super) frame: u32,
    pub(super) slot: u8,
}

impl Announcement {
    /// Sends it, with the slot's buffer if the consumer does not have it yet.
    pub(super) fn send(&self, socket: &UnixStream, new: Option<BorrowedFd<'_>>) -> Result<()> {
        let [a, b, c, d] = self.frame.to_le_bytes();
        send(socket, &[self.slot, a, b, c, d], new.as_slice()).context("the consumer has closed its socket")
    }

    /// Returns the next announcement with the slot's new buffer, if it has one; `None` when the
    /// producer has closed the socket.
    pub(super) fn receive(socket: &UnixStream) -> Result<Option<(Self, Option<OwnedFd>)>> {
        let mut message = [0; 5];
        let (bytes, descriptors) = receive(socket, &mut message)?;
        if bytes == 0 {
            return Ok(None);
        }
        ensure!(bytes == message.len(), "received {bytes} bytes, expected {}", message.len());
        let [slot, a, b, c, d] = message;
        let announcement = Self { frame: u32::from_le_bytes([a, b, c, d]), slot };
        Ok(Some((announcement, descriptors.into_iter().next())))
    }
}

/// Sends a message with descriptors: the kernel gives the receiver its own.
pub(super) fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SLOTS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let is_added = control.push(SendAncillaryMessage::ScmRights(descriptors));
        ensure!(is_added, "{} descriptors do not fit", descriptors.len());
    }
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    ensure!(sent == bytes.len(), "sent {sent} of {} bytes", bytes.len());
    Ok(())
}

/// Receives one message of [`send`] of the length of `bytes`. Returns the number of bytes, 0 if the
/// socket is closed.
pub(super) fn receive(socket: &UnixStream, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SLOTS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let received = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok((received.bytes, rights.flatten().collect()))
}
