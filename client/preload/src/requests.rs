// SPDX-License-Identifier: Apache-2.0
//! ioctl(2) and close(2).

use crate::served;
use crate::sys::{Rest, errno, real};
use std::ffi::{c_int, c_ulong};

/// Asks the kernel first: the file that stands for a node knows no request.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ioctl(fd: c_int, request: c_ulong, argument: Rest) -> c_int {
    let result = real::ioctl(fd, request, argument);
    if result != -1 || errno() != libc::ENOTTY {
        return result;
    }
    // The kernel, too, looks at 32 bits.
    served::request(fd, u32::try_from(request & 0xffff_ffff).unwrap_or(0), argument)
}

/// Frees ION's handles with the last descriptor of the node that they are of.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn close(fd: c_int) -> c_int {
    let may_free = served::may_free(fd);
    let result = real::close(fd);
    if may_free {
        served::release_closed();
    }
    result
}
