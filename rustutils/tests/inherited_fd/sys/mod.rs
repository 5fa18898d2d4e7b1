// SPDX-License-Identifier: Apache-2.0
//! What a program does first, done late.
#![allow(unsafe_code, reason = "the one folder of this test that may; every block argues for itself")]

use std::io;

/// Takes every descriptor of this process over.
pub(crate) fn init_once() -> io::Result<()> {
    // SAFETY: the one test of this program asks only for descriptors that no value owns any more.
    // Should the harness own others, they are marked close-on-exec and never closed: no code asks
    // for them.
    unsafe { rustutils::inherited_fd::init_once() }
}
