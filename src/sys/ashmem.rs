// SPDX-License-Identifier: Apache-2.0
//! Allocates regions of ashmem, Android's shared memory device in kernels before 5.18
//! (`drivers/staging/android/ashmem.c`).

use crate::sys::fd::Inode;
use crate::units::Access;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::ffi::CStr;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// Prefix of the node's name. Some systems append the boot's id to it.
const NODE: &str = "/dev/ashmem";
/// Identity of a boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Size of a name in bytes, with its NUL.
const NAME_BYTES: usize = 256;
/// The driver's ioctl letter.
const TYPE: u8 = 0x77;

nix::ioctl_write_ptr!(
    /// `ASHMEM_SET_NAME`
    ashmem_set_name,
    TYPE,
    1,
    [libc::c_char; NAME_BYTES]
);

/// The device's node. Each open makes a new region.
#[derive(Debug, Clone)]
pub struct Ashmem {
    node: PathBuf,
    /// The driver's device number, which identifies its regions.
    device: libc::dev_t,
}

impl Ashmem {
    /// Finds the device node of this boot.
    ///
    /// # Errors
    /// As open(2) of `/dev/ashmem`, if no node can be opened; `InvalidInput` if it is no character
    /// device.
    pub fn find() -> io::Result<Self> {
        let [own, plain] = nodes(&std::fs::read_to_string(BOOT_ID).unwrap_or_default());
        Self::at(&own).or_else(|_| Self::at(&plain))
    }

    fn at(node: &Path) -> io::Result<Self> {
        let fd = open(node, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())?;
        let stat = fstat(&fd)?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFCHR {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no character device"));
        }
        Ok(Self { node: node.to_owned(), device: stat.st_rdev })
    }

    /// Returns a zeroed region of `bytes` bytes, a multiple of the page size. Only copies of its
    /// descriptor share it; opening the node again makes another region. Name and size can be
    /// changed until a process maps it.
    ///
    /// # Errors
    /// As open(2); `EINVAL` if the kernel does not support the size.
    pub fn create(&self, name: &CStr, bytes: u64) -> io::Result<OwnedFd> {
        let fd = open(&self.node, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = [0; NAME_BYTES];
        let kept = name.to_bytes().iter().take(NAME_BYTES - 1);
        text.iter_mut().zip(kept).for_each(|(to, from)| *to = from.cast_signed() as libc::c_char);
        // SAFETY: the kernel reads 256 bytes at the pointer, which refers to `text` on this stack.
        unsafe { ashmem_set_name(fd.as_fd().as_raw_fd(), &raw const text) }?;
        let bytes = libc::size_t::try_from(bytes).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the argument is a number; the kernel follows no pointer.
        Errno::result(unsafe {
            libc::ioctl(
                fd.as_fd().as_raw_fd(),
                nix::request_code_write!(TYPE, 3, size_of::<libc::size_t>()),
                bytes,
            )
        })?;
        Ok(fd)
    }

    /// Returns whether `fd` is one of this device's regions. Never blocks, for any `fd`.
    pub fn is_region(&self, fd: impl AsFd) -> bool {
        device_of(fd).is_ok_and(|device| device == Some(self.device))
    }
}

/// Returns the possible paths of the device, in the order in which they are tried.
fn nodes(boot_id: &str) -> [PathBuf; 2] {
    [PathBuf::from(format!("{NODE}{}", boot_id.trim())), PathBuf::from(NODE)]
}

/// Makes the region read-only: no process can make a writable mapping any more; existing mappings
/// stay as they are. This cannot be undone.
///
/// # Errors
/// `ENOTTY` if it is no region.
pub fn make_read_only(region: impl AsFd) -> io::Result<()> {
    let mask = libc::c_ulong::from(libc::PROT_READ.cast_unsigned());
    // SAFETY: the argument is a number; the kernel follows no pointer.
    Errno::result(unsafe {
        libc::ioctl(
            region.as_fd().as_raw_fd(),
            nix::request_code_write!(TYPE, 5, size_of::<libc::c_ulong>()),
            mask,
        )
    })?;
    Ok(())
}

/// Allocates the pages of the region, as far as memory is available: the kernel does not report a
/// failure.
///
/// # Errors
/// `EPERM` if it is read-only; `EINVAL` beyond its size.
pub fn populate(region: impl AsFd, bytes: u64) -> io::Result<()> {
    let bytes = usize::try_from(bytes).map_err(|_| Errno::EINVAL)?;
    Transient::new(region, bytes, Access::ReadWrite, MapFlags::MAP_POPULATE).map(drop)
}

/// Returns the file behind a region or other shared memory, as its mappings show it. The inode of a
/// region's descriptor is that of the device node, which all regions share. The time is
/// proportional to the number of mappings of this process.
///
/// # Errors
/// `EPERM` if it cannot be mapped for reading; `EINVAL` if it has no size.
pub fn mapped_inode(fd: impl AsFd) -> io::Result<Inode> {
    let page = usize::try_from(crate::sys::memory::page_size()?.bytes()).map_err(|_| Errno::EINVAL)?;
    let mapping = Transient::new(fd, page, Access::ReadOnly, MapFlags::empty())?;
    // Processes choose the names of their regions, which may be any bytes.
    let maps = std::fs::read("/proc/self/maps")?;
    let maps = String::from_utf8_lossy(&maps);
    let address = mapping.base.as_ptr().addr();
    let inode = maps.lines().find_map(|line| inode_at(line, address));
    inode.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/maps lacks a mapping"))
}

/// Returns the inode in a line of /proc/self/maps (`start-end permissions offset major:minor inode
/// path`), if the mapping contains the address.
fn inode_at(line: &str, address: usize) -> Option<Inode> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let hex = |text| usize::from_str_radix(text, 16).ok();
    if !(hex(start)?..hex(end)?).contains(&address) {
        return None;
    }
    let (major, minor) = fields.nth(2)?.split_once(':')?;
    let number = fields.next()?.parse().ok()?;
    let device = |text| u32::from_str_radix(text, 16).ok();
    let device = libc::makedev(device(major)?, device(minor)?);
    #[expect(clippy::allow_attributes, reason = "the types differ by platform")]
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    Some(Inode { device: device as u64, number })
}

/// A shared mapping that is neither read nor written. Invariant: `base` is the start of a live
/// mapping of `bytes` bytes that [`Transient::new`] made and only `drop` unmaps.
struct Transient {
    base: NonNull<libc::c_void>,
    bytes: usize,
}

impl Transient {
    fn new(fd: impl AsFd, bytes: usize, access: Access, flags: MapFlags) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        let mut protection = ProtFlags::PROT_READ;
        protection.set(ProtFlags::PROT_WRITE, access == Access::ReadWrite);
        // SAFETY: the call passes no address and no MAP_FIXED, so no existing mapping can be
        // replaced.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED | flags, fd, 0) }?;
        Ok(Self { base, bytes })
    }
}

impl Drop for Transient {
    fn drop(&mut self) {
        // SAFETY: the range is one live mapping (invariant), and no reference into it was ever
        // made.
        let _ = unsafe { munmap(self.base, self.bytes) };
    }
}

/// Returns the driver's device number of a character device; `None` for any other file. Makes no
/// call to a file system, which might not answer.
fn device_of(fd: impl AsFd) -> io::Result<Option<libc::dev_t>> {
    let stat = super::fd::known(fd, libc::STATX_TYPE)?;
    let is_device = u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFCHR;
    Ok(is_device.then(|| libc::makedev(stat.stx_rdev_major, stat.stx_rdev_minor)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::inode;
    use crate::sys::memfd::MemfdFactory;

    #[test]
    fn the_node_of_this_boot_comes_before_the_plain_one() {
        let nodes = nodes("3f2c1d9e-77aa-4d8e-9a53-6a2f8b1f9c10\n");
        let expected = ["/dev/ashmem3f2c1d9e-77aa-4d8e-9a53-6a2f8b1f9c10", "/dev/ashmem"];
        assert_eq!(nodes, expected.map(PathBuf::from));
    }

    #[test]
    fn only_a_character_device_can_be_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let node = directory.path().join("ashmem");
        assert_eq!(Ashmem::at(&node).expect_err("absent").kind(), io::ErrorKind::NotFound);
        std::fs::write(&node, "").expect("a file");
        assert_eq!(Ashmem::at(&node).expect_err("a file").kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn regions_are_known_by_their_driver() {
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).expect("a device");
        let of_null = Ashmem::at(Path::new("/dev/null")).expect("any character device");
        let memfd = MemfdFactory::probe().expect("memfd").create("test", 4096).expect("memfd");
        let zero = std::fs::File::open("/dev/zero").expect("a device");
        assert_eq!(
            [of_null.is_region(&null), of_null.is_region(&zero), of_null.is_region(&memfd)],
            [true, false, false]
        );
        assert_eq!(make_read_only(&null).expect_err("no region").raw_os_error(), Some(libc::ENOTTY));
    }

    #[test]
    fn a_mapping_tells_the_file_behind_it() {
        let page = crate::sys::memory::page_size().expect("page size").bytes();
        let create = || MemfdFactory::probe().expect("memfd").create("test", page).expect("memfd");
        let (one, other) = (create(), create());
        for fd in [&one, &other] {
            assert_eq!(mapped_inode(fd).expect("mapped"), inode(fd).expect("fstat"));
        }
        populate(&one, page).expect("writable");
        assert_eq!(crate::sys::fd::resident_bytes(&one).expect("fstat"), page);
    }

    #[test]
    fn a_line_of_maps_is_taken_apart() {
        let line = "7f7747f29000-7f7747f2c000 rw-s 00000000 00:01 1031      /dev/ashmem/buf0 (deleted)";
        assert_eq!(inode_at(line, 0x7f77_47f2_9000), Some(Inode { device: 1, number: 1031 }));
        assert_eq!(inode_at(line, 0x7f77_47f2_c000), None);
        assert_eq!(inode_at("7f7747f29000-7f7747f2c000 rw-s", 0x7f77_47f2_9000), None);
    }
}
