// SPDX-License-Identifier: Apache-2.0
//! Answers `DMA_HEAP_IOCTL_ALLOC` as `drivers/dma-buf/dma-heap.c` does.

use crate::program::Program;
use crate::service::{Argument, Nodes, Number};
use anion_client::Access;
use nix::errno::Errno;
use std::ffi::c_int;

/// Bytes of `struct dma_heap_allocation_data`: `len` at 0, `fd` at 8, `fd_flags` at 12,
/// `heap_flags` at 16.
const DATA: usize = 24;

/// Answers a request to the node of `heap`. As in the kernel, only the number's last byte selects
/// the request, and the structure may be shorter or longer: missing fields are 0.
///
/// # Errors
/// `EINVAL` for other requests, and for a field that is not valid; `EFAULT`; those of an
/// allocation. `EINVAL`, too, for write-only buffers, which the service does not have.
pub(crate) fn request(
    nodes: &Nodes,
    heap: &str,
    number: Number,
    address: u64,
    program: &impl Program,
) -> Result<c_int, Errno> {
    let length = number.size().min(DATA);
    // Stricter than the kernel: a structure without the field for the descriptor is refused.
    if number.nr() != 0 || !number.is_read() || !number.is_written() || length < 12 {
        return Err(Errno::EINVAL);
    }
    let mut data = Argument::read(program, address, length)?;
    let (bytes, fd, flags, heap_flags) = (data.u64(0), data.u32(8), data.int(12), data.u64(16));
    if fd != 0 || flags & !(libc::O_CLOEXEC | libc::O_ACCMODE) != 0 || heap_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let access = match flags & libc::O_ACCMODE {
        libc::O_RDONLY => Access::ReadOnly,
        libc::O_RDWR => Access::ReadWrite,
        _ => return Err(Errno::EINVAL),
    };
    data.check_writable_for_fd()?;
    let buffer = nodes.allocate(bytes, |request| request.heap(heap).access(access).name("/dev/dma_heap"))?;
    data.give(8, buffer.into_fd(), flags & libc::O_CLOEXEC != 0)?;
    Ok(0)
}
