// SPDX-License-Identifier: Apache-2.0
//! Fuzzes the parser of lists of system calls: the result of any bytes is a policy or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| anion::read_system_calls(bytes));
