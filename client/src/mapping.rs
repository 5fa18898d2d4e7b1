// SPDX-License-Identifier: Apache-2.0
//! Mappings of a buffer's memory in this process.

use anion_memory::Access;
use anion_memory::dma_buf::{CpuAccess, Phase, sync};
use anion_memory::map::SharedMap;
use nix::sys::statfs::{HUGETLBFS_MAGIC, TMPFS_MAGIC, fstatfs};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

/// A shared mapping of a buffer from its start, with its pages present. It keeps the buffer's
/// memory even after the descriptor is closed.
///
/// A [`View`] brackets reads and writes as the kernel requires for dma-bufs. Shared memory, a memfd
/// or ashmem, needs no brackets; for it they cost nothing.
///
/// ```
/// use anion_client::{Access, CpuAccess, Mapping};
///
/// let file = tempfile::tempfile()?;
/// file.set_len(4096)?;
/// let mapping = Mapping::new(&file, 4096, Access::ReadWrite)?;
///
/// let view = mapping.begin(CpuAccess::ReadWrite)?;
/// view.write_at(100, b"pixels")?;
/// let mut found = [0; 6];
/// view.read_at(100, &mut found)?;
/// view.end()?;
/// assert_eq!(&found, b"pixels");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Mapping {
    map: SharedMap,
    /// The dma-buf, to bracket accesses; `None` for a file, which needs no brackets.
    told: Option<OwnedFd>,
    access: Access,
}

impl Mapping {
    /// Maps the first `bytes` bytes of a buffer. For a dma-buf it keeps a copy of the descriptor.
    ///
    /// # Errors
    /// `InvalidInput` if `bytes` is 0 or beyond the end of the buffer; `EACCES` if the descriptor
    /// does not permit `access`, or the heap is secure; `ENOMEM` if the address space is full;
    /// `EMFILE` if descriptors have run out.
    pub fn new(fd: impl AsFd, bytes: usize, access: Access) -> io::Result<Self> {
        let map = SharedMap::new(&fd, bytes, access)?;
        let told = if is_plain_memory(&fd)? { None } else { Some(fd.as_fd().try_clone_to_owned()?) };
        Ok(Self { map, told, access })
    }

    /// Returns the number of mapped bytes.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Returns the access mode of the mapping.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Begins a CPU access: data that devices wrote becomes visible to the CPU, and data that the
    /// CPU writes becomes visible to devices when the view is ended or dropped. Views may overlap.
    ///
    /// # Errors
    /// `PermissionDenied` for writing through a read-only mapping; else those of the buffer's
    /// exporter.
    pub fn begin(&self, access: CpuAccess) -> io::Result<View<'_>> {
        self.tell(access, Phase::Start)?;
        Ok(View { mapping: self, access, is_open: true })
    }

    /// Reports the begin or end of an access to the buffer's exporter, for code that uses
    /// [`Mapping::as_ptr`] and has no scope for a [`View`].
    ///
    /// # Errors
    /// As [`Mapping::begin`].
    pub fn tell(&self, access: CpuAccess, phase: Phase) -> io::Result<()> {
        if self.access == Access::ReadOnly && access != CpuAccess::Read {
            return Err(denied("the mapping is read-only"));
        }
        self.told.as_ref().map_or(Ok(()), |fd| sync(fd, access, phase))
    }

    /// Returns the address of the mapping: valid for its length while this value lives. Callers
    /// must not make a Rust reference from it, since other processes can change the memory.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.map.as_ptr()
    }
}

/// A CPU access to a [`Mapping`], from [`Mapping::begin`] until it is ended or dropped.
///
/// Other processes and devices may write at any moment, so the methods copy bytes and return no
/// references.
#[derive(Debug)]
pub struct View<'m> {
    mapping: &'m Mapping,
    access: CpuAccess,
    is_open: bool,
}

impl View<'_> {
    /// Copies `into.len()` bytes from the mapping, from `offset` on.
    ///
    /// # Errors
    /// `InvalidInput` if the range exceeds the mapping; `PermissionDenied` if the view is
    /// write-only.
    pub fn read_at(&self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        self.readable()?.read_at(offset, into)
    }

    /// Copies `from` into the mapping, at `offset`.
    ///
    /// # Errors
    /// `InvalidInput` if the range exceeds the mapping; `PermissionDenied` if the view is
    /// read-only.
    pub fn write_at(&self, offset: usize, from: &[u8]) -> io::Result<()> {
        self.writable()?.write_at(offset, from)
    }

    /// Sets every byte to `byte`.
    ///
    /// # Errors
    /// `PermissionDenied` if the view is read-only.
    pub fn fill(&self, byte: u8) -> io::Result<()> {
        self.writable()?.fill(byte)
    }

    /// Returns whether every byte is zero.
    ///
    /// # Errors
    /// `PermissionDenied` if the view is write-only.
    pub fn is_zero(&self) -> io::Result<bool> {
        Ok(self.readable()?.is_zero())
    }

    /// Ends the access. Dropping does the same, and logs errors.
    ///
    /// # Errors
    /// Those of the buffer's exporter: devices may then not see the written data.
    pub fn end(mut self) -> io::Result<()> {
        self.is_open = false;
        self.mapping.tell(self.access, Phase::End)
    }

    fn readable(&self) -> io::Result<&SharedMap> {
        match self.access {
            CpuAccess::Write => Err(denied("the view permits only writing")),
            CpuAccess::Read | CpuAccess::ReadWrite => Ok(&self.mapping.map),
        }
    }

    fn writable(&self) -> io::Result<&SharedMap> {
        match self.access {
            CpuAccess::Read => Err(denied("the view permits only reading")),
            CpuAccess::Write | CpuAccess::ReadWrite => Ok(&self.mapping.map),
        }
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        if let Err(error) = self.mapping.tell(self.access, Phase::End) {
            log::warn!("cannot end an access to a dma-buf: {error}");
        }
    }
}

/// Returns whether devices cannot change the memory of the file `fd`: it lies on a tmpfs or a file
/// system of huge pages, as memfds do. A dma-buf never does.
///
/// # Errors
/// Those of fstatfs(2).
fn is_plain_memory(fd: impl AsFd) -> io::Result<bool> {
    let kind = fstatfs(fd)?.filesystem_type();
    Ok([TMPFS_MAGIC, HUGETLBFS_MAGIC].contains(&kind))
}

fn denied(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::fs::File;

    fn memfd() -> OwnedFd {
        let file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).expect("memfd"));
        file.set_len(8192).expect("memfd");
        file.into()
    }

    #[test]
    fn memory_is_told_from_what_a_driver_is_behind() {
        assert!(is_plain_memory(memfd()).expect("fstatfs"));
        let status = std::fs::File::open("/proc/self/status").expect("open");
        assert!(!is_plain_memory(&status).expect("fstatfs"));
    }

    #[test]
    fn a_view_permits_what_it_was_begun_for() {
        let mapping = Mapping::new(memfd(), 8000, Access::ReadWrite).expect("mapped");
        assert_eq!((mapping.len(), mapping.access()), (8000, Access::ReadWrite));
        let kind = |result: io::Result<()>| result.map_err(|error| error.kind());
        let denied = Err(io::ErrorKind::PermissionDenied);
        let writing = mapping.begin(CpuAccess::Write).expect("begun");
        assert_eq!(kind(writing.read_at(0, &mut [0])), denied);
        assert_eq!(kind(writing.is_zero().map(drop)), denied);
        writing.fill(7).expect("writable");
        writing.end().expect("ended");
        let reading = mapping.begin(CpuAccess::Read).expect("begun");
        assert_eq!(kind(reading.write_at(0, &[1])), denied);
        assert_eq!(kind(reading.fill(1)), denied);
        let mut last = [0];
        reading.read_at(7999, &mut last).expect("inside");
        assert_eq!(last, [7]);
        assert_eq!(kind(reading.read_at(8000, &mut last)), Err(io::ErrorKind::InvalidInput));
    }

    #[test]
    fn a_read_only_mapping_is_not_written() {
        let mapping = Mapping::new(memfd(), 8192, Access::ReadOnly).expect("mapped");
        for access in [CpuAccess::Write, CpuAccess::ReadWrite] {
            let error = mapping.begin(access).expect_err("read-only");
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
        assert!(mapping.begin(CpuAccess::Read).expect("begun").is_zero().expect("readable"));
    }

    #[test]
    fn shared_memory_is_not_told_and_costs_no_descriptor() {
        let mut mapping = Mapping::new(memfd(), 4096, Access::ReadWrite).expect("mapped");
        assert!(mapping.told.is_none());
        // A file of unknown kind gets the ioctl, and ENOTTY means that it needs none.
        mapping.told = Some(memfd());
        mapping.begin(CpuAccess::ReadWrite).expect("begun").end().expect("ended");
    }

    #[test]
    fn the_address_is_that_of_the_memory() {
        let mapping = Mapping::new(memfd(), 8192, Access::ReadWrite).expect("mapped");
        // No machine has smaller pages.
        assert!(mapping.as_ptr().addr().get() % 4096 == 0);
    }
}
