// SPDX-License-Identifier: Apache-2.0
//! What every dma-buf can do, whoever exported it (`drivers/dma-buf/dma-buf.c`).

use crate::sys::fd::DescriptorDirectory;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Longest name of a dma-buf in bytes, without the NUL.
pub const MAX_NAME_BYTES: usize = 31;

nix::ioctl_write_ptr_bad!(
    /// `DMA_BUF_SET_NAME_B`: the argument is the string itself, whatever size the number says.
    dma_buf_set_name,
    nix::request_code_write!(b'b', 1, size_of::<u64>()),
    libc::c_char
);

/// Whether `fd` is a dma-buf. Only the kernel is asked, never a file system.
pub fn is_dma_buf(fd: impl AsFd) -> bool {
    let link = nix::fcntl::readlink(DescriptorDirectory::path(fd).as_str());
    link.is_ok_and(|target| target.as_encoded_bytes().starts_with(b"/dmabuf:"))
}

/// Gives a dma-buf a name, which fdinfo and `/sys/kernel/debug/dma_buf/bufinfo` show.
///
/// # Errors
/// `EINVAL` beyond [`MAX_NAME_BYTES`]; `EBUSY` on old kernels while a device is attached; `ENOTTY` if it is no dma-buf.
pub fn set_name(fd: impl AsFd, name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is a NUL-terminated string that lives during the call, the kernel reads no further than its NUL
    // and writes nothing; the descriptor is open for the duration of the borrow.
    unsafe { dma_buf_set_name(fd.as_fd().as_raw_fd(), name.as_ptr()) }?;
    Ok(())
}

/// How many references the kernel counts: descriptors, mappings, copies in flight and importing devices, of which this
/// descriptor is one. From `count:` in fdinfo.
///
/// # Errors
/// `InvalidData` if the kernel does not tell; as reading /proc otherwise.
pub fn references(fd: impl AsFd) -> io::Result<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
    let count = info.lines().find_map(|line| line.strip_prefix("count:"));
    count
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "fdinfo has no count: it is no dma-buf"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd::MemfdFactory;

    #[test]
    fn shared_memory_is_told_apart() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 8192).expect("memfd");
        assert!(!is_dma_buf(&fd));
        assert_eq!(set_name(&fd, c"name").expect_err("no dma-buf").raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(references(&fd).expect_err("no dma-buf").kind(), io::ErrorKind::InvalidData);
    }
}
