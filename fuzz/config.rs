// SPDX-License-Identifier: Apache-2.0
//! Fuzzes the parsers of device trees: the result of any bytes is heaps or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| anion::read_device_tree(bytes));
