// SPDX-License-Identifier: Apache-2.0
//! RPC binder's protocol, for clients that violate it (AOSP's `RpcWireFormat.h`).

use crate::place::{PATIENCE, Place};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

/// The first bytes of a client, for a new session: version 1, descriptors over the socket.
pub(crate) const HANDSHAKE: [u8; 24] = *b"\x01\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0cci\0\0\0\0\0";
/// Bit of a call's flags: the reply may contain descriptors.
const FLAGS: u32 = 0x20;
/// Codes of [`IHeapAllocator`](vendor_anion_allocator), in the order of its methods.
pub(crate) const ALLOCATE: u32 = 2;

/// A session of one connection.
pub(crate) struct Wire {
    pub(crate) stream: UnixStream,
    /// Address of the service.
    root: [u8; 8],
}

impl Wire {
    pub(crate) fn new(place: &Place) -> io::Result<Self> {
        let mut stream = UnixStream::connect(place.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&HANDSHAKE)?;
        stream.read_exact(&mut [0; 8])?;
        let mut wire = Self { stream, root: [0; 8] };
        wire.send(&wire.call(0, &[]))?;
        // A status, then the parcel, whose object is a type and an address.
        let reply = wire.reply()?;
        wire.root.copy_from_slice(&reply[20 + 4..20 + 12]);
        Ok(wire)
    }

    /// Calls the service, and returns the reply.
    pub(crate) fn call(&self, code: u32, parcel: &[u8]) -> Vec<u8> {
        let length = u32::try_from(parcel.len()).expect("short");
        let words = [code, FLAGS, 0, 0, length, 0, 0, 0];
        let mut body = self.root.to_vec();
        body.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        body.extend(parcel);
        [header(u32::try_from(body.len()).expect("short")), body].concat()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Returns the body of the next reply; skips all other messages.
    pub(crate) fn reply(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let mut header = [0; 16];
            self.stream.read_exact(&mut header)?;
            let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            let mut body = vec![0; usize::try_from(length).expect("small")];
            self.stream.read_exact(&mut body)?;
            if header[0] == 1 {
                return Ok(body);
            }
        }
    }
}

/// Returns the header of a call whose body has `length` bytes.
pub(crate) fn header(length: u32) -> Vec<u8> {
    [[0; 4], length.to_le_bytes(), [0; 4], [0; 4]].concat()
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
