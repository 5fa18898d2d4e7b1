// SPDX-License-Identifier: Apache-2.0
//! Makes sealed memfds.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use nix::unistd::ftruncate;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Seals of every buffer: its size can never change, so no holder can make another's mapping fault.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

/// Makes memfds with the flags that the running kernel supports.
#[derive(Debug, Clone, Copy)]
pub struct MemfdFactory {
    flags: MFdFlags,
    /// Limit of the size of this process's files in bytes, at the time that this was made; `None`
    /// if there is no limit.
    most_bytes: Option<rlim_t>,
}

impl MemfdFactory {
    /// Determines whether the kernel supports `MFD_NOEXEC_SEAL` (Linux 6.3).
    ///
    /// # Errors
    /// If the kernel has no memfds, or descriptors have run out.
    pub fn probe() -> io::Result<Self> {
        Self::probe_with(MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
    }

    /// Returns a factory for files of huge pages of the machine's default size. Sizes must be
    /// multiples of it.
    ///
    /// # Errors
    /// `ENOSYS` or `EINVAL` if the kernel has no huge pages, else as [`MemfdFactory::probe`]. A
    /// kernel with huge pages may have none reserved.
    pub fn probe_huge() -> io::Result<Self> {
        Self::probe_with(MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_HUGETLB)
    }

    fn probe_with(base: MFdFlags) -> io::Result<Self> {
        let noexec = base | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
        let flags = match memfd_create("anion-probe", noexec) {
            Ok(_) => noexec,
            Err(Errno::EINVAL) => {
                memfd_create("anion-probe", base)?;
                base
            }
            Err(error) => return Err(error.into()),
        };
        let (most_bytes, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
        Ok(Self { flags, most_bytes: Some(most_bytes).filter(|most| *most != RLIM_INFINITY) })
    }

    /// Returns a zeroed file of `bytes` bytes with a sealed size and mode 0600, so that a process
    /// of another uid cannot open it again through its descriptor. The file uses no memory until it
    /// is touched.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE` or `ENOMEM` when descriptors or kernel memory run out; `FileTooLarge`
    /// beyond the limit of all files or of this process's files (`RLIMIT_FSIZE`); the message names
    /// the latter.
    pub fn create(&self, name: &str, bytes: u64) -> io::Result<OwnedFd> {
        if let Some(most) = self.most_bytes.filter(|most| u128::from(bytes) > u128::from(*most)) {
            let why = format!(
                "a file of {bytes} bytes is larger than the {most} that files of the service may have \
                 (RLIMIT_FSIZE; ulimit -f, LimitFSIZE= of its unit)"
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        let fd = memfd_create(name, self.flags)?;
        ftruncate(&fd, libc::off_t::try_from(bytes).map_err(|_| Errno::EFBIG)?)?;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SEALS))?;
        fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(fd)
    }
}

/// Makes the kernel refuse every further seal of a file, from any process with a descriptor.
///
/// # Errors
/// As fcntl(2); `EPERM` if this was done before.
pub fn close_seals(fd: impl AsFd) -> io::Result<()> {
    Ok(fcntl(fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL)).map(drop)?)
}

/// Allocates pages for a range of a file, so that touching it cannot fail for lack of memory. The
/// content of the range stays; new pages are zero. Blocks while the kernel reclaims memory.
///
/// # Errors
/// `ENOMEM` or `ENOSPC` if there are not enough pages; the kernel removes those that it added.
pub fn allocate_pages(fd: impl AsFd, range: Range<u64>) -> io::Result<()> {
    change_pages(fd, 0, range)
}

/// Returns the pages of a range to the kernel; the range reads as zero from now on. The file's size
/// stays.
///
/// # Errors
/// As fallocate(2), and `EPERM` if the file is sealed against writing.
pub fn punch_pages(fd: impl AsFd, range: Range<u64>) -> io::Result<()> {
    change_pages(fd, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, range)
}

/// Returns whether any byte of a range has a page that was ever written or read. Punching leaves a
/// zeroed page in the file if it belongs to a large page that a process has pinned (mm/shmem.c,
/// `shmem_undo_range`). The kernel does not report this for huge pages, which are removed whole.
/// The time is proportional to the number of untouched pages of the range.
///
/// # Errors
/// As lseek(2).
pub fn has_pages(fd: impl AsFd, range: Range<u64>) -> io::Result<bool> {
    if has_huge_pages(&fd)? || range.is_empty() {
        return Ok(false);
    }
    let start = libc::off_t::try_from(range.start).map_err(|_| Errno::EFBIG)?;
    // On Android nix does not have this kind of seek.
    // SAFETY: no pointer is passed; the descriptor is open while it is borrowed.
    match Errno::result(unsafe { libc::lseek(fd.as_fd().as_raw_fd(), start, libc::SEEK_DATA) }) {
        Ok(data) => Ok(u64::try_from(data).is_ok_and(|data| data < range.end)),
        Err(Errno::ENXIO) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn change_pages(fd: impl AsFd, how: libc::c_int, range: Range<u64>) -> io::Result<()> {
    let offset = |bytes: u64| libc::off_t::try_from(bytes).map_err(|_| Errno::EFBIG);
    let (start, length) = (offset(range.start)?, offset(range.end.saturating_sub(range.start))?);
    loop {
        // On Android nix does not have this call.
        // SAFETY: no pointer is passed; the descriptor is open while it is borrowed.
        let code = unsafe { libc::fallocate(fd.as_fd().as_raw_fd(), how, start, length) };
        match Errno::result(code) {
            // A signal arrived. The kernel keeps or undoes what it did so far, and repeating the
            // call is harmless.
            Err(Errno::EINTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

/// Returns whether the memfd behind `fd` has huge pages.
///
/// # Errors
/// As fstatfs(2).
pub fn has_huge_pages(fd: impl AsFd) -> io::Result<bool> {
    Ok(fstatfs(&fd)?.filesystem_type() == HUGETLBFS_MAGIC)
}

/// Returns whether `fd` is a file with a buffer's seals. Asks only the kernel and no file system,
/// so a hostile file cannot block the caller.
pub fn is_sealed(fd: impl AsFd) -> bool {
    fcntl(fd, FcntlArg::F_GET_SEALS).is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(SEALS))
}

/// Returns whether the file has only the seals of its size. Any other seal would make it useless to
/// its next holder, since no seal can be removed.
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
    fn no_seal_can_be_added_once_that_is_closed() {
        let fd = MemfdFactory::probe().expect("memfd").create("test", 8192).expect("memfd");
        close_seals(&fd).expect("nobody did before");
        for seal in [SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_FUTURE_WRITE] {
            assert_eq!(fcntl(&fd, FcntlArg::F_ADD_SEALS(seal)), Err(Errno::EPERM), "{seal:?}");
        }
        assert!(is_sealed(&fd));
    }

    #[test]
    fn pages_come_and_go_by_range() {
        use crate::sys::fd::resident_bytes;
        let page = crate::sys::memory::page_size().expect("page size").bytes();
        let fd = MemfdFactory::probe().expect("memfd").create("test", 4 * page).expect("memfd");
        let resident = || resident_bytes(&fd).expect("fstat");
        assert_eq!(resident(), 0);
        allocate_pages(&fd, 0..4 * page).expect("four pages");
        assert_eq!(resident(), 4 * page);
        punch_pages(&fd, page..3 * page).expect("not sealed against writing");
        assert_eq!(resident(), 2 * page);
        let beyond = allocate_pages(&fd, 0..5 * page).expect_err("the size is sealed");
        assert_eq!(beyond.raw_os_error(), Some(libc::EPERM));
        assert_eq!(resident(), 2 * page);
    }

    #[test]
    fn a_size_beyond_the_limit_of_files_is_refused_with_the_limit() {
        let factory = MemfdFactory { most_bytes: Some(8192), ..MemfdFactory::probe().expect("memfd") };
        factory.create("test", 8192).expect("the most");
        let error = factory.create("test", 8193).expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(
            error.to_string().contains("8192 that files of the service may have (RLIMIT_FSIZE;"),
            "{error}"
        );
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
