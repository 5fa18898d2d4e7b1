// SPDX-License-Identifier: Apache-2.0
//! A client that sends any bytes to a service over its socket: the service answers or ends the
//! session, and keeps nothing of it.

#![no_main]

mod service;

use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use std::net::Shutdown;

fuzz_target!(|bytes: &[u8]| {
    let mut stream = service::connect();
    // The service may have ended the session before it has read everything.
    if stream.write_all(bytes).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        let end = stream.read_to_end(&mut Vec::new());
        assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "no end in time");
    }
});
