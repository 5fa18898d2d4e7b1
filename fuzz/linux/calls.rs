// SPDX-License-Identifier: Apache-2.0
//! Fuzzes calls of a client with any parcels: the service answers each or ends the session, and
//! afterwards holds nothing for the client.
//!
//! An input is a list of calls: the method's code, two bytes with the length of the parcel, and the
//! parcel. The last parcel may be shorter than its length states.

#![no_main]

#[path = "../../tests/daemon/message.rs"]
mod message;
mod service;

use libfuzzer_sys::fuzz_target;
use message::Wire;
use std::io;

fuzz_target!(|bytes: &[u8]| {
    // The service may refuse a client while it has not yet detected the end of many earlier ones.
    let Ok(mut wire) = Wire::over(service::connect()) else { return };
    let mut rest = bytes;
    while let [code, low, high, parcels @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(parcels.len());
        let (parcel, others) = parcels.split_at(length);
        rest = others;
        let call = wire.call(u32::from(*code), parcel);
        match wire.send(&call).and_then(|()| wire.reply()) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                panic!("the service did not answer a call in time")
            }
            Err(_) => return,
        }
    }
});
