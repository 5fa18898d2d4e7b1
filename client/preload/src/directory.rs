// SPDX-License-Identifier: Apache-2.0
//! opendir(3), readdir(3) and related functions.

use crate::served;
use crate::sys::list::{Dirent, Dirent64, Dirp};
use crate::sys::memory::take;
use crate::sys::{Text, real, set_errno};
use anion_nodes::{Entry, Node};
use libc::AT_FDCWD;
use std::ffi::{c_int, c_long};
use std::os::fd::{AsRawFd, OwnedFd};

/// Returns the object for the open directory; NULL with errno if too many are open.
fn dirp(fd: OwnedFd, entries: Vec<Entry>) -> Dirp {
    Dirp::new(fd, entries).unwrap_or_else(|| {
        set_errno(libc::EMFILE);
        Dirp::NULL
    })
}

/// Implements opendir(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn opendir(path: Text<'_>) -> Dirp {
    let mut found = Dirp::NULL;
    let result = served::unless_forced(
        || served::node(AT_FDCWD, path),
        || {
            found = real::opendir(path);
            if found.is_null() { -1 } else { 0 }
        },
    );
    if !served::is_missing(result) {
        return found;
    }
    match served::node(AT_FDCWD, path) {
        Some(Node::DmaHeapDirectory) => served::list().map_or(Dirp::NULL, |(fd, entries)| dirp(fd, entries)),
        Some(node) if served::is_there(node) => {
            set_errno(libc::ENOTDIR);
            Dirp::NULL
        }
        _ => Dirp::NULL,
    }
}

/// Implements fdopendir(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fdopendir(fd: c_int) -> Dirp {
    let found = real::fdopendir(fd);
    if !found.is_null() || served::node_of(fd) != Some(Node::DmaHeapDirectory) {
        return found;
    }
    match served::entries() {
        Some(entries) => dirp(take(fd), entries),
        None => Dirp::NULL,
    }
}

/// Implements readdir(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn readdir(directory: Dirp) -> *mut libc::dirent {
    match directory.list() {
        Some(list) => list.read(),
        None => real::readdir(directory),
    }
}

/// Implements readdir64(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn readdir64(directory: Dirp) -> *mut libc::dirent64 {
    match directory.list() {
        Some(list) => list.read64(),
        None => real::readdir64(directory),
    }
}

/// Implements readdir_r(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn readdir_r(
    directory: Dirp,
    entry: Dirent<'_>,
    result: &mut *mut libc::dirent,
) -> c_int {
    match directory.list() {
        Some(list) => {
            list.read_to(entry, result);
            0
        }
        None => real::readdir_r(directory, entry, result),
    }
}

/// Implements readdir64_r(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn readdir64_r(
    directory: Dirp,
    entry: Dirent64<'_>,
    result: &mut *mut libc::dirent64,
) -> c_int {
    match directory.list() {
        Some(list) => {
            list.read64_to(entry, result);
            0
        }
        None => real::readdir64_r(directory, entry, result),
    }
}

/// Implements rewinddir(3): reads the entries again.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn rewinddir(directory: Dirp) {
    match directory.list() {
        Some(list) => {
            list.next = 0;
            if let Some(entries) = served::entries() {
                list.entries = entries;
            }
        }
        None => real::rewinddir(directory),
    }
}

/// Implements telldir(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn telldir(directory: Dirp) -> c_long {
    match directory.list() {
        Some(list) => c_long::try_from(list.next).unwrap_or(c_long::MAX),
        None => real::telldir(directory),
    }
}

/// Implements seekdir(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn seekdir(directory: Dirp, place: c_long) {
    match directory.list() {
        Some(list) => list.next = usize::try_from(place).unwrap_or(0),
        None => real::seekdir(directory, place),
    }
}

/// Implements dirfd(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn dirfd(directory: Dirp) -> c_int {
    match directory.list() {
        Some(list) => list.fd.as_raw_fd(),
        None => real::dirfd(directory),
    }
}

/// Implements closedir(3).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn closedir(directory: Dirp) -> c_int {
    if directory.close() { 0 } else { real::closedir(directory) }
}
