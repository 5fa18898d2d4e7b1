// SPDX-License-Identifier: Apache-2.0
//! Allocates from the kernel's dma-heaps, each of which is a character device
//! (`drivers/dma-buf/dma-heap.c`).

use crate::units::{Access, HeapName};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// Directory of the devices.
pub const DIRECTORY: &str = "/dev/dma_heap";

/// `struct dma_heap_allocation_data`.
#[repr(C)]
struct AllocationData {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

nix::ioctl_readwrite!(
    /// `DMA_HEAP_IOCTL_ALLOC`
    dma_heap_ioctl_alloc,
    b'H',
    0,
    AllocationData
);

/// An open dma-heap.
#[derive(Debug)]
pub struct DmaHeap(OwnedFd);

impl DmaHeap {
    /// Opens the heap `name` in `directory`. A [`HeapName`] cannot name a path outside it.
    ///
    /// # Errors
    /// As open(2); `InvalidInput` if the node is no character device. The caller must know the
    /// driver of the directory: an ioctl cannot identify it, since a dma-heap also answers ION's
    /// number.
    pub fn open(directory: &Path, name: &HeapName) -> io::Result<Self> {
        let fd = open(
            &path(directory, name),
            OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK,
            Mode::empty(),
        )?;
        let kind = SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFCHR {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no character device"));
        }
        Ok(Self(fd))
    }

    /// Returns a zeroed dma-buf of `bytes` bytes, rounded up to pages, close-on-exec. The kernel
    /// enforces `access` on mappings.
    ///
    /// # Errors
    /// `ENOMEM` if the heap has not enough memory; `EINVAL` for 0 bytes; `EMFILE` if descriptors
    /// have run out.
    pub fn allocate(&self, bytes: u64, access: Access) -> io::Result<OwnedFd> {
        let mode = match access {
            Access::ReadWrite => libc::O_RDWR,
            Access::ReadOnly => libc::O_RDONLY,
        };
        let fd_flags = (mode | libc::O_CLOEXEC).cast_unsigned();
        let mut data = AllocationData { len: bytes, fd: 0, fd_flags, heap_flags: 0 };
        // SAFETY: the kernel reads and writes one `AllocationData` at the pointer, which refers to
        // `data` on this stack and has the layout of the kernel's structure (repr(C), all fields
        // fixed-size, no padding).
        unsafe { dma_heap_ioctl_alloc(self.0.as_raw_fd(), &raw mut data) }?;
        let fd = RawFd::try_from(data.fd).map_err(io::Error::other)?;
        // SAFETY: after success the kernel has installed a new descriptor under this number for
        // this call; nothing else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Returns the path of the heap's node.
pub fn path(directory: &Path, name: &HeapName) -> PathBuf {
    directory.join(name.as_str())
}

/// Returns the names of the heaps in `directory`, sorted; none if the directory does not exist.
///
/// # Errors
/// If it cannot be read.
pub fn names(directory: &Path) -> io::Result<Vec<HeapName>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // A node whose name is no heap name cannot be requested.
        names.extend(entry?.file_name().to_str().and_then(|name| HeapName::new(name).ok()));
    }
    names.sort();
    Ok(names)
}

// The kernel's layout, the same for every pointer size.
const _: () = assert!(size_of::<AllocationData>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_character_devices_are_heaps_and_only_nodes_are_listed() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("system"), "").expect("a file");
        let name = HeapName::new("system").expect("valid");
        let error = DmaHeap::open(directory.path(), &name).expect_err("a plain file");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let absent = HeapName::new("linux,cma").expect("valid");
        let error = DmaHeap::open(directory.path(), &absent).expect_err("not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(names(directory.path()).expect("readable"), [name]);
        assert!(names(&directory.path().join("absent")).expect("none").is_empty());
    }
}
