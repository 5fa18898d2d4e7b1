// SPDX-License-Identifier: Apache-2.0
//! Fuzzes calls of a client with any parcels: the service answers each or ends the session, and
//! afterwards holds nothing for the client.
//!
//! An input is a list of calls: a byte that selects the method, two bytes with the length of the
//! parcel, and the parcel. The last parcel may be shorter than its length states. Bits of the first
//! byte:
//!
//! - 0 to 4: the method's number, or the place of its code in [`COMMON`];
//! - 5: the call has a descriptor, whose place in the parcel is in the parcel's last four bytes;
//! - 6 and 7: the object, see [`Target`].

#![no_main]

#[path = "../../tests/daemon/message.rs"]
mod message;
mod service;

use libfuzzer_sys::fuzz_target;
use message::{Address, Wire};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use service::Socket;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

/// Codes of calls that every object answers: ping, dump, the interface's name, extension, process,
/// properties, shell command, version and hash of the interface.
const COMMON: [u32; 9] = [
    0x5f50_4e47,
    0x5f44_4d50,
    0x5f4e_5446,
    0x5f45_5854,
    0x5f50_4944,
    0x5f53_5052,
    0x5f43_4d44,
    0x00ff_fffe,
    0x00ff_fffd,
];
/// Bit of a call with a descriptor.
const HAS_DESCRIPTOR: u8 = 0x20;
/// Length of the place of a descriptor in a parcel.
const PLACE: usize = 4;

/// Length of what is before the parcel in a reply's body.
const REPLY_START: usize = 20;
/// What is before the address in a parcel with an object: no error, and the kind of the object.
const START_OF_OBJECT: [u8; 8] = [0, 0, 0, 0, 1, 0, 0, 0];

/// The descriptor of calls that have one.
static DESCRIPTOR: LazyLock<File> =
    LazyLock::new(|| File::options().write(true).open("/dev/null").expect("it is there"));

/// The object of a call.
enum Target {
    /// The service.
    Service,
    /// The object of the last reply that had one: a reservation.
    Object,
    /// The graphics allocator.
    Graphics,
    /// The service, by a code that every object answers.
    Common,
}

impl Target {
    fn of(selection: u8) -> Self {
        match selection >> 6 {
            0 => Self::Service,
            1 => Self::Object,
            2 => Self::Graphics,
            _ => Self::Common,
        }
    }
}

/// The connections and the last object of an input.
#[derive(Default)]
struct Client {
    heaps: Option<Wire>,
    graphics: Option<Wire>,
    object: Option<Address>,
}

impl Client {
    /// Makes one call, and keeps the object of its reply.
    ///
    /// # Errors
    /// If the service ends the connection.
    fn call(&mut self, selection: u8, parcel: &[u8]) -> io::Result<()> {
        let target = Target::of(selection);
        let number = selection & 0x1f;
        let code = match target {
            Target::Common => COMMON[usize::from(number) % COMMON.len()],
            _ => number.into(),
        };
        let (wire, socket) = match target {
            Target::Graphics => (&mut self.graphics, Socket::Graphics),
            _ => (&mut self.heaps, Socket::Heaps),
        };
        let wire = match wire {
            Some(wire) => wire,
            None => wire.insert(Wire::over(service::connect(socket))?),
        };
        let address = match target {
            Target::Object => self.object.unwrap_or(wire.root),
            _ => wire.root,
        };
        if selection & HAS_DESCRIPTOR != 0 {
            let (parcel, place) = parcel.split_at(parcel.len().saturating_sub(PLACE));
            let call = message::call(address, code, parcel, place);
            send_with_descriptor(&wire.stream, &call)?;
        } else {
            wire.send(&message::call(address, code, parcel, &[]))?;
        }
        let reply = wire.reply()?;
        self.object = object(&reply).or(self.object);
        Ok(())
    }
}

/// Sends a call with [`DESCRIPTOR`].
fn send_with_descriptor(mut stream: &UnixStream, call: &[u8]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [DESCRIPTOR.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "there is room for one");
    let sent = sendmsg(stream, &[IoSlice::new(call)], &mut control, SendFlags::NOSIGNAL)?;
    stream.write_all(&call[sent..])
}

/// Returns the object of a reply whose parcel has a status without an error, and then an object.
fn object(reply: &[u8]) -> Option<Address> {
    let (start, rest) = reply.get(REPLY_START..)?.split_first_chunk()?;
    (*start == START_OF_OBJECT).then(|| rest.first_chunk().copied()).flatten()
}

fuzz_target!(|bytes: &[u8]| {
    service::begin();
    let mut client = Client::default();
    let mut rest = bytes;
    while let [selection, low, high, parcels @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(parcels.len());
        let (parcel, others) = parcels.split_at(length);
        rest = others;
        match client.call(*selection, parcel) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!("the service did not answer a call in time")
            }
            // The service has ended the session, or may refuse a client while it has not yet
            // detected the end of many earlier ones.
            Err(_) => return,
        }
    }
});
