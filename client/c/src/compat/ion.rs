// SPDX-License-Identifier: Apache-2.0
//! The functions of libion. On failure, all of them return a negative errno.

use crate::error::{Failure, attempt, given};
use crate::sys::compat::{self, HeapArray, borrow, map};
use crate::sys::duplicate;
use anion_nodes::{Node, Nodes, OpenNode};
use nix::errno::Errno;
use std::ffi::{c_int, c_uint};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::sync::OnceLock;

/// Returns the nodes of this process, which connect to the service at first use.
fn nodes() -> &'static Nodes {
    static NODES: OnceLock<Nodes> = OnceLock::new();
    NODES.get_or_init(Nodes::default)
}

/// Returns a function that converts an errno to a failure; `what` names the call or the argument.
fn failed(what: &'static str) -> impl FnOnce(Errno) -> Failure {
    move |errno| Failure::system(what)(io::Error::from(errno))
}

/// Returns the open node of a descriptor that `ion_open` returned.
///
/// # Errors
/// `EBADF` if `fd` is not open, `ENOTTY` if it is no open node.
fn opened(fd: c_int) -> Result<OpenNode<'static>, Failure> {
    let fd = borrow(c_uint::try_from(fd).unwrap_or(c_uint::MAX))?;
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).map_err(failed("fd"))?;
    let open = OpenNode::of(fd).filter(|open| open.node == Node::Ion);
    open.ok_or_else(|| failed("fd")(Errno::ENOTTY))
}

/// Opens ION's node, if the service can be reached.
#[unsafe(no_mangle)]
pub extern "C" fn ion_open() -> c_int {
    attempt(None, || {
        let fd = nodes().open(Node::Ion, libc::O_RDWR | libc::O_CLOEXEC);
        // Without a service, programs see the error of a missing node.
        Ok(fd
            .map_err(|errno| {
                failed("ion_open")(if errno == Errno::ENOENT { Errno::ENOTCONN } else { errno })
            })?
            .into_raw_fd())
    })
}

/// Closes it, and frees its handles.
#[unsafe(no_mangle)]
pub extern "C" fn ion_close(fd: c_int) -> c_int {
    attempt(None, || {
        opened(fd)?;
        compat::close(fd);
        nodes().release_closed();
        Ok(0)
    })
}

/// Allocates a buffer and returns a handle of it.
#[unsafe(no_mangle)]
pub extern "C" fn ion_alloc(
    fd: c_int,
    len: usize,
    _align: usize,
    heap_mask: c_uint,
    flags: c_uint,
    handle: Option<&mut MaybeUninit<c_int>>,
) -> c_int {
    attempt(None, || {
        let handle = given(handle, "handle")?;
        let open = opened(fd)?;
        let buffer = nodes().ion_allocate(len as u64, 0, heap_mask, flags).map_err(failed("no buffer"))?;
        handle.write(nodes().ion_handle(&open, buffer).map_err(failed("no handle"))?);
        Ok(0)
    })
}

/// Allocates a buffer and returns its descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn ion_alloc_fd(
    fd: c_int,
    len: usize,
    _align: usize,
    heap_mask: c_uint,
    flags: c_uint,
    handle_fd: Option<&mut MaybeUninit<c_int>>,
) -> c_int {
    attempt(None, || {
        let handle_fd = given(handle_fd, "handle_fd")?;
        opened(fd)?;
        let buffer = nodes().ion_allocate(len as u64, 0, heap_mask, flags).map_err(failed("no buffer"))?;
        handle_fd.write(buffer.into_raw_fd());
        Ok(0)
    })
}

/// Makes data that the CPU wrote visible to devices, and data that devices wrote visible to the
/// CPU.
#[unsafe(no_mangle)]
pub extern "C" fn ion_sync_fd(fd: c_int, handle_fd: c_int) -> c_int {
    attempt(None, || {
        let open = opened(fd)?;
        let buffer = duplicate(handle_fd).map_err(Failure::system("handle_fd"))?;
        nodes().ion_sync(&open, buffer).map_err(failed("DMA_BUF_IOCTL_SYNC"))?;
        Ok(0)
    })
}

/// Frees a handle. Descriptors and mappings of its buffer stay valid.
#[unsafe(no_mangle)]
pub extern "C" fn ion_free(fd: c_int, handle: c_int) -> c_int {
    attempt(None, || {
        nodes().ion_free(&opened(fd)?, handle).map_err(failed("handle"))?;
        Ok(0)
    })
}

/// Maps the buffer of a handle, and returns a descriptor of it, too.
#[unsafe(no_mangle)]
pub extern "C" fn ion_map(
    fd: c_int,
    handle: c_int,
    length: usize,
    prot: c_int,
    flags: c_int,
    offset: libc::off_t,
    address: Option<&mut MaybeUninit<*mut u8>>,
    map_fd: Option<&mut MaybeUninit<c_int>>,
) -> c_int {
    attempt(None, || {
        let (address, map_fd) = (given(address, "ptr")?, given(map_fd, "map_fd")?);
        let buffer = nodes().ion_share(&opened(fd)?, handle).map_err(failed("handle"))?;
        address.write(map(&buffer, length, prot, flags, offset).map_err(Failure::system("mmap"))?);
        map_fd.write(buffer.into_raw_fd());
        Ok(0)
    })
}

/// Returns a descriptor of a handle's buffer.
#[unsafe(no_mangle)]
pub extern "C" fn ion_share(fd: c_int, handle: c_int, share_fd: Option<&mut MaybeUninit<c_int>>) -> c_int {
    attempt(None, || {
        let share_fd = given(share_fd, "share_fd")?;
        let buffer = nodes().ion_share(&opened(fd)?, handle).map_err(failed("handle"))?;
        share_fd.write(buffer.into_raw_fd());
        Ok(0)
    })
}

/// Returns a handle for a buffer's descriptor: the existing one, if the buffer has a handle.
#[unsafe(no_mangle)]
pub extern "C" fn ion_import(fd: c_int, share_fd: c_int, handle: Option<&mut MaybeUninit<c_int>>) -> c_int {
    attempt(None, || {
        let handle = given(handle, "handle")?;
        let buffer = duplicate(share_fd).map_err(Failure::system("share_fd"))?;
        handle.write(nodes().ion_import(&opened(fd)?, buffer).map_err(failed("share_fd"))?);
        Ok(0)
    })
}

/// Counts the usable heaps.
#[unsafe(no_mangle)]
pub extern "C" fn ion_query_heap_cnt(fd: c_int, count: Option<&mut MaybeUninit<c_int>>) -> c_int {
    attempt(None, || {
        let count = given(count, "cnt")?;
        opened(fd)?;
        let heaps = nodes().ion_heaps().map_err(failed("no heaps"))?;
        count.write(c_int::try_from(heaps.len()).unwrap_or(c_int::MAX));
        Ok(0)
    })
}

/// Writes as many of them as fit.
#[unsafe(no_mangle)]
pub extern "C" fn ion_query_get_heaps(fd: c_int, count: c_int, buffers: HeapArray<'_>) -> c_int {
    attempt(None, || {
        opened(fd)?;
        let room = usize::try_from(count).map_err(|_| Failure::Argument(format!("cnt is {count}")))?;
        let heaps = nodes().ion_heaps().map_err(failed("no heaps"))?;
        buffers.store(&heaps[..heaps.len().min(room)])?;
        Ok(0)
    })
}

/// Returns 0: programs are to use descriptors. Handles exist for programs that do not call this
/// function.
#[unsafe(no_mangle)]
pub extern "C" fn ion_is_legacy(_fd: c_int) -> c_int {
    0
}

/// Returns 0: heaps have the ids of the service's configuration.
#[unsafe(no_mangle)]
pub extern "C" fn ion_is_using_modular_heaps(_fd: c_int) -> c_int {
    0
}
