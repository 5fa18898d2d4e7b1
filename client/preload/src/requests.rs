// SPDX-License-Identifier: Apache-2.0
//! ioctl(2) and close(2).

use crate::served;
use crate::sys::{Rest, errno, real};
use std::ffi::{c_int, c_ulong};

/// `DMA_HEAP_IOCTL_ALLOC`, and the `ION_IOC_ALLOC` that returns a descriptor.
const ALLOCATIONS: [u32; 2] = [0xc018_4800, 0xc018_4900];

/// Calls the kernel first: the file of an open node supports no request. Allocations are checked
/// before, which saves them a system call.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ioctl(fd: c_int, request: c_ulong, argument: Rest) -> c_int {
    // The kernel also uses only 32 bits.
    let number = u32::try_from(request & 0xffff_ffff).unwrap_or(0);
    let is_allocation = ALLOCATIONS.contains(&number);
    if is_allocation && let Some(result) = served::request(fd, number, argument) {
        return result;
    }
    let result = real::ioctl(fd, request, argument);
    if is_allocation || result != -1 || errno() != libc::ENOTTY {
        return result;
    }
    served::request(fd, number, argument).unwrap_or(result)
}

/// Frees ION's handles with the last descriptor of their node.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn close(fd: c_int) -> c_int {
    let may_free = served::may_free(fd);
    let result = real::close(fd);
    if may_free {
        served::release_closed();
    }
    result
}
