// SPDX-License-Identifier: Apache-2.0
//! Android's shared memory device, in kernels before 5.18 (`drivers/staging/android/ashmem.c`).

use crate::units::Access;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

/// Bytes of a name, with its NUL.
const NAME_BYTES: usize = 256;

nix::ioctl_write_ptr!(
    /// `ASHMEM_SET_NAME`
    ashmem_set_name,
    0x77,
    1,
    [libc::c_char; NAME_BYTES]
);
nix::ioctl_write_int_bad!(
    /// `ASHMEM_SET_SIZE`: the size is the argument itself.
    ashmem_set_size,
    nix::request_code_write!(0x77, 3, size_of::<libc::size_t>())
);
nix::ioctl_write_int_bad!(
    /// `ASHMEM_SET_PROT_MASK`: the mask is the argument itself.
    ashmem_set_prot_mask,
    nix::request_code_write!(0x77, 5, size_of::<libc::c_ulong>())
);

/// The device's node: each opening of it is a new region.
#[derive(Debug, Clone)]
pub struct Ashmem(PathBuf);

impl Ashmem {
    /// Finds the node that this boot has: some systems name it after the boot, `/dev/ashmem<boot_id>`.
    ///
    /// # Errors
    /// As open(2) of `/dev/ashmem`, if neither can be opened.
    pub fn find() -> io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let own = PathBuf::from(format!("/dev/ashmem{}", boot.trim()));
        let candidates = [own, PathBuf::from("/dev/ashmem")];
        let mut last = io::Error::from_raw_os_error(libc::ENOENT);
        for path in candidates {
            match open(&path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
                Ok(_) => return Ok(Self(path)),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// A zeroed region of `bytes` bytes, a multiple of the page. A region is shared by copies of its descriptor; opening
    /// the node again makes another. With [`Access::ReadOnly`] nobody can map it writable any more.
    ///
    /// # Errors
    /// As open(2); `EINVAL` if the size does not fit an int on this kernel.
    pub fn create(&self, name: &CStr, bytes: u64, access: Access) -> io::Result<OwnedFd> {
        let fd = open(&self.0, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = [0; NAME_BYTES];
        let kept = name.to_bytes().iter().take(NAME_BYTES - 1);
        text.iter_mut().zip(kept).for_each(|(to, from)| *to = from.cast_signed() as libc::c_char);
        let raw = fd.as_fd().as_raw_fd();
        // SAFETY: the kernel reads 256 bytes at the pointer, which refers to `text` on this stack.
        unsafe { ashmem_set_name(raw, &raw const text) }?;
        let size = libc::c_int::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: the argument is a number; the kernel follows no pointer.
        unsafe { ashmem_set_size(raw, size) }?;
        if access == Access::ReadOnly {
            // SAFETY: as above.
            unsafe { ashmem_set_prot_mask(raw, libc::PROT_READ) }?;
        }
        Ok(fd)
    }
}
