// SPDX-License-Identifier: Apache-2.0
//! Fuzzes the reader of the state that a service leaves to the next one: the result of any bytes is
//! an error or a state, which is the same after it was written and read again. Bytes are read as
//! they are and with a right checksum, without which the reader would refuse nearly all of them.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| anion::read_state(bytes));
