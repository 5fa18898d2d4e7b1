// SPDX-License-Identifier: Apache-2.0
//! The readers of device trees: whatever the bytes, they end with heaps or a complaint.

#![no_main]

use anion::config;
use anion::units::PageSize;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    for page in [4096, 16384].into_iter().flat_map(PageSize::new) {
        // An error is an answer as good as heaps are.
        let _ = config::parse(Path::new("fuzzed"), bytes, page);
    }
});
