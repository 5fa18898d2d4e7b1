// SPDX-License-Identifier: Apache-2.0
//! The readers of device trees: whatever the bytes, they end with heaps or a complaint.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| anion::read_device_tree(bytes));
