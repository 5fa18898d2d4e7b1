// SPDX-License-Identifier: Apache-2.0
//! A client that makes calls with any parcels: each is answered, or the session ends, and the
//! service keeps nothing of it.
//!
//! An input is a list of calls: the method's code, two bytes with the length of the parcel, and the
//! parcel; what is missing at the end is left away.

#![no_main]

#[path = "../../tests/daemon/message.rs"]
mod message;
mod service;

use libfuzzer_sys::fuzz_target;
use message::Wire;
use std::io;

fuzz_target!(|bytes: &[u8]| {
    // The service may refuse a client while many of those before are not gone yet.
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
                panic!("a call is not answered in time")
            }
            Err(_) => return,
        }
    }
});
