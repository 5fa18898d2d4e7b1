// SPDX-License-Identifier: Apache-2.0
//! Descriptors and open file descriptions.

use crate::units::Access;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Identity of a file on one machine while it exists: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode {
    /// Device number.
    pub device: u64,
    /// Inode number, as /proc and other tools show it.
    pub number: u64,
}

/// Returns the file behind `fd`. Never blocks.
///
/// # Errors
/// As fstat(2).
pub fn inode(fd: impl AsFd) -> io::Result<Inode> {
    let stat = known(fd, libc::STATX_INO)?;
    let device = libc::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    #[expect(clippy::allow_attributes, reason = "the type differs by platform")]
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    Ok(Inode { device: device as u64, number: stat.stx_ino })
}

/// Returns the kernel's record of the file behind `fd`. Never blocks: it makes no call to the
/// file system, which may be hostile and not answer.
///
/// # Errors
/// As statx(2).
pub(super) fn known(fd: impl AsFd, mask: libc::c_uint) -> io::Result<libc::statx> {
    // SAFETY: `statx` is a plain structure of numbers, for which all zero bytes are a valid value.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the path is a NUL-terminated string with the lifetime 'static, and the kernel writes
    // one `statx` at the pointer, which refers to `stat` on this stack.
    let asked = unsafe { libc::statx(fd.as_fd().as_raw_fd(), c"".as_ptr(), flags, mask, &raw mut stat) };
    Errno::result(asked)?;
    Ok(stat)
}

/// Returns the bytes of the file behind `fd` for which memory or disk space is allocated.
///
/// # Errors
/// As fstat(2).
pub fn resident_bytes(fd: impl AsFd) -> io::Result<u64> {
    // st_blocks counts units of 512 bytes, for every block size of the file system.
    Ok(u64::try_from(fstat(fd)?.st_blocks).unwrap_or(0) * 512)
}

/// Returns the size in bytes of the file behind `fd`, and the uid that owns it. Never blocks.
///
/// # Errors
/// As statx(2).
pub fn size_and_owner(fd: impl AsFd) -> io::Result<(u64, u32)> {
    let stat = known(fd, libc::STATX_SIZE | libc::STATX_UID)?;
    Ok((stat.stx_size, stat.stx_uid))
}

/// Returns the name of the memfd behind `fd`, which its maker gave it and no process can change;
/// `None` for another file, and for a name that is not UTF-8. Never blocks.
///
/// # Errors
/// As readlink(2); if /proc is not mounted.
pub fn memfd_name(fd: impl AsFd) -> io::Result<Option<String>> {
    let link = nix::fcntl::readlink(DescriptorDirectory::path(fd).as_str())?.into_string();
    let name = |link: &str| Some(link.strip_prefix("/memfd:")?.strip_suffix(" (deleted)")?.to_owned());
    Ok(link.ok().as_deref().and_then(name))
}

/// Returns the block size of the file behind `fd`: for a memfd, its page size.
///
/// # Errors
/// As fstat(2).
pub fn block_bytes(fd: impl AsFd) -> io::Result<u64> {
    Ok(u64::try_from(fstat(fd)?.st_blksize).unwrap_or(0))
}

/// The directory of this process's descriptors.
const OWN_DESCRIPTORS: &str = "/proc/self/fd";

/// Returns the error of opening `path` below /proc. If /proc is not mounted, the error has the
/// command that mounts it.
pub fn without_proc(path: &str, error: io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "; mount -t proc proc /proc",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot open {path}: {error}{remedy}"))
}

/// This process's `/proc/self/fd`, through which a file that has no path can be opened again.
#[derive(Debug)]
pub struct DescriptorDirectory(OwnedFd);

impl DescriptorDirectory {
    /// Opens the directory.
    ///
    /// # Errors
    /// If /proc is not mounted; the message has the command that mounts it.
    pub fn open() -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = nix::fcntl::open(OWN_DESCRIPTORS, flags, Mode::empty());
        directory.map(Self).map_err(|error| without_proc(OWN_DESCRIPTORS, error.into()))
    }

    /// Opens the file behind `fd` again: makes a separate description, close-on-exec, with `access`
    /// enforced by the kernel. Leases and inotify work by description; a dup would share one.
    ///
    /// # Errors
    /// As open(2): the file's mode must permit it, and a descriptor must be free.
    pub fn reopen(&self, fd: impl AsFd, access: Access) -> io::Result<OwnedFd> {
        let mode = match access {
            Access::ReadWrite => OFlag::O_RDWR,
            Access::ReadOnly => OFlag::O_RDONLY,
        };
        let name = fd.as_fd().as_raw_fd().to_string();
        Ok(openat(&self.0, name.as_str(), mode | OFlag::O_CLOEXEC, Mode::empty())?)
    }

    /// Returns a path that leads to the file behind `fd`, valid while `fd` is open.
    pub fn path(fd: impl AsFd) -> String {
        format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
    }
}

/// Returns the current limit of this process's open descriptors.
///
/// # Errors
/// As getrlimit(2); never on a supported kernel.
#[cfg_attr(
    target_pointer_width = "64",
    expect(clippy::useless_conversion, reason = "a limit is a machine word, of 32 bits elsewhere")
)]
pub fn limit() -> io::Result<u64> {
    let (soft, _hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    Ok(soft.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd::MemfdFactory;

    #[test]
    fn a_reopened_read_only_descriptor_cannot_be_written() {
        let memfd = MemfdFactory::probe().expect("memfd").create("test", 4096).expect("memfd");
        let directory = DescriptorDirectory::open().expect("/proc");
        let reader = directory.reopen(&memfd, Access::ReadOnly).expect("reopened");
        let error = nix::unistd::write(&reader, b"x").expect_err("read-only");
        assert_eq!(error, nix::errno::Errno::EBADF);
        assert_eq!(inode(&memfd).expect("inode"), inode(&reader).expect("inode"));
    }
}
