// SPDX-License-Identifier: Apache-2.0
//! Fuzzes the parser of graphic handles: it refuses the numbers, or its result has the same ones.

#![no_main]

use anion_handle::{Handle, INTS};
use libfuzzer_sys::fuzz_target;

/// Returns the numbers of an input after the two constant numbers of a handle, so that the parser
/// checks all of them.
fn numbers(bytes: &[u8]) -> Vec<i32> {
    let (words, _) = bytes.as_chunks();
    let given = words.iter().map(|word| i32::from_le_bytes(*word));
    let mut numbers: Vec<i32> =
        [anion_handle::MAGIC, anion_handle::VERSION].into_iter().chain(given).collect();
    numbers.resize(INTS, 0);
    numbers
}

fuzz_target!(|bytes: &[u8]| {
    let numbers = numbers(bytes);
    if let Ok(handle) = Handle::parse(&numbers) {
        assert_eq!(handle.to_ints(), numbers);
        let planes = handle.layout().planes();
        assert!(planes.iter().all(|plane| plane.offset + plane.bytes <= handle.size()));
    }
});
