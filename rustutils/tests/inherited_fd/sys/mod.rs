// SPDX-License-Identifier: Apache-2.0
//! Takes ownership of inherited descriptors, in a process that is already running.
#![allow(unsafe_code, reason = "the one folder of this test that may; every block argues for itself")]

use std::io;

/// Takes ownership of every descriptor of this process.
pub(crate) fn init_once() -> io::Result<()> {
    // SAFETY: the only test of this program takes only descriptors that no value owns any more. If
    // the harness owns others, they are marked close-on-exec and never closed, because no code
    // takes them.
    unsafe { rustutils::inherited_fd::init_once() }
}
