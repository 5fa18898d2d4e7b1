// SPDX-License-Identifier: Apache-2.0
//! Opens connections that violate the protocol.

use crate::message::{HANDSHAKE, header};
use fastrand::Rng;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Opens a connection and leaves it in a random state; `None` if the service refuses it or does not
/// run.
pub(crate) fn connection(socket: &Path, rng: &mut Rng) -> Option<UnixStream> {
    let stream = UnixStream::connect(socket).ok()?;
    // Each of these fails if the service has closed the connection.
    let _ = match rng.u8(0..5) {
        0 => Ok(()),
        1 => (&stream).write_all(&(0..rng.usize(1..200)).map(|_| rng.u8(..)).collect::<Vec<_>>()),
        2 => (&stream).write_all(&HANDSHAKE),
        3 => (&stream).write_all(&[&HANDSHAKE[..], &header(rng.u32(1..1 << 20)), &[1; 99]].concat()),
        _ => send_descriptors(&stream),
    };
    Some(stream)
}

/// Sends descriptors with a message without its end.
fn send_descriptors(mut stream: &UnixStream) -> io::Result<()> {
    stream.write_all(&HANDSHAKE)?;
    let copies = [stream.as_raw_fd(); 16];
    let control = [ControlMessage::ScmRights(&copies)];
    let bytes = header(100);
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&bytes)], &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}
