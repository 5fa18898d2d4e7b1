// SPDX-License-Identifier: Apache-2.0
//! What the daemon does before it is one.
#![allow(unsafe_code, reason = "one of the folders that may; every block argues for itself")]

use std::io;

/// Takes over what the parent left open beyond standard input, output and error, so that a socket
/// that it passed can be owned by its number, once, and a number that it did not pass cannot be
/// owned. The program begins with it and does not call it again: `tests/floors.rs` checks both.
///
/// All of it is marked close-on-exec. What is not taken stays open as long as the process lives: a
/// preloaded library may be using it, and closing what a parent forgot would gain nothing.
///
/// # Errors
/// If `/proc/self/fd` cannot be read, or a descriptor cannot be marked.
#[cfg(not(soong))]
pub(crate) fn own_inherited_descriptors() -> io::Result<()> {
    // SAFETY: nothing of this program has run yet, and there is no other thread, so what is open
    // was inherited, or opened before `main`. The standard library opens nothing but /dev/null
    // then, in place of a standard descriptor that is missing, and those three are left out; the C
    // library closes what it reads. A preloaded library, or one with a constructor, may own
    // descriptors, which are claimed twice then. That does no harm: close-on-exec changes nothing
    // in a program that starts none, what is not taken is never closed, and what is taken are the
    // numbers that the parent announced to this very process, where its own descriptors were before
    // any library was loaded. A parent that announces what it did not pass ends the program, unless
    // that is a listening socket.
    unsafe { rustutils::inherited_fd::init_once() }
}

/// Does nothing: init passes the service no descriptor that it could take, and the service starts
/// no program that one could go to.
///
/// # Errors
/// None.
#[cfg(soong)]
pub(crate) fn own_inherited_descriptors() -> io::Result<()> {
    Ok(())
}
