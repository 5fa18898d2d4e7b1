// SPDX-License-Identifier: Apache-2.0
//! Settings of the process before the daemon starts.
#![allow(unsafe_code, reason = "one of the folders that may; every block argues for itself")]

#[cfg(target_env = "gnu")]
use libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, c_int};
use std::io;
#[cfg(not(soong))]
use std::os::fd::{AsRawFd, BorrowedFd};

/// Settings of the C library's allocator. Blocks from 64 KiB on are separate mappings, which have
/// no page before it is written and return to the kernel when they are freed. Threads share two
/// heaps, each of which keeps at most 256 KiB of free memory at its end.
#[cfg(target_env = "gnu")]
const ALLOCATOR: [(c_int, c_int); 3] =
    [(M_ARENA_MAX, 2), (M_MMAP_THRESHOLD, 64 << 10), (M_TRIM_THRESHOLD, 256 << 10)];

/// Makes memory for a client's message grow only with the bytes that arrived, and return to the
/// kernel afterwards. Only glibc needs these settings; other libraries keep their defaults.
pub(crate) fn give_freed_memory_back() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in ALLOCATOR {
        // SAFETY: mallopt(3) takes two numbers and locks what it changes. It refuses values that it
        // does not know, and then changes nothing.
        let is_set = unsafe { libc::mallopt(parameter, value) } == 1;
        debug_assert!(is_set, "mallopt({parameter}, {value})");
    }
}

/// Takes over the descriptors that the parent left open beyond standard input, output and error.
/// Then a socket that it passed can be owned by its number, once, and a number that it did not pass
/// cannot be owned. The program begins with it and does not call it again: `tests/floors.rs` checks
/// both.
///
/// Marks all of them close-on-exec. A descriptor that is not taken stays open as long as the
/// process lives: a preloaded library may use it, and closing descriptors that a parent forgot has
/// no benefit.
///
/// # Errors
/// If `/proc/self/fd` cannot be read, or a descriptor cannot be marked.
#[cfg(not(soong))]
pub(crate) fn own_inherited_descriptors() -> io::Result<()> {
    // SAFETY: nothing of this program has run yet, and there is no other thread, so what is open
    // was inherited, or opened before `main`. The standard library opens nothing but /dev/null
    // then, in place of a standard descriptor that is missing, and those three are skipped; the C
    // library closes what it reads. A preloaded library, or one with a constructor, may own
    // descriptors, which are claimed twice then. That does no harm: close-on-exec changes nothing
    // in a program that starts none, what is not taken is never closed, and what is taken are the
    // numbers that the parent announced to this very process, where its own descriptors were before
    // any library was loaded. A parent that announces what it did not pass ends the program, unless
    // that is a listening socket.
    unsafe { rustutils::inherited_fd::init_once() }
}

/// Does nothing: init passes no descriptor that the service could take, and the service starts no
/// program that could inherit one.
///
/// # Errors
/// None.
#[cfg(soong)]
pub(crate) fn own_inherited_descriptors() -> io::Result<()> {
    Ok(())
}

/// Makes the kernel accept or refuse descriptors that are sent over a socket, or over every
/// connection of a listening one (since Linux 6.16). A refused sender gets an error.
///
/// # Errors
/// `ENOPROTOOPT` if the kernel does not have the option.
#[cfg(not(soong))]
pub(crate) fn pass_descriptors(socket: BorrowedFd<'_>, passes: bool) -> io::Result<()> {
    /// `SO_PASSRIGHTS` of asm-generic/socket.h.
    const SO_PASSRIGHTS: libc::c_int = 83;
    set_option(socket, SO_PASSRIGHTS, libc::c_int::from(passes))
}

/// Returns whether descriptors wait in the queue of a socket to which no process can send any more.
/// They stay in the queue: the sending process controls how long closing one takes.
///
/// # Errors
/// As setsockopt(2) or recvmsg(2).
#[cfg(not(soong))]
pub(crate) fn has_queued_descriptors(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // Each peek begins where the previous one ended.
    set_option(socket, libc::SO_PEEK_OFF, 0)?;
    let mut bytes = [0_u8; 4096];
    loop {
        let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: `msghdr` is a plain structure of numbers and pointers, for which all zero bytes
        // are a valid value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: `message` has one piece, which is all of `bytes`, and no room for a name or for
        // descriptors, so the kernel makes none. All three outlive the call.
        let taken = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        match taken {
            0 => return Ok(false),
            1.. if message.msg_flags & libc::MSG_CTRUNC != 0 => return Ok(true),
            1.. => {}
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                error => return Err(error),
            },
        }
    }
}

#[cfg(not(soong))]
fn set_option(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
    // SAFETY: the option's value is a number of `length` bytes that outlives the call, which only
    // reads it.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
