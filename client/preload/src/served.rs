// SPDX-License-Identifier: Apache-2.0
//! Selects the calls that are served here, and calls the service.

use crate::sys::memory::{OwnProcess, give};
use crate::sys::{self, Text, borrow, inside, is_forced, set_errno};
use anion_nodes::{Entry, Interface, Node, Nodes, OpenNode, Settings, node_at, node_below};
use nix::errno::Errno;
use std::ffi::{OsStr, c_int};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

static NODES: OnceLock<Nodes> = OnceLock::new();

/// Creates the nodes of this process before it has threads, because another thread could be
/// creating them during fork(2). Does not connect.
pub(crate) fn prepare() {
    // This hook affects only this library's copy of the standard library, and not the program.
    std::panic::set_hook(Box::new(|_| {}));
    sys::memory::prepare();
    nodes();
}

/// Returns the nodes of this process.
fn nodes() -> &'static Nodes {
    NODES.get_or_init(|| {
        let interface = Interface::of_word(&std::env::var("ANION_ION_INTERFACE").unwrap_or_default());
        Nodes::new(Settings { interface, ..Settings::default() })
    })
}

/// Calls the C library. If this library must serve the node also on machines that have it, reports
/// a missing node instead.
pub(crate) fn unless_forced(node: impl FnOnce() -> Option<Node>, real: impl FnOnce() -> c_int) -> c_int {
    if is_forced() && node().is_some() {
        set_errno(libc::ENOENT);
        return -1;
    }
    real()
}

/// Returns whether a call failed with an error of a missing node, or of one that the program may
/// not use.
pub(crate) fn is_missing(result: c_int) -> bool {
    let missing =
        [libc::ENOENT, libc::ENOTDIR, libc::EACCES, libc::EPERM, libc::ENXIO, libc::ENODEV, libc::EROFS];
    result < 0 && missing.contains(&sys::errno())
}

/// Returns the node at a path relative to a directory's descriptor, or to `AT_FDCWD`. Allocates
/// nothing; makes system calls for relative paths.
pub(crate) fn node(directory: c_int, path: Text<'_>) -> Option<Node> {
    let path = path.path();
    if path.is_absolute() || path.as_os_str().is_empty() {
        return node_at(path);
    }
    inside(|| {
        if let Some(open) = borrow(directory).and_then(OpenNode::of) {
            return match open.node {
                Node::DmaHeapDirectory => node_below(Path::new(anion_nodes::DMA_HEAPS), path),
                _ => None,
            };
        }
        // "/proc/self/fd/" and a number.
        let mut link = [0; 32];
        let mut rest = &mut link[..];
        match directory {
            libc::AT_FDCWD => write!(rest, "/proc/self/cwd").ok()?,
            fd => write!(rest, "/proc/self/fd/{fd}").ok()?,
        }
        // No directory above a node has a longer path.
        let mut place = [0; 64];
        let length = sys::read_link(&link, &mut place)?;
        node_below(Path::new(OsStr::from_bytes(&place[..length])), path)
    })?
}

/// Calls `run` with the nodes. `None`, with errno unchanged, if this library itself made the call,
/// or if the node does not exist.
fn attempt<T>(run: impl FnOnce(&'static Nodes) -> Result<T, Errno>) -> Option<T> {
    match inside(|| run(nodes()))? {
        Ok(value) => Some(value),
        Err(Errno::ENOENT) => None,
        Err(errno) => {
            set_errno(errno as c_int);
            None
        }
    }
}

/// Returns whether a node exists.
pub(crate) fn is_there(node: Node) -> bool {
    attempt(|nodes| nodes.find(node)).is_some()
}

/// Opens a node, and returns the descriptor's number; -1 with errno, which is that of the C
/// library's call if there is no such node.
pub(crate) fn open(node: Node, flags: c_int) -> c_int {
    attempt(|nodes| nodes.open(node, flags)).map_or(-1, give)
}

/// Opens the directory of dma-heaps, and returns it with its entries.
pub(crate) fn list() -> Option<(OwnedFd, Vec<Entry>)> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    attempt(|nodes| Ok((nodes.open(Node::DmaHeapDirectory, flags)?, nodes.entries()?)))
}

/// Returns the entries of the directory.
pub(crate) fn entries() -> Option<Vec<Entry>> {
    attempt(Nodes::entries)
}

/// Returns the node of a descriptor of the program.
pub(crate) fn node_of(fd: c_int) -> Option<Node> {
    inside(|| OpenNode::of(borrow(fd)?).map(|open| open.node))?
}

/// Answers a request: -1 with errno if it fails. `None`, with errno unchanged, if the descriptor is
/// no node.
pub(crate) fn request(fd: c_int, number: u32, argument: usize) -> Option<c_int> {
    let answer = inside(|| {
        let open = OpenNode::of(borrow(fd)?)?;
        Some(nodes().request(&open, number, argument as u64, &OwnProcess::default()))
    });
    Some(match answer.flatten()? {
        Ok(value) => value,
        Err(errno) => {
            set_errno(errno as c_int);
            -1
        }
    })
}

/// Returns whether the descriptor is a node, and closing it may free handles.
pub(crate) fn may_free(fd: c_int) -> bool {
    NODES.get().is_some_and(Nodes::has_handles) && node_of(fd).is_some()
}

/// Frees the handles of nodes that are closed.
pub(crate) fn release_closed() {
    // None if this library itself made the call, which closes no node.
    inside(|| nodes().release_closed());
}
