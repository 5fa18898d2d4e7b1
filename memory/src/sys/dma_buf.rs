// SPDX-License-Identifier: Apache-2.0
//! Makes the ioctls of dma-bufs of all exporters (`drivers/dma-buf/dma-buf.c`).

use nix::errno::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

nix::ioctl_write_ptr!(
    /// `DMA_BUF_IOCTL_SYNC`: `struct dma_buf_sync` is one `__u64` of flags.
    dma_buf_ioctl_sync,
    b'b',
    0,
    u64
);
nix::ioctl_write_ptr_bad!(
    /// `DMA_BUF_SET_NAME_B`: the argument is the string itself. The ioctl number contains another
    /// size.
    dma_buf_set_name,
    nix::request_code_write!(b'b', 1, size_of::<u64>()),
    libc::c_char
);

/// Kind of a CPU access: `DMA_BUF_SYNC_READ` and `DMA_BUF_SYNC_WRITE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum CpuAccess {
    /// Reading.
    Read = 1,
    /// Writing.
    Write = 2,
    /// Both.
    ReadWrite = 3,
}

/// Begin or end of an access: `DMA_BUF_SYNC_START` or `DMA_BUF_SYNC_END`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Phase {
    /// Before the first access: data that devices wrote becomes visible.
    Start = 0,
    /// After the last access: data that the CPU wrote becomes visible to devices.
    End = 4,
}

/// Gives a dma-buf a name, which fdinfo and `/sys/kernel/debug/dma_buf/bufinfo` show.
///
/// # Errors
/// `EINVAL` for more than 31 bytes; `EBUSY` on old kernels while a device is attached; `ENOTTY` if
/// it is no dma-buf.
pub fn set_name(fd: impl AsFd, name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is a NUL-terminated string that lives during the call, the kernel reads no
    // further than its NUL and writes nothing; the descriptor is open for the duration of the
    // borrow.
    unsafe { dma_buf_set_name(fd.as_fd().as_raw_fd(), name.as_ptr()) }?;
    Ok(())
}

/// Brackets CPU access to a mapping of a dma-buf (`DMA_BUF_IOCTL_SYNC`). Does nothing for a memfd
/// or ashmem: no device can access their memory, and they do not have the ioctl.
///
/// # Errors
/// Those of the exporter; interrupted calls are repeated.
pub fn sync(fd: impl AsFd, access: CpuAccess, phase: Phase) -> io::Result<()> {
    let flags = access as u64 | phase as u64;
    loop {
        // SAFETY: the kernel reads one u64 at the pointer, which refers to `flags` on this stack,
        // and writes nothing; the descriptor is open for the duration of the borrow.
        match unsafe { dma_buf_ioctl_sync(fd.as_fd().as_raw_fd(), &raw const flags) } {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(_) | Err(Errno::ENOTTY) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of `linux/dma-buf.h`.
    #[test]
    fn access_and_phase_are_the_kernels_bits() {
        let bits = |access: CpuAccess, phase: Phase| access as u64 | phase as u64;
        assert_eq!(bits(CpuAccess::Read, Phase::Start), 1);
        assert_eq!(bits(CpuAccess::Write, Phase::End), 2 | 4);
        assert_eq!(bits(CpuAccess::ReadWrite, Phase::End), 3 | 4);
        assert_eq!(nix::request_code_write!(b'b', 0, size_of::<u64>()), 0x4008_6200);
    }

    #[test]
    fn shared_memory_needs_no_sync_and_takes_no_name() {
        let fd = crate::sys::map::tests::memfd(8192);
        for access in [CpuAccess::Read, CpuAccess::Write, CpuAccess::ReadWrite] {
            sync(&fd, access, Phase::Start).expect("left alone");
            sync(&fd, access, Phase::End).expect("left alone");
        }
        assert_eq!(set_name(&fd, c"name").expect_err("no dma-buf").raw_os_error(), Some(libc::ENOTTY));
    }
}
