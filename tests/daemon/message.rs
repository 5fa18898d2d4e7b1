// SPDX-License-Identifier: Apache-2.0
//! RPC binder's wire, as far as clients that keep to no rules need it (AOSP's `RpcWireFormat.h`).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

/// What clients send first, for a new session: version 1, descriptors over the socket.
pub(crate) const HANDSHAKE: [u8; 24] = *b"\x01\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0cci\0\0\0\0\0";
/// Bit of a call's flags: it has descriptors in its reply.
const FLAGS: u32 = 0x20;

/// Address of an object in a session.
pub(crate) type Address = [u8; 8];

/// A session of one connection.
pub(crate) struct Wire {
    pub(crate) stream: UnixStream,
    /// Address of the service.
    pub(crate) root: Address,
}

impl Wire {
    /// Begins a session over a new connection.
    ///
    /// # Errors
    /// If the service ends it, or does not answer.
    pub(crate) fn over(mut stream: UnixStream) -> io::Result<Self> {
        stream.write_all(&HANDSHAKE)?;
        stream.read_exact(&mut [0; 8])?;
        let mut wire = Self { stream, root: [0; 8] };
        wire.send(&wire.call(0, &[]))?;
        // A status, then the parcel: its object is a type and an address.
        let reply = wire.reply()?;
        wire.root.copy_from_slice(reply.get(20 + 4..20 + 12).ok_or(io::ErrorKind::InvalidData)?);
        Ok(wire)
    }

    /// Returns a call of the service.
    pub(crate) fn call(&self, code: u32, parcel: &[u8]) -> Vec<u8> {
        call(self.root, code, parcel, &[])
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Returns the body of the next reply. Skips the messages that only count references.
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

/// Returns a call of the object at `address`. `places` has the places of objects and descriptors in
/// the parcel, four bytes for each.
pub(crate) fn call(address: Address, code: u32, parcel: &[u8], places: &[u8]) -> Vec<u8> {
    let length = u32::try_from(parcel.len()).expect("short");
    let words = [code, FLAGS, 0, 0, length, 0, 0, 0];
    let mut body = address.to_vec();
    body.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    body.extend(parcel);
    body.extend(places);
    [header(u32::try_from(body.len()).expect("short")), body].concat()
}

/// Returns the header of a call whose body has `length` bytes.
pub(crate) fn header(length: u32) -> Vec<u8> {
    [[0; 4], length.to_le_bytes(), [0; 4], [0; 4]].concat()
}
