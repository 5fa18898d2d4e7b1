// SPDX-License-Identifier: Apache-2.0
//! Examines the files of a handle.
//!
//! A handle may contain any file, also one of a file system whose server process never answers. So
//! only calls that the kernel answers by itself are made until the file is known to be memory.

use crate::error::Error;
use anion_handle::{File, Kind};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::fstat;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};

/// Returns the properties of the file.
///
/// # Errors
/// If the descriptor is not open, or was opened with `O_PATH`.
pub(crate) fn examine(fd: impl AsFd) -> Result<File, Error> {
    let fd = fd.as_fd();
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    let is_writable = flags & OFlag::O_ACCMODE == OFlag::O_RDWR;
    match fcntl(fd, FcntlArg::F_GET_SEALS) {
        Ok(seals) => {
            let bytes = u64::try_from(fstat(fd)?.st_size).unwrap_or_default();
            Ok(File { bytes, kind: Kind::Sealed(seals), is_writable })
        }
        Err(Errno::EINVAL) => Ok(match dma_buf_bytes(fd) {
            Some(bytes) => File { bytes, kind: Kind::DmaBuf, is_writable },
            None => File { bytes: 0, kind: Kind::Other, is_writable },
        }),
        Err(error) => Err(error.into()),
    }
}

/// Returns the bytes of a dma-buf from its fdinfo (`dma_buf_show_fdinfo` of the kernel, Linux 5.3);
/// `None` for other files, whose fdinfo has no `exp_name`.
fn dma_buf_bytes(fd: impl AsFd) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    value("exp_name")?;
    value("size")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    #[test]
    fn files_are_told_apart_by_what_the_kernel_knows() {
        let sealable = memfd_create(c"file", MFdFlags::MFD_ALLOW_SEALING).expect("a memfd");
        let file = examine(&sealable).expect("examined");
        assert_eq!(file, File { bytes: 0, kind: Kind::Sealed(0), is_writable: true });
        let other = fs::File::open("/proc/self/exe").expect("opened");
        assert_eq!(examine(&other), Ok(File { bytes: 0, kind: Kind::Other, is_writable: false }));
        let (pipe, _) = nix::unistd::pipe().expect("a pipe");
        assert_eq!(examine(&pipe).expect("examined").kind, Kind::Other);
    }
}
