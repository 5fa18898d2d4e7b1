// SPDX-License-Identifier: Apache-2.0
//! Sealed memfds.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::ftruncate;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Seals of every buffer: its size never changes again, so no holder can make another's mapping fault.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

/// Makes memfds with the flags that the running kernel knows.
#[derive(Debug, Clone, Copy)]
pub struct MemfdFactory {
    flags: MFdFlags,
}

impl MemfdFactory {
    /// Finds out whether the kernel knows `MFD_NOEXEC_SEAL` (Linux 6.3).
    ///
    /// # Errors
    /// If the kernel has no memfds at all, or descriptors have run out.
    pub fn probe() -> io::Result<Self> {
        let base = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let noexec = base | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
        let flags = match memfd_create("anion-probe", noexec) {
            Ok(_) => noexec,
            Err(Errno::EINVAL) => {
                memfd_create("anion-probe", base)?;
                base
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { flags })
    }

    /// A zeroed file of `bytes` bytes whose size is sealed and whose mode is 0600, so that a process of another uid
    /// cannot open it again through a descriptor it holds. No memory is used until it is touched.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM` when descriptors or kernel memory run out; `EFBIG` beyond a file's size.
    pub fn create(&self, name: &str, bytes: u64) -> io::Result<OwnedFd> {
        let fd = memfd_create(name, self.flags)?;
        ftruncate(&fd, i64::try_from(bytes).map_err(|_| Errno::EFBIG)?)?;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SEALS))?;
        fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(fd)
    }
}

/// Whether `fd` is a file with a buffer's seals. Answered by the kernel alone: no file system is asked, so a
/// hostile file cannot block the caller.
pub fn is_sealed(fd: impl AsFd) -> bool {
    fcntl(fd, FcntlArg::F_GET_SEALS).is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(SEALS))
}

/// Whether nobody has added a seal that makes the file useless to its next holder: no seal can be taken back.
pub fn has_only_size_seals(fd: impl AsFd) -> bool {
    let harmful = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_WRITE
        | SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE);
    fcntl(fd, FcntlArg::F_GET_SEALS).is_ok_and(|seals| !SealFlag::from_bits_retain(seals).intersects(harmful))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_sealed_both_ways() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 8192).expect("memfd");
        assert_eq!(ftruncate(&fd, 4096), Err(Errno::EPERM));
        assert_eq!(ftruncate(&fd, 16384), Err(Errno::EPERM));
        assert!(is_sealed(&fd));
    }

    #[test]
    fn a_seal_that_a_client_added_is_noticed() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 8192).expect("memfd");
        assert!(has_only_size_seals(&fd));
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).expect("not mapped");
        assert!(!has_only_size_seals(&fd) && is_sealed(&fd));
    }

    #[test]
    fn an_impossible_size_is_an_error_not_a_panic() {
        let error = MemfdFactory::probe().expect("memfd").create("test", u64::MAX).expect_err("too large");
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    }

    #[test]
    fn a_pipe_is_not_sealed() {
        let (reader, _writer) = nix::unistd::pipe().expect("pipe");
        assert!(!is_sealed(&reader));
    }
}
