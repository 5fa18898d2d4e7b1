// SPDX-License-Identifier: Apache-2.0
//! The reader of lists of system calls: whatever the bytes, they end with a policy or a complaint.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| anion::read_system_calls(bytes));
