// SPDX-License-Identifier: Apache-2.0
//! Fuzzes the service with any bytes over its socket: the service answers or ends the session, and
//! afterwards holds nothing for the client.

#![no_main]

mod service;

use libfuzzer_sys::fuzz_target;
use service::Socket;
use std::io::{Read, Write};
use std::net::Shutdown;

fuzz_target!(|bytes: &[u8]| {
    service::begin();
    let mut stream = service::connect(Socket::Heaps);
    // The service may have ended the session before it has read everything.
    if stream.write_all(bytes).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        let end = stream.read_to_end(&mut Vec::new());
        assert!(
            !end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            "the service did not end the session in time"
        );
    }
});
