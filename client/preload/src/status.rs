// SPDX-License-Identifier: Apache-2.0
//! stat(2) and related functions.

use crate::served;
use crate::sys::status::{Stat, Stat64, Status, Statx};
use crate::sys::{Rest, Text, real, set_errno};
use anion_nodes::{Node, is_above_dma_heaps, node_at};
use libc::AT_FDCWD;
use std::ffi::{c_int, c_uint};

/// Fills in the status of a path with `real`, or else that of a node, with the times and the file
/// system of the directory of devices, which `devices` fills in.
fn of_path<S: Status>(
    directory: c_int,
    path: Text<'_>,
    status: S,
    real: impl FnOnce() -> c_int,
    devices: impl FnOnce() -> c_int,
) -> c_int {
    let result = served::unless_forced(|| served::node(directory, path), real);
    if result == 0 && path.bytes().is_empty() {
        // With AT_EMPTY_PATH: the descriptor itself.
        return of_descriptor(directory, status, || 0);
    }
    if !served::is_missing(result) {
        return result;
    }
    if is_above(path) {
        return devices();
    }
    let Some(node) = served::node(directory, path).filter(|node| served::is_there(*node)) else {
        return result;
    };
    let result = devices();
    if result == 0 {
        status.show(node.status());
    }
    result
}

/// Returns whether a path goes through the directory of dma-heaps to the one above.
fn is_above(path: Text<'_>) -> bool {
    is_above_dma_heaps(path.path()) && served::is_there(Node::DmaHeapDirectory)
}

/// Fills in the status of a descriptor with `real`; for an open node, that of the node.
fn of_descriptor<S: Status>(fd: c_int, status: S, real: impl FnOnce() -> c_int) -> c_int {
    let result = real();
    if result == 0
        && status.may_be_node()
        && let Some(node) = served::node_of(fd)
    {
        status.show(node.status());
    }
    result
}

/// Implements stat(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn stat(path: Text<'_>, status: Stat<'_>) -> c_int {
    let devices = || real::stat(Text::DEV, status);
    of_path(AT_FDCWD, path, status, || real::stat(path, status), devices)
}

/// Implements stat64(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn stat64(path: Text<'_>, status: Stat64<'_>) -> c_int {
    let devices = || real::stat64(Text::DEV, status);
    of_path(AT_FDCWD, path, status, || real::stat64(path, status), devices)
}

/// Implements lstat(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn lstat(path: Text<'_>, status: Stat<'_>) -> c_int {
    let devices = || real::stat(Text::DEV, status);
    of_path(AT_FDCWD, path, status, || real::lstat(path, status), devices)
}

/// Implements lstat64(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn lstat64(path: Text<'_>, status: Stat64<'_>) -> c_int {
    let devices = || real::stat64(Text::DEV, status);
    of_path(AT_FDCWD, path, status, || real::lstat64(path, status), devices)
}

/// Implements fstat(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fstat(fd: c_int, status: Stat<'_>) -> c_int {
    of_descriptor(fd, status, || real::fstat(fd, status))
}

/// Implements fstat64(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fstat64(fd: c_int, status: Stat64<'_>) -> c_int {
    of_descriptor(fd, status, || real::fstat64(fd, status))
}

/// Implements fstatat(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fstatat(directory: c_int, path: Text<'_>, status: Stat<'_>, flags: c_int) -> c_int {
    let devices = || real::fstatat(AT_FDCWD, Text::DEV, status, 0);
    of_path(directory, path, status, || real::fstatat(directory, path, status, flags), devices)
}

/// Implements fstatat64(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fstatat64(
    directory: c_int,
    path: Text<'_>,
    status: Stat64<'_>,
    flags: c_int,
) -> c_int {
    let devices = || real::fstatat64(AT_FDCWD, Text::DEV, status, 0);
    of_path(directory, path, status, || real::fstatat64(directory, path, status, flags), devices)
}

/// Implements statx(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn statx(
    directory: c_int,
    path: Text<'_>,
    flags: c_int,
    mask: c_uint,
    status: Statx<'_>,
) -> c_int {
    let devices = || real::statx(AT_FDCWD, Text::DEV, 0, mask, status);
    of_path(directory, path, status, || real::statx(directory, path, flags, mask, status), devices)
}

/// Implements stat(2) for programs that were built before glibc 2.33.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __xstat(version: c_int, path: Text<'_>, status: Stat<'_>) -> c_int {
    let devices = || real::__xstat(version, Text::DEV, status);
    of_path(AT_FDCWD, path, status, || real::__xstat(version, path, status), devices)
}

/// Implements stat64(2) for such programs.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __xstat64(version: c_int, path: Text<'_>, status: Stat64<'_>) -> c_int {
    let devices = || real::__xstat64(version, Text::DEV, status);
    of_path(AT_FDCWD, path, status, || real::__xstat64(version, path, status), devices)
}

/// Implements lstat(2) for programs that were built before glibc 2.33.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __lxstat(version: c_int, path: Text<'_>, status: Stat<'_>) -> c_int {
    let devices = || real::__xstat(version, Text::DEV, status);
    of_path(AT_FDCWD, path, status, || real::__lxstat(version, path, status), devices)
}

/// Implements lstat64(2) for such programs.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __lxstat64(version: c_int, path: Text<'_>, status: Stat64<'_>) -> c_int {
    let devices = || real::__xstat64(version, Text::DEV, status);
    of_path(AT_FDCWD, path, status, || real::__lxstat64(version, path, status), devices)
}

/// Implements fstat(2) for programs that were built before glibc 2.33.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __fxstat(version: c_int, fd: c_int, status: Stat<'_>) -> c_int {
    of_descriptor(fd, status, || real::__fxstat(version, fd, status))
}

/// Implements fstat64(2) for such programs.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __fxstat64(version: c_int, fd: c_int, status: Stat64<'_>) -> c_int {
    of_descriptor(fd, status, || real::__fxstat64(version, fd, status))
}

/// Implements fstatat(2) for programs that were built before glibc 2.33.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __fxstatat(
    version: c_int,
    directory: c_int,
    path: Text<'_>,
    status: Stat<'_>,
    flags: c_int,
) -> c_int {
    let devices = || real::__xstat(version, Text::DEV, status);
    let real = || real::__fxstatat(version, directory, path, status, flags);
    of_path(directory, path, status, real, devices)
}

/// Implements fstatat64(2) for such programs.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn __fxstatat64(
    version: c_int,
    directory: c_int,
    path: Text<'_>,
    status: Stat64<'_>,
    flags: c_int,
) -> c_int {
    let devices = || real::__xstat64(version, Text::DEV, status);
    let real = || real::__fxstatat64(version, directory, path, status, flags);
    of_path(directory, path, status, real, devices)
}

/// Reads an attribute of a path with `real`: nodes have no attributes.
fn attribute(path: Text<'_>, real: impl FnOnce() -> isize) -> isize {
    let result = real();
    let failed = if result < 0 { -1 } else { 0 };
    if !served::is_missing(failed) {
        return result;
    }
    if is_above(path) || node_at(path.path()).is_some_and(served::is_there) {
        set_errno(libc::ENODATA);
    }
    result
}

/// Implements getxattr(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn getxattr(path: Text<'_>, name: Text<'_>, value: Rest, size: usize) -> isize {
    attribute(path, || real::getxattr(path, name, value, size))
}

/// Implements lgetxattr(2).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn lgetxattr(path: Text<'_>, name: Text<'_>, value: Rest, size: usize) -> isize {
    attribute(path, || real::lgetxattr(path, name, value, size))
}
