// SPDX-License-Identifier: Apache-2.0
//! Maps shared memory, with the code that clients use.

pub use anion_memory::map::SharedMap;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};

    /// Inserts the first pages of a mapping into a pipe without copying them, as a hostile client
    /// can: the pipe pins them.
    pub(crate) fn splice_pages(map: &SharedMap, pipe: impl AsFd) -> io::Result<()> {
        let pages = libc::iovec { iov_base: map.as_ptr().as_ptr().cast(), iov_len: map.len().min(8192) };
        // SAFETY: `pages` is inside the mapping, which lives as long as the borrow, and the kernel
        // only reads it; the descriptor is open for the duration of its borrow.
        let spliced = unsafe { libc::vmsplice(pipe.as_fd().as_raw_fd(), &raw const pages, 1, 0) };
        if spliced > 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
