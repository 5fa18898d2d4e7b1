// SPDX-License-Identifier: Apache-2.0
//! Tests functions that must work in a process without a free descriptor. There is only one test,
//! because all tests of a process share its descriptors.

use anion::testing::ReferenceCounts;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::io::ErrorKind;

#[test]
fn reference_counts_are_asked_without_a_free_descriptor() {
    let counts = ReferenceCounts::open().expect("/proc");
    let asked = File::open("/proc/self/status").expect("opened");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("told");
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).expect("lowered");
    let mut taken = Vec::new();
    let error = loop {
        match File::open("/proc/self/fdinfo") {
            Ok(file) => taken.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(nix::libc::EMFILE));
    for _ in 0..3 {
        for fd in [&asked, &taken[0]] {
            // The error depends on its fdinfo, so the file was read.
            assert_eq!(counts.of(fd).expect_err("no dma-buf").kind(), ErrorKind::InvalidData);
        }
    }
    File::open("/proc/self/fdinfo").expect_err("none was freed");
    // The last descriptor can also be reused after its release.
    drop(taken.pop());
    taken.push(File::open("/proc/self/fdinfo").expect("one is free, and one alone"));
    File::open("/proc/self/fdinfo").expect_err("none is left");
}
