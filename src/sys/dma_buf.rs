// SPDX-License-Identifier: Apache-2.0
//! Operations of dma-bufs of all exporters (`drivers/dma-buf/dma-buf.c`).

use crate::sys::fd::DescriptorDirectory;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;

pub use anion_memory::dma_buf::{CpuAccess, Phase, set_name, sync};

/// Returns whether `fd` is a dma-buf. Asks only the kernel, never a file system.
pub fn is_dma_buf(fd: impl AsFd) -> bool {
    let link = nix::fcntl::readlink(DescriptorDirectory::path(fd).as_str());
    link.is_ok_and(|target| target.as_encoded_bytes().starts_with(b"/dmabuf:"))
}

/// Returns whether all reads and writes of devices are finished: every fence of the dma-buf has
/// signalled. Never blocks.
///
/// # Errors
/// As poll(2).
pub fn is_settled(fd: impl AsFd) -> io::Result<bool> {
    // Ready for writing means that no device reads it either.
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO)?;
    Ok(fds[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLOUT)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd::MemfdFactory;

    #[test]
    fn shared_memory_is_told_apart_and_no_device_has_it() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 8192).expect("memfd");
        assert!(!is_dma_buf(&fd));
        assert!(is_settled(&fd).expect("no device can have it"));
    }
}
