// SPDX-License-Identifier: Apache-2.0
//! open(2), fopen(3), access(2) and related functions.

use crate::served;
use crate::sys::memory::stream;
use crate::sys::{Rest, Text, real, set_errno};
use anion_nodes::{Node, node_at};
use libc::AT_FDCWD;
use std::ffi::c_int;
use std::ptr;

/// Opens with `real`, which gets the flags, or else opens a node.
fn serve(directory: c_int, path: Text<'_>, flags: c_int, real: impl FnOnce(c_int) -> c_int) -> c_int {
    // A node is never created: a program with the permission would have created a file.
    let creates = flags & libc::O_CREAT != 0 && node_at(path.path()).is_some();
    let own_flags = if creates { flags & !libc::O_CREAT } else { flags };
    let result = served::unless_forced(|| served::node(directory, path), || real(own_flags));
    if !served::is_missing(result) {
        return result;
    }
    served::node(directory, path).map_or(result, |node| served::open(node, flags))
}

/// Implements open(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn open(path: Text<'_>, flags: c_int, mode: Rest) -> c_int {
    serve(AT_FDCWD, path, flags, |flags| real::open(path, flags, mode))
}

/// Implements open64(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn open64(path: Text<'_>, flags: c_int, mode: Rest) -> c_int {
    serve(AT_FDCWD, path, flags, |flags| real::open64(path, flags, mode))
}

/// Implements the `_FORTIFY_SOURCE` variant of open(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __open_2(path: Text<'_>, flags: c_int) -> c_int {
    serve(AT_FDCWD, path, flags, |flags| real::__open_2(path, flags))
}

/// Implements the `_FORTIFY_SOURCE` variant of open64(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __open64_2(path: Text<'_>, flags: c_int) -> c_int {
    serve(AT_FDCWD, path, flags, |flags| real::__open64_2(path, flags))
}

/// Implements openat(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn openat(directory: c_int, path: Text<'_>, flags: c_int, mode: Rest) -> c_int {
    serve(directory, path, flags, |flags| real::openat(directory, path, flags, mode))
}

/// Implements openat64(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn openat64(directory: c_int, path: Text<'_>, flags: c_int, mode: Rest) -> c_int {
    serve(directory, path, flags, |flags| real::openat64(directory, path, flags, mode))
}

/// Implements the `_FORTIFY_SOURCE` variant of openat(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __openat_2(directory: c_int, path: Text<'_>, flags: c_int) -> c_int {
    serve(directory, path, flags, |flags| real::__openat_2(directory, path, flags))
}

/// Implements the `_FORTIFY_SOURCE` variant of openat64(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __openat64_2(directory: c_int, path: Text<'_>, flags: c_int) -> c_int {
    serve(directory, path, flags, |flags| real::__openat64_2(directory, path, flags))
}

/// Returns the flags of a mode of fopen(3), without those that create or truncate a file.
fn flags_of(mode: &[u8]) -> Option<c_int> {
    let (first, rest) = mode.split_first()?;
    let access = match (first, rest.contains(&b'+')) {
        (b'r' | b'w' | b'a', true) => libc::O_RDWR,
        (b'r', false) => libc::O_RDONLY,
        (b'w' | b'a', false) => libc::O_WRONLY,
        _ => return None,
    };
    Some(access | if rest.contains(&b'e') { libc::O_CLOEXEC } else { 0 })
}

/// Opens a node as a stream, or calls the C library for other files.
fn open_stream(path: Text<'_>, mode: Text<'_>, real: impl FnOnce() -> *mut libc::FILE) -> *mut libc::FILE {
    match flags_of(mode.bytes()).filter(|_| node_at(path.path()).is_some()) {
        Some(flags) => match serve(AT_FDCWD, path, flags, |flags| real::open(path, flags, 0)) {
            -1 => ptr::null_mut(),
            fd => stream(fd, mode),
        },
        None => real(),
    }
}

/// Implements fopen(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fopen(path: Text<'_>, mode: Text<'_>) -> *mut libc::FILE {
    open_stream(path, mode, || real::fopen(path, mode))
}

/// Implements fopen64(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fopen64(path: Text<'_>, mode: Text<'_>) -> *mut libc::FILE {
    open_stream(path, mode, || real::fopen64(path, mode))
}

/// Checks the access with `real`, or else for a node.
fn may_access(directory: c_int, path: Text<'_>, mode: c_int, real: impl FnOnce() -> c_int) -> c_int {
    let result = served::unless_forced(|| served::node(directory, path), real);
    if !served::is_missing(result) {
        return result;
    }
    match served::node(directory, path).filter(|node| served::is_there(*node)) {
        None => result,
        Some(node) => {
            let refused = if node == Node::DmaHeapDirectory { libc::W_OK } else { libc::X_OK };
            if mode & refused == 0 {
                return 0;
            }
            set_errno(libc::EACCES);
            -1
        }
    }
}

/// Implements access(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn access(path: Text<'_>, mode: c_int) -> c_int {
    may_access(AT_FDCWD, path, mode, || real::access(path, mode))
}

/// Implements eaccess(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn eaccess(path: Text<'_>, mode: c_int) -> c_int {
    may_access(AT_FDCWD, path, mode, || real::eaccess(path, mode))
}

/// Implements euidaccess(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn euidaccess(path: Text<'_>, mode: c_int) -> c_int {
    may_access(AT_FDCWD, path, mode, || real::euidaccess(path, mode))
}

/// Implements faccessat(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn faccessat(directory: c_int, path: Text<'_>, mode: c_int, flags: c_int) -> c_int {
    may_access(directory, path, mode, || real::faccessat(directory, path, mode, flags))
}
